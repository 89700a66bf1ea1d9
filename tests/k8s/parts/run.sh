# shellcheck shell=bash
# Programs in the cluster's network, and clusters that live as long as one program.

# In the place of this script, so that signals reach the program. What clients keep of the API stays in the run directory.
in_network() {
  local process
  process=$(first_process node1)
  [[ $process ]] || fail "is down: start it with \`up\` ($DIR)"
  exec nsenter --target "$process" --net -- env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY \
    NANOFAAS_CLUSTER_DIR="$DIR" KUBECONFIG="$DIR/kubeconfig" KUBECACHEDIR="$DIR/cache" HELM_CACHE_HOME="$DIR/cache/helm" \
    HELM_CONFIG_HOME="$DIR/cache/helm" HELM_DATA_HOME="$DIR/cache/helm" "$@" 8>&-
}

run() {
  local extras=
  if [[ ${1:-} == --with ]]; then
    extras=${2:?}
    shift 2
  fi
  (($# > 0)) || fail 'run needs a program'
  is_up || run_once "$extras" "$@"
  [[ -z $extras ]] || up --with "$extras"
  in_network "$@"
}

# run_once EXTRAS PROGRAM…: does not come back.
#
# Whatever ends this script ends the cluster. After a SIGKILL it is a second process that does it, which waits all the
# time for a lock that this one holds, and then for an `up` that has heard of its parent's end.
run_once() {
  local extras=$1 code=0
  shift
  [[ $CHOSEN ]] || set_folder "$(mktemp --directory "${TMPDIR:-/tmp}/nanofaas-cluster-XXXXXX")"
  CHILD=
  exec 7>"$DIR.runner"
  flock --nonblock 7 || fail "another \`run\` has started the cluster in $DIR, and will end it"
  trap end_run EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  setsid flock "$DIR.runner" bash -c 'until "$1" --dir "$2" down; do sleep 1; done; rm -f "$2.runner"' - "$HERE/cluster.sh" "$DIR" \
    </dev/null >/dev/null 2>&1 7>&- 8>&- &
  WATCHER=$!
  child "$HERE/cluster.sh" --dir "$DIR" up ${extras:+--with "$extras"} || exit
  child "$HERE/cluster.sh" --dir "$DIR" run "$@" || code=$?
  exit "$code"
}

# In the background, so that a signal to this script is heard at once; and told when this script has ended.
child() {
  local code=0
  setpriv --pdeathsig TERM "$@" <&0 7>&- 8>&- &
  CHILD=$!
  wait "$CHILD" || code=$?
  CHILD=
  return "$code"
}

end_run() {
  local code=$?
  trap '' INT TERM HUP
  if [[ $CHILD ]]; then
    kill "$CHILD" 2>/dev/null || true
    # What does not end within this time ends with the cluster.
    timeout 10 tail --pid="$CHILD" --follow /dev/null || true
  fi
  "$HERE/cluster.sh" --dir "$DIR" down 7>&- || code=1
  kill "$WATCHER" 2>/dev/null || true
  rm -f "$DIR.runner"
  exit "$code"
}
