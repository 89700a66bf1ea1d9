//go:build tools

// Keeps helm, which is built from this module as a program of its own, in go.mod.
package main

import _ "helm.sh/helm/v3/cmd/helm"
