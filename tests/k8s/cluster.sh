#!/usr/bin/env bash
#
# A real Kubernetes cluster for tests, on this machine: see README.md beside this file.
#
# Everything of a cluster is in its run directory and in namespaces of its own, so several can run side by side, and
# `down` leaves nothing. Nothing is sent to any address outside of these namespaces.

# shellcheck source-path=SCRIPTDIR disable=SC2317 # all is called by main, after which nothing is read
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE

usage() {
  cat <<'USAGE'
usage: cluster.sh [--dir DIR] COMMAND

  build                  make the binaries, unless this machine has them
  binaries               the same for any machine with Go, and print their folder
  up [--with A,B]        start the cluster, with extras: registry, locked-registry, coredns, metrics, node2
  down [--keep]          end it and remove its run directory; --keep: its state stays for the next `up`
  status                 what runs, and the memory that it takes; exit code 3 if the cluster is down
  kubectl ARGUMENT…      as administrator
  helm ARGUMENT…         the same
  run [--with A,B] PROGRAM…
                         in the cluster's network, with KUBECONFIG set: reaches the API, Pods, Services and registries.
                         If the cluster is down, it is up for as long as the program runs, and its exit code is the
                         program's. Without a DIR that is a cluster of its own
  inside NODE PROGRAM…   with everything of that machine, for a look around
  image NAME PROGRAM…    make an image of one program and its arguments, and give it to every machine
  load FILE              give the image in that file, of `docker save` or deploy/image.sh, to every machine
  push NAME TARGET       push an image to a registry: TARGET is registry:5000/… or registry:5001/…
  add EXTRA              add one of the extras to a running cluster
  aggregate GROUP VERSION PORT
                         send requests for that API to what listens on that port in the cluster's network, with TLS
  kill COMPONENT [NODE] [SIGNAL]
                         KILL unless another signal is named (STOP, CONT, TERM); node2 is a component too
  start COMPONENT [NODE] start what was killed, and wait until it is well
  cut api|node2|ADDRESS  lose all packets from and to it, without a word; the API only for what `run` starts
  heal [WHAT]            end that, or all of it
  reuse [NODE]           let the next Pod have the lowest address that is free
  logs COMPONENT [NODE]  what it has printed

DIR is NANOFAAS_CLUSTER_DIR, or nanofaas-cluster in the folder for temporary files; programs that `run` starts find
theirs in NANOFAAS_CLUSTER_DIR. DIR/kubeconfig is the administrator's, good in the cluster's network. Components: etcd, apiserver, controller-manager, scheduler, kubelet,
proxy, containerd, registry, locked-registry, coredns, metrics-server. Exit code 77: this machine cannot run it.
USAGE
}

# Not to >&2: when a signal comes, its trap runs with the redirections of the command that it interrupts.
exec 8>&2
say() { printf 'cluster: %s\n' "$*" >&8; }

fail() {
  say "$*"
  exit 1
}

# For machines that cannot run the cluster: whoever tests can tell that from a failure.
skip() {
  say "cannot run here: $*"
  exit 77
}

# broken MESSAGE LOG
broken() {
  say "$1; the last lines of $2:"
  tail -n 20 "$2" 2>/dev/null | cut -c1-400 | sed 's/^/  /' >&8 || true
  exit 1
}

# wait_until SECONDS MESSAGE LOG COMMAND…
wait_until() {
  local seconds=$1 message=$2 log=$3 end=$((SECONDS + $1))
  shift 3
  until "$@"; do
    ((SECONDS < end)) || broken "$message (waited for $seconds s)" "$log"
    sleep 0.05
  done
}

# shellcheck source=parts/build.sh
. "$HERE/parts/build.sh"
# shellcheck source=parts/machine.sh
. "$HERE/parts/machine.sh"
# shellcheck source=parts/keys.sh
. "$HERE/parts/keys.sh"
# shellcheck source=parts/components.sh
. "$HERE/parts/components.sh"
# shellcheck source=parts/extras.sh
. "$HERE/parts/extras.sh"
# shellcheck source=parts/faults.sh
. "$HERE/parts/faults.sh"
# shellcheck source=parts/run.sh
. "$HERE/parts/run.sh"

main() {
  local command
  CHOSEN=${NANOFAAS_CLUSTER_DIR:-}
  if [[ ${1:-} == --dir && ${2:-} ]]; then
    CHOSEN=$2
    shift 2
  fi
  command=${1:-help}
  (($# == 0)) || shift
  set_folder "${CHOSEN:-${TMPDIR:-/tmp}/nanofaas-cluster}"
  case $command in
    build) require_kernel && build ;;
    binaries) build && binaries ;;
    up | down | add) alone "$command" "$@" ;;
    status | kubectl | helm | run | image | load | push | aggregate | logs | heal | reuse) "$command" "$@" ;;
    cut) cut_off "$@" ;;
    inside) inside "${@:?}" ;;
    kill) kill_component "$@" ;;
    start) start_again "$@" ;;
    help | --help | -h) usage ;;
    *)
      usage >&2
      exit 64
      ;;
  esac
}

set_folder() {
  DIR=$(realpath --canonicalize-missing -- "$1")
  [[ $DIR =~ ^/[A-Za-z0-9._/-]+$ ]] || fail "the run directory may have no other characters than A-Z a-z 0-9 . _ - / : $DIR"
  BIN=$DIR/bin
}

# One at a time for a run directory. The lock is that of the folder itself, which `down` removes. Waiting for it is for
# what a killed one had called, and what still holds it for a moment.
alone() {
  mkdir -p "$DIR"
  exec 9<"$DIR"
  flock --timeout 10 9 || fail "another \`up\`, \`down\` or \`add\` of $DIR is running"
  trap 'rmdir "$DIR" 2>/dev/null || true' EXIT
  "$@"
}

up() {
  local extras=() extra
  if [[ ${1:-} == --with ]]; then IFS=, read -ra extras <<<"${2:?}"; fi
  require_machine
  if is_up; then
    say "is up already in $DIR"
  else
    [[ -e $DIR/.cluster || -z $(ls -A "$DIR") ]] || fail "$DIR is no run directory of a cluster, and not empty"
    touch "$DIR/.cluster"
    end_all
    build
    BIN=$(binaries)
    ln -sfn "$BIN" "$DIR/bin"
    trap 'down_after_failure $?' EXIT
    trap 'exit 130' INT TERM HUP
    start_cluster
    touch "$DIR/up"
  fi
  for extra in "${extras[@]}"; do add "$extra"; done
  trap - EXIT INT TERM HUP
}

is_up() { [[ -e $DIR/up && $(first_process node1) ]]; }

start_cluster() {
  local began=$EPOCHREALTIME since='' name
  [[ -e $DIR/node1/var/lib/etcd ]] && since=$(date --utc +%FT%TZ)
  make_keys
  [[ -e $DIR/pause ]] || cc -Os -static -o "$DIR/pause" "$HERE/pause.c"
  start_machine node1
  for name in etcd containerd kube-apiserver; do start_component node1 "$name"; done
  import_pause node1
  for name in etcd kube-apiserver; do await_component node1 "$name"; done
  say "the API answers, $(after "$began")"
  for name in kube-controller-manager kube-scheduler kubelet kube-proxy; do start_component node1 "$name"; done
  for name in "${CONTROL[@]}"; do await_component node1 "$name"; done
  # On kept state the node is said to be ready before its kubelet has come back. A new one is not, and takes its first
  # lease seconds later.
  [[ -z $since ]] ||
    wait_until 60 'the kubelet does not renew its lease' "$(log_of node1 kubelet)" node_renewed node1 "$since"
  wait_until 60 'node1 is not ready' "$(log_of node1 kubelet)" node_ready node1
  say "the node is ready, $(after "$began")"
  wait_until 60 'there is no account for Pods' "$(log_of node1 kube-controller-manager)" account_is_there
  say "Pods can be created, $(after "$began") ($DIR)"
}

after() { awk -v began="$1" -v now="$EPOCHREALTIME" 'BEGIN { printf "after %.1f s", now - began }'; }

node_ready() {
  api "/api/v1/nodes/$1" | python3 -c 'import json, sys
conditions = json.load(sys.stdin)["status"].get("conditions", [])
sys.exit(("Ready", "True") not in [(each["type"], each["status"]) for each in conditions])' 2>/dev/null
}

# node_renewed NODE SINCE
node_renewed() {
  local lease
  lease=$(api "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/$1") || return 1
  [[ $lease =~ \"renewTime\":\ ?\"([^\"]+)\" && ! ${BASH_REMATCH[1]} < $2 ]]
}

account_is_there() {
  { api /api/v1/namespaces/default/serviceaccounts/default &&
    api /api/v1/namespaces/default/configmaps/kube-root-ca.crt; } >/dev/null
}

down_after_failure() {
  trap - EXIT
  say "is not up; the logs stay in $DIR/node1/log"
  end_all
  exit "$1"
}

down() {
  if [[ -e $DIR/.cluster ]]; then
    [[ ${1:-} == --keep ]] && end_gently
    end_all
    [[ ${1:-} == --keep ]] || rm -rf "$DIR"
  else
    # Its folder may have been removed while it ran.
    end_all
    # `alone` has made it. Or it is not ours.
    rmdir "$DIR" 2>/dev/null || fail "$DIR is no run directory of a cluster"
  fi
}

# etcd is told first, if the state is to be used again: it writes without waiting for the disk.
end_gently() {
  [[ -z $(process_of node1 etcd) ]] || signal_component node1 etcd TERM
}

end_all() {
  rm -f "$DIR/up"
  # The second first: its link ends at the first.
  stop_machine node2
  stop_machine node1
}

# Before a build as well: it would be for nothing.
require_kernel() {
  [[ $(uname -s) == Linux ]] || skip 'it needs Linux'
  ((EUID == 0)) || skip 'it needs root'
  [[ $(</proc/self/uid_map) =~ ^\ *0\ +0\ +4294967295$ ]] || skip 'it needs the root of the machine, not of a user namespace'
  unshare --mount --net --pid --fork --kill-child true 2>/dev/null || skip 'namespaces cannot be made here (unshare)'
  cgroups_can_be_made || skip 'cgroups cannot be made here'
  [[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]] || skip 'the kernel module br_netfilter is not loaded'
}

require_machine() {
  require_kernel
  [[ $DIR/ != /run/* && $DIR/ != /var/* ]] || fail "the run directory cannot be in /run or /var: $DIR"
  local need packages=()
  for need in containerd:containerd runc:runc iptables:iptables nft:nftables docker-registry:docker-registry \
    unshare:util-linux ip:iproute2 curl:curl openssl:openssl pgrep:procps python3:python3 cc:gcc; do
    type -P "${need%%:*}" >/dev/null || packages+=("${need##*:}")
  done
  [[ -x /usr/lib/cni/bridge ]] || packages+=(containernetworking-plugins)
  [[ " ${packages[*]} " == *' gcc '* ]] && packages+=(libc6-dev)
  if ((${#packages[@]} > 0)); then
    type -P apt-get >/dev/null || skip "missing, and there is no apt-get to install it: ${packages[*]}"
    say "installing with apt-get: ${packages[*]}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 \
      --no-install-recommends "${packages[@]}"; } </dev/null >"$DIR.apt.log" 2>&1 8>&- 9>&- ||
      { tail "$DIR.apt.log" >&8; skip "apt-get cannot install ${packages[*]}"; }
    rm -f "$DIR.apt.log"
  fi
}

status() {
  local node name process memory total=0
  [[ $(first_process node1) ]] || { say "is down ($DIR)"; exit 3; }
  for node in node1 node2; do
    [[ $(first_process "$node") ]] || continue
    for name in "${CONTROL[@]}" registry locked-registry coredns metrics-server; do
      [[ $node == node1 || " ${WORKER[*]} " == *" $name "* ]] || continue
      process=$(process_of "$node" "$name")
      if [[ $process ]]; then
        memory=$(awk '/^Pss:/ { print int($2 / 1024) }' "/proc/$process/smaps_rollup")
        total=$((total + memory))
        printf '%s %-24s %8d %5d MiB %s\n' "$node" "$name" "$process" "$memory" \
          "$(healthy "$node" "$name" && echo well || echo 'NOT WELL')"
      elif [[ " ${CONTROL[*]} " == *" $name "* ]]; then
        printf '%s %-24s is not running\n' "$node" "$name"
      fi
    done
  done
  printf 'in all, without Pods: %d MiB\n' "$total"
  [[ -e $DIR/up ]] || say "its start was interrupted: run \`up\` or \`down\`"
}

kubectl() { in_network env KUBECONFIG="$DIR/keys/admin.kubeconfig" "$DIR/bin/kubectl" "$@"; }

helm() { in_network env KUBECONFIG="$DIR/keys/admin.kubeconfig" "$DIR/bin/helm" "$@"; }

# nodes: those that run.
nodes() {
  local node
  for node in node1 node2; do [[ -z $(first_process "$node") ]] || printf '%s\n' "$node"; done
}

image() {
  (($# >= 2)) || fail 'image needs a name and a program'
  local file=$DIR/image.$$.tar
  [[ -f ${2%%,*} ]] || fail "there is no program ${2%%,*}"
  python3 "$HERE/image.py" "$@" >"$file"
  load "$file" "$1"
  rm -f "$file"
}

# load FILE [WHAT IT IS]
load() {
  local node
  [[ -f ${1:-} ]] || fail 'load needs the file of an image'
  for node in $(nodes); do
    inside "$node" ctr --namespace k8s.io images import - <"$1" >>"$(log_of "$node" images)" 2>&1 ||
      broken "${2:-$1} cannot be imported" "$(log_of "$node" images)"
  done
}

import_pause() {
  wait_until 30 "containerd does not answer" "$(log_of "$1" containerd)" healthy "$1" containerd
  python3 "$HERE/image.py" localhost/pause:1 "$DIR/pause" |
    inside "$1" ctr --namespace k8s.io images import - >>"$(log_of "$1" images)" 2>&1 ||
    broken 'the image of the pause program cannot be imported' "$(log_of "$1" images)"
}

push() {
  (($# == 2)) || fail 'push needs the name of an image, and where to'
  local user=()
  [[ $2 == registry:5001/* ]] && user=(--user "$REGISTRY_USER")
  inside node1 ctr --namespace k8s.io images push --plain-http "${user[@]}" "$2" "$1" >>"$(log_of node1 images)" 2>&1 ||
    broken "$1 cannot be pushed" "$(log_of node1 images)"
}

add() { add_extra "$1"; }

logs() {
  local file
  file=$(log_of "${2:-node1}" "$(full_name "${1:?logs of which component}")")
  [[ -e $file ]] || fail "there is no $file"
  cat "$file"
}

kill_component() {
  local name signal=KILL node=node1 argument
  name=$(full_name "${1:?kill which component}")
  for argument in "${@:2}"; do
    case $argument in node*) node=$argument ;; *) signal=$argument ;; esac
  done
  case $name in
    node*) stop_machine "$name" ;;
    *) signal_component "$node" "$name" "$signal" ;;
  esac
}

start_again() {
  local name node=${2:-node1}
  name=$(full_name "${1:?start which component}")
  case $name in
    node2) alone add_second_machine ;;
    *)
      start_component "$node" "$name"
      await_component "$node" "$name"
      ;;
  esac
}

# On one line, for the file may change while this runs.
main "$@"; exit
