# shellcheck shell=bash
# Faults of the network, as the first machine and all that `run` starts there see them. Packets vanish, in both
# directions and in open connections as well; nobody is told. Each cut is a table of its own.

# cut_off api | node2 | ADDRESS
cut_off() {
  local addresses rule='ip saddr { %s } drop; ip daddr { %s } drop'
  case ${1:-} in
    # Only what `run` starts goes there: the cluster itself, and `kubectl` of this script, use other addresses.
    api) addresses=$GUESTS_API ;;
    node2) addresses="$(address node2), $(pod_range node2)" ;;
    *) addresses=${1:?cut what} ;;
  esac
  [[ $addresses =~ ^[0-9./,\ ]+$ ]] || fail "there is nothing called $1 to be cut: api, node2, or an address"
  heal_one "$(cut_name "$1")"
  rule=${rule//%s/$addresses}
  # After addresses of Services have been replaced, too: what goes to a Service is to vanish with its Pod.
  network node1 nft --file - <<RULES
table ip $(cut_name "$1") {
  chain in { type filter hook prerouting priority -400; $rule; }
  chain out { type filter hook postrouting priority 400; $rule; }
}
RULES
}

cut_name() { printf 'cut_%s' "${1//\//_}"; }

heal_one() { network node1 nft delete table ip "$1" 2>/dev/null || true; }

# heal [WHAT]: all, if nothing is named.
heal() {
  local table
  if [[ ${1:-} ]]; then
    heal_one "$(cut_name "$1")"
    return
  fi
  for table in $(network node1 nft list tables ip | awk '$3 ~ /^cut_/ { print $3 }'); do heal_one "$table"; done
}

# reuse [NODE]: the next Pod there gets the lowest address that is free, and so perhaps one that a Pod has just had. Else
# all others have their turn first.
reuse() { inside "${1:-node1}" rm -f /run/cni-ipam/pods/last_reserved_ip.0; }
