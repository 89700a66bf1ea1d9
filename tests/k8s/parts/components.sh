# shellcheck shell=bash
# The components: how each is configured, started, asked whether it is well, and ended.

# What runs on the first machine, in the order of the start, and on every other.
readonly CONTROL=(etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)
readonly WORKER=(containerd kubelet kube-proxy)
readonly START_SECONDS_MAX=120

# full_name NAME: `apiserver` is kube-apiserver.
full_name() {
  case $1 in
    apiserver | controller-manager | scheduler | proxy) printf 'kube-%s' "$1" ;;
    *) printf '%s' "$1" ;;
  esac
}

log_of() { printf '%s/%s/log/%s.log' "$DIR" "$1" "$2"; }

# Path of what is executed, as it is inside.
program_of() {
  case $1 in
    containerd) type -P containerd ;;
    registry | locked-registry) type -P docker-registry ;;
    *) printf '/run/bin/%s' "$1" ;;
  esac
}

# launch NODE NAME ARGUMENT…: starts it and comes back at once.
launch() {
  local node=$1 name=$2 process program
  shift 2
  process=$(first_process "$node")
  [[ $process ]] || fail "$node is not running"
  [[ -z $(process_of "$node" "$name") ]] || fail "$name is running on $node"
  program=$(program_of "$name")
  # A session of its own: whoever ends the group of this script, such as Ctrl-C, does not end the cluster in passing.
  # Disowned: its end is no news of this script's. The variable is for `process_of`: two components may execute the same program.
  setsid nsenter --target "$process" --mount --net --pid --uts --ipc -- \
    env -i PATH=/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/node COMPONENT="$name" \
    "$program" "$@" >>"$(log_of "$node" "$name")" 2>&1 </dev/null 8>&- 9>&- &
  disown
}

# process_of NODE NAME: its number as seen from here, or nothing.
process_of() {
  local first process program command
  first=$(first_process "$1")
  [[ $first ]] || return 0
  program=$(program_of "$2")
  for process in $(pgrep --ns "$first" --nslist pid || true); do
    { IFS= read -r -d '' command <"/proc/$process/cmdline"; } 2>/dev/null || continue
    [[ $command == "$program" ]] || continue
    if grep --quiet --null-data --line-regexp "COMPONENT=$2" "/proc/$process/environ" 2>/dev/null; then
      printf '%s\n' "$process"
      return 0
    fi
  done
}

start_component() {
  local node=$1 name=$2
  case $name in
    etcd)
      launch "$node" etcd --data-dir=/var/lib/etcd --log-level=warn --unsafe-no-fsync \
        --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
        --listen-peer-urls=http://127.0.0.1:2380
      ;;
    containerd)
      configure_containerd "$node"
      launch "$node" containerd --config /run/node/containerd.toml
      ;;
    kube-apiserver) start_apiserver ;;
    kube-controller-manager)
      # As admin: with an account for each controller the first Pod is possible three seconds later. Times are short, so
      # that tests of scaling and of a lost machine end soon. With its default of 20 requests a second a thousand new
      # Deployments would keep it from others for minutes.
      launch "$node" "$name" "${AS_ADMIN[@]}" --leader-elect=false \
        --service-account-private-key-file="$KEYS/service-account.key" --root-ca-file="$KEYS/ca.crt" \
        --flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins --feature-gates=HPAScaleToZero=true \
        --kube-api-qps=1000 --kube-api-burst=1000 \
        --horizontal-pod-autoscaler-sync-period=5s --horizontal-pod-autoscaler-downscale-stabilization=10s \
        --horizontal-pod-autoscaler-cpu-initialization-period=10s \
        --horizontal-pod-autoscaler-initial-readiness-delay=5s --node-monitor-grace-period=20s
      ;;
    kube-scheduler)
      local config=$KEYS/system-kube-scheduler.kubeconfig
      launch "$node" "$name" --leader-elect=false --kubeconfig="$config" --authentication-kubeconfig="$config" \
        --authorization-kubeconfig="$config"
      ;;
    kubelet)
      configure_kubelet "$node"
      launch "$node" kubelet --config=/run/node/kubelet.yaml --kubeconfig="$KEYS/system-node-$node.kubeconfig" \
        --hostname-override="$node" --node-ip="$(address "$node")"
      ;;
    kube-proxy)
      configure_proxy "$node"
      launch "$node" kube-proxy --config=/run/node/proxy.yaml --hostname-override="$node"
      ;;
    *) start_extra "$name" ;;
  esac
}

readonly KEYS=/run/cluster/keys
readonly AS_ADMIN=(--kubeconfig="$KEYS/admin.kubeconfig" --authentication-kubeconfig="$KEYS/admin.kubeconfig"
  --authorization-kubeconfig="$KEYS/admin.kubeconfig")

# Who asked what is recorded of service accounts, so of servers with the rights that the chart gives: NODE/log/audit.log, one
# JSON document per request and stage. Nothing of what the cluster asks itself.
start_apiserver() {
  inside node1 tee /run/node/audit.yaml >/dev/null <<'POLICY'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
  - {level: Metadata, userGroups: ["system:serviceaccounts"]}
POLICY
  launch node1 kube-apiserver --etcd-servers=http://127.0.0.1:2379 --service-cluster-ip-range="$SERVICES" \
    --advertise-address=10.10.0.2 --secure-port=6443 --tls-cert-file="$KEYS/apiserver.crt" \
    --tls-private-key-file="$KEYS/apiserver.key" --client-ca-file="$KEYS/ca.crt" --token-auth-file="$KEYS/tokens.csv" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$KEYS/service-account.pub" \
    --service-account-signing-key-file="$KEYS/service-account.key" \
    --kubelet-client-certificate="$KEYS/apiserver-kubelet.crt" --kubelet-client-key="$KEYS/apiserver-kubelet.key" \
    --kubelet-certificate-authority="$KEYS/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$KEYS/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --proxy-client-cert-file="$KEYS/front-proxy.crt" \
    --proxy-client-key-file="$KEYS/front-proxy.key" --enable-aggregator-routing=true --profiling=false \
    --shutdown-delay-duration=0s --feature-gates=HPAScaleToZero=true --audit-policy-file=/run/node/audit.yaml \
    --audit-log-path="/run/cluster/node1/log/audit.log"
}

# The optional parts of containerd that are left out want kernel modules or write outside of /run and /var.
configure_containerd() {
  inside "$1" mkdir -p /run/node/cni /run/node/registries/registry:5000 /run/node/registries/registry:5001
  # Machines may lack the right to make processes harder to kill, and then every Pod hangs in ContainerCreating without
  # restrict_oom_score_adj.
  inside "$1" tee /run/node/containerd.toml >/dev/null <<'CONFIG'
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
disable_tcp_service = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/run/node/cni"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/run/node/registries"
CONFIG
  local port
  for port in 5000 5001; do
    # Without this it would ask by TLS. The section is empty, but a file without one is not accepted.
    printf 'server = "http://registry:%s"\n[host."http://registry:%s"]\n' "$port" "$port" |
      inside "$1" tee "/run/node/registries/registry:$port/hosts.toml" >/dev/null
  done
  # Addresses that are given out are noted in memory: after `down` none counts as taken.
  inside "$1" tee /run/node/cni/10-bridge.conflist >/dev/null <<CONFIG
{
  "cniVersion": "1.0.0", "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "ranges": [[{"subnet": "$(pod_range "$1")"}]], "dataDir": "/run/cni-ipam",
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
CONFIG
}

configure_kubelet() {
  # Thresholds of 0 %: on a full disk it would delete images that nobody can pull again, and drive Pods away.
  inside "$1" tee /run/node/kubelet.yaml >/dev/null <<CONFIG
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $KEYS/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $KEYS/$1.crt
tlsPrivateKeyFile: $KEYS/$1.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$(cgroup "$1")
failSwapOn: false
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%", imagefs.inodesFree: "0%"}
nodeStatusUpdateFrequency: 2s
volumePluginDir: /var/lib/kubelet/volume-plugins
resolvConf: /run/node/resolv.conf
clusterDNS: [10.30.0.10]
clusterDomain: cluster.local
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 10s}
CONFIG
}

configure_proxy() {
  # minSyncPeriod: its default of one second leaves a Service without its new Pod for that long.
  inside "$1" tee /run/node/proxy.yaml >/dev/null <<CONFIG
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.20.0.0/16
clientConnection: {kubeconfig: $KEYS/system-kube-proxy.kubeconfig}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 10ms}
iptables: {minSyncPeriod: 10ms}
CONFIG
}

# network NODE COMMAND…: with that machine's network only, so that files and the folder stay the caller's.
network() {
  local process
  process=$(first_process "$1")
  [[ $process ]] || fail "$1 is not running"
  nsenter --target "$process" --net -- "${@:2}"
}

ask() { network "$1" curl --silent --fail --max-time 2 --noproxy '*' "${@:2}"; }

# api PATH
api() {
  ask node1 --cacert "$DIR/keys/ca.crt" --header "Authorization: Bearer $(token admin)" "https://127.0.0.1:6443$1"
}

healthy() {
  case $2 in
    etcd) ask "$1" http://127.0.0.1:2379/health ;;
    containerd) inside "$1" ctr --connect-timeout 1s version ;;
    kube-apiserver) api /readyz ;;
    kube-controller-manager) ask "$1" --insecure https://127.0.0.1:10257/healthz ;;
    kube-scheduler) ask "$1" --insecure https://127.0.0.1:10259/healthz ;;
    kubelet) ask "$1" http://127.0.0.1:10248/healthz ;;
    kube-proxy) ask "$1" http://127.0.0.1:10249/healthz ;;
    *) extra_healthy "$2" ;;
  esac >/dev/null 2>&1
}

# Waits until it is well; one that has ended is not waited for.
await_component() {
  local node=$1 name=$2 start=$SECONDS seen=
  until healthy "$node" "$name"; do
    if [[ $(process_of "$node" "$name") ]]; then
      seen=yes
    elif [[ $seen ]] || ((SECONDS - start > 5)); then
      broken "$name on $node has ended" "$(log_of "$node" "$name")"
    fi
    ((SECONDS - start < START_SECONDS_MAX)) ||
      broken "$name on $node is not well after $START_SECONDS_MAX s" "$(log_of "$node" "$name")"
    sleep 0.05
  done
}

has_ended() { [[ -z $(process_of "$1" "$2") ]]; }

# signal_component NODE NAME SIGNAL: and waits for its end, if that is what the signal means.
signal_component() {
  local process
  process=$(process_of "$1" "$2")
  [[ $process ]] || fail "$2 is not running on $1"
  kill "-$3" "$process"
  case $3 in
    KILL | TERM | INT) wait_until 30 "$2 does not end" "$(log_of "$1" "$2")" has_ended "$1" "$2" ;;
  esac
}
