# shellcheck shell=bash
# What only some tests need: registries, names of Services, figures for `kubectl top` and HPAs, a second machine.

readonly EXTRAS=(registry locked-registry coredns metrics node2)

# An extra is told by the name of its process, but for these. One that is there already is left as it is.
add_extra() {
  case $1 in
    node2) [[ -z $(first_process node2) ]] || return 0 ;;
    metrics) [[ -z $(process_of node1 metrics-server) ]] || return 0 ;;
    *) [[ " ${EXTRAS[*]} " != *" $1 "* || -z $(process_of node1 "$1") ]] || return 0 ;;
  esac
  case $1 in
    registry | locked-registry | coredns)
      start_component node1 "$1"
      await_component node1 "$1"
      ;;
    metrics)
      start_component node1 metrics-server
      await_component node1 metrics-server
      ;;
    node2) add_second_machine ;;
    *) fail "there is no extra $1; there are: ${EXTRAS[*]}" ;;
  esac
}

start_extra() {
  case $1 in
    registry | locked-registry) start_registry "$1" ;;
    coredns)
      inside node1 tee /run/node/Corefile >/dev/null <<CONFIG
.:53 {
  errors
  kubernetes cluster.local {
    kubeconfig $KEYS/admin.kubeconfig
    ttl 1
  }
}
CONFIG
      launch node1 coredns -conf /run/node/Corefile
      service_outside kube-system kube-dns 53 dns 'clusterIP: 10.30.0.10' | kubectl apply --server-side --filename - >/dev/null
      ;;
    metrics-server)
      launch node1 metrics-server "${AS_ADMIN[@]}" --secure-port=4443 --cert-dir=/run/node/metrics-server \
        --kubelet-certificate-authority="$KEYS/ca.crt" --kubelet-preferred-address-types=InternalIP \
        --metric-resolution=10s --kubelet-request-timeout=5s
      aggregate metrics.k8s.io v1beta1 4443
      ;;
    *) fail "there is no component $1" ;;
  esac
}

extra_healthy() {
  case $1 in
    registry) ask node1 http://127.0.0.1:5000/v2/ ;;
    locked-registry) ask node1 --user "$REGISTRY_USER" http://127.0.0.1:5001/v2/ ;;
    coredns) network node1 python3 -c "$DNS_QUERY" ;;
    metrics-server) [[ $(api /apis/metrics.k8s.io/v1beta1/nodes) == *'"usage"'* ]] ;;
    *) return 1 ;;
  esac
}

# Answered by whoever serves names: the address of the API server's Service.
readonly DNS_QUERY='
import socket
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ask.settimeout(1)
name = b"".join(bytes([len(part)]) + part for part in b"kubernetes.default.svc.cluster.local".split(b"."))
ask.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\1\0\1", ("10.30.0.10", 53))
assert socket.inet_aton("10.30.0.1") in ask.recv(512)
'

# For images that need a password. Nothing that is worth one is there.
readonly REGISTRY_USER=user:secret
# The same, as docker-registry wants it: bcrypt.
readonly REGISTRY_HASH='user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a'

start_registry() {
  local port=5000
  if [[ $1 == locked-registry ]]; then
    port=5001
    inside node1 tee /run/node/htpasswd >/dev/null <<<"$REGISTRY_HASH"
  fi
  inside node1 tee "/run/node/$1.yaml" >/dev/null <<CONFIG
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: /var/lib/$1}, delete: {enabled: true}}
http: {addr: ":$port"}
$([[ $1 == locked-registry ]] && echo 'auth: {htpasswd: {realm: tests, path: /run/node/htpasswd}}')
CONFIG
  launch node1 "$1" serve "/run/node/$1.yaml"
}

# service_outside NAMESPACE NAME PORT KIND [SPEC]: a Service for what runs as a process on the first machine.
service_outside() {
  local namespace=$1 name=$2 port=$3 ports
  ports="[{name: main, port: $port, protocol: TCP}]"
  [[ $4 == dns ]] && ports="[{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]"
  cat <<OBJECTS
apiVersion: v1
kind: Service
metadata: {name: $name, namespace: $namespace}
spec: {ports: $ports${5:+, $5}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: $name-outside, namespace: $namespace, labels: {kubernetes.io/service-name: $name}}
addressType: IPv4
endpoints: [{addresses: [10.10.0.2], conditions: {ready: true}}]
ports: $ports
---
OBJECTS
}

# aggregate GROUP VERSION PORT: requests for that API go to what listens there on the first machine, by TLS. That may
# be a program that `run` starts.
aggregate() {
  local name=${1//./-}
  {
    service_outside kube-system "$name" "$3" api
    cat <<OBJECTS
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: $2.$1}
spec:
  group: $1
  version: $2
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {namespace: kube-system, name: $name, port: $3}
OBJECTS
  } | kubectl apply --server-side --filename - >/dev/null
}

# Two machines, joined by a link whose ends are in their networks. Each knows the way to the other's Pods.
add_second_machine() {
  [[ -z $(first_process node2) ]] || fail 'node2 is running'
  start_machine node2
  local other
  other=$(first_process node2)
  network node1 ip link add to2 type veth peer name to1 netns "$other"
  join node1 to2 node2
  join node2 to1 node1
  local name
  for name in "${WORKER[@]}"; do start_component node2 "$name"; done
  import_pause node2
  for name in "${WORKER[@]}"; do await_component node2 "$name"; done
  wait_until 60 'node2 is not ready' "$(log_of node2 kubelet)" node_ready node2
}

# join NODE LINK OTHER
join() {
  network "$1" ip link set "$2" up
  network "$1" ip route replace "$(address "$3")/32" dev "$2" src "$(address "$1")"
  network "$1" ip route replace "$(pod_range "$3")" via "$(address "$3")" dev "$2" onlink
}
