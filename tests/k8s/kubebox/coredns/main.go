// CoreDNS with the three plugins that the tests need: with all of them it is several times as large.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
)

func main() {
	dnsserver.Directives = []string{"errors", "loadbalance", "kubernetes"}
	coremain.Run()
}
