# shellcheck shell=bash
# The machines of the cluster: namespaces of their own (mounts, network, processes, names), with a pause program as the
# first process. When that ends, everything in them ends, and their mounts, addresses and links are gone with them.
#
# Inside, /run is a file system in memory (/run/cluster the run directory, /run/bin the binaries), /var lies in the run
# directory, and the network has no way out: addresses of the cluster are routed, all others are unreachable at once.

readonly SERVICES=10.30.0.0/16

# address NODE, pod_range NODE
address() { printf '10.10.0.%d' $((${1#node} + 1)); }
pod_range() { printf '10.20.%d.0/24' $((${1#node} - 1)); }

# The machine's first process as seen from here, or nothing. By what it executes, not by a file with its number: a
# script that was killed has written none, and a number is given again. The file may have been removed since.
first_process() {
  { find /proc -maxdepth 2 -name exe \( -lname "$DIR/$1/pause" -o -lname "$DIR/$1/pause (deleted)" \) 2>/dev/null || true; } |
    sed 's|/proc/\(.*\)/exe|\1|;q'
}

# inside NODE COMMAND…: with everything of that machine.
inside() {
  local process
  process=$(first_process "$1")
  [[ $process ]] || fail "$1 is not running"
  nsenter --target "$process" --mount --net --pid --uts --ipc -- "${@:2}"
}

machine_is_there() { [[ $(first_process "$1") ]]; }

start_machine() {
  local node=$1 dir=$DIR/$1
  mkdir -p "$dir"/{run,log,var/{lib,log,tmp}}
  ln -sfn /run "$dir/var/run"
  # Not written over: it may be what a process executes that is about to end.
  rm -f "$dir/pause"
  cp "$DIR/pause" "$dir/pause"
  make_cgroups "$node"
  setsid unshare --mount --net --pid --uts --ipc --fork --kill-child --mount-proc "$dir/pause" \
    </dev/null >"$dir/log/machine.log" 2>&1 8>&- 9>&- &
  disown
  wait_until 10 "$node does not start" "$dir/log/machine.log" machine_is_there "$node"
  inside "$node" bash -euc "$(declare -f prepare_mounts prepare_network); prepare_mounts \"\$@\"; prepare_network \"\$@\"" \
    - "$node" "$dir" "$DIR" "$BIN" "$(address "$node")" "$SERVICES" >>"$dir/log/machine.log" 2>&1 ||
    broken "$node cannot be prepared" "$dir/log/machine.log"
}

# Runs inside.
prepare_mounts() {
  local node=$1 dir=$2 cluster=$3 bin=$4 setting value
  mount -t tmpfs -o mode=755 tmpfs "$dir/run"
  mkdir "$dir"/run/{cluster,bin,lock,node,settings}
  mount --bind "$cluster" "$dir/run/cluster"
  mount --bind "$bin" "$dir/run/bin"
  mount --rbind "$dir/run" /run
  mount --bind "$dir/var" /var
  printf 'nameserver 127.0.0.1\n' >/run/node/resolv.conf
  printf '%s\n' '127.0.0.1 localhost' '::1 localhost' '10.10.0.2 node1 registry' '10.10.0.3 node2' >/run/node/hosts
  mount --bind /run/node/resolv.conf /etc/resolv.conf
  mount --bind /run/node/hosts /etc/hosts
  hostname "$node"
  # The kubelet wants these values, and would set them for the real machine. Here it finds that they are in order.
  while read -r setting value; do
    [[ -e /proc/sys/$setting ]] || continue
    printf '%s\n' "$value" >"/run/settings/${setting//\//.}"
    mount --bind "/run/settings/${setting//\//.}" "/proc/sys/$setting"
  done <<'SETTINGS'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SETTINGS
  # Last: mounts that are bound twice above would otherwise show each new mount of a Pod in each of their places.
  mount --make-rshared /
}

# Runs inside. A link whose both ends are here takes the place of a network card.
prepare_network() {
  local address=$5 services=$6
  ip link set lo up
  ip link add node0 type veth peer name node0p
  ip addr add "$address/32" dev node0
  ip link set node0 up
  ip link set node0p up
  # No default route. The addresses of Services are never sent anywhere, but without a route there is no packet that
  # kube-proxy's rules could turn around.
  ip route add "$services" dev node0
  echo 1 >/proc/sys/net/ipv4/ip_forward
  echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
}

# What the kubelet of a machine puts its Pods under: two kubelets in one would delete each other's.
cgroup() { printf 'nanofaas-%s-%s' "$(sha256sum <<<"$DIR" | cut -c1-8)" "$1"; }

cgroups_can_be_made() {
  local root=/sys/fs/cgroup
  [[ -e $root/cgroup.controllers ]] || root+=/memory
  { mkdir "$root/nanofaas-$$" && rmdir "$root/nanofaas-$$"; } 2>/dev/null
}

make_cgroups() {
  local root=/sys/fs/cgroup name hierarchy
  name=$(cgroup "$1")
  if [[ -e $root/cgroup.controllers ]]; then
    mkdir -p "$root/$name"
    sed 's/[^ ]*/+&/g' "$root/cgroup.controllers" >"$root/cgroup.subtree_control"
    return 0
  fi
  for hierarchy in "$root"/*/; do
    mkdir -p "$hierarchy$name"
    if [[ -e $hierarchy$name/cpuset.cpus ]]; then
      cat "${hierarchy}cpuset.cpus" >"$hierarchy$name/cpuset.cpus"
      cat "${hierarchy}cpuset.mems" >"$hierarchy$name/cpuset.mems"
    fi
  done
}

cgroups_left() { find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$(cgroup "$1")" 2>/dev/null; }

remove_cgroups() {
  local left
  mapfile -t left < <(cgroups_left "$1")
  ((${#left[@]} > 0)) || return 0
  # Depth first. One whose last process is just ending is still busy.
  find "${left[@]}" -depth -type d -exec rmdir {} + 2>/dev/null || true
  [[ -z $(cgroups_left "$1") ]]
}

machine_is_gone() {
  [[ -z $(first_process "$1") ]] && ! pgrep --full --exact "unshare .* $DIR/$1/pause" >/dev/null
}

# What `run` has started in the network of that machine, and what came of it, but for those that this script is part of.
end_guests() {
  local ancestor=$BASHPID ancestors=' ' process
  # Not yet in a network of its own: then it has no guests, and everything here is in the same.
  [[ $(readlink "/proc/$1/ns/net") != "$(readlink /proc/1/ns/net)" ]] || return 0
  while ((ancestor > 1)); do
    ancestors+="$ancestor "
    ancestor=$(awk '/^PPid:/ { print $2 }' "/proc/$ancestor/status")
  done
  for process in $(pgrep --ns "$1" --nslist net || true); do
    [[ $ancestors == *" $process "* || $process == "$1" ]] || kill -KILL "$process" 2>/dev/null || true
  done
}

stop_machine() {
  local node=$1 process
  process=$(first_process "$node")
  [[ -z $process ]] || end_guests "$process"
  # The starter before it has become the pause program, when a script is killed at the wrong moment: it ends its child.
  [[ $process ]] || process=$(pgrep --full --exact "unshare .* $DIR/$node/pause" || true)
  # shellcheck disable=SC2086 # one or more
  [[ -z $process ]] || kill -KILL $process 2>/dev/null || true
  wait_until 30 "$node does not end" /dev/null machine_is_gone "$node"
  wait_until 10 "cgroups of $node cannot be removed" /dev/null remove_cgroups "$node"
}
