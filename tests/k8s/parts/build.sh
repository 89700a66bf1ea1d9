# shellcheck shell=bash
# The binaries: built once per machine from the module in kubebox/, and kept outside the work tree.
#
# What they are kept under is a digest of all that decides what comes out, so a folder that is there is right and
# complete: it gets its name only when everything is in it. Two builds of the same at a time are one: the second waits.

readonly MODULE=$HERE/kubebox
readonly CACHE=${NANOFAAS_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nanofaas}
readonly KUBERNETES=1.34.4 HELM=3.19.5
readonly PACKAGES=3000 # roughly, for the progress lines
readonly BUILD_SECONDS_MAX=5400 BUILD_MIB=5500

build_flags() {
  local info='' package
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    info+=" -X $package.gitVersion=v$KUBERNETES -X $package.gitMajor=1 -X $package.gitMinor=34"
    info+=" -X $package.gitTreeState=clean -X $package.buildDate=2026-01-01T00:00:00Z"
  done
  # Without DWARF the build cache is a fifth smaller.
  printf '%s\n' -mod=readonly -trimpath -p 2 -gcflags=all=-dwarf=false \
    -ldflags "-s -w$info -X helm.sh/helm/v3/internal/version.version=v$HELM"
}

# The folder of the binaries, whether it is there or not.
binaries() {
  local digest
  digest=$({
    cd "$MODULE" || exit
    cat go.mod go.sum main.go tools.go coredns/main.go
    go env GOVERSION GOARCH
    build_flags
  } | sha256sum)
  printf '%s/kubebox-%s\n' "$CACHE" "${digest:0:16}"
}

require_go() {
  type -P go >/dev/null || skip 'Go 1.24 or newer is missing, with which the binaries of the cluster are built'
  local version
  version=$(GOTOOLCHAIN=local go env GOVERSION)
  [[ $version =~ ^go1\.([0-9]+) ]] || skip "this Go has a version that is not known: $version"
  ((BASH_REMATCH[1] >= 24)) ||
    skip "the cluster's binaries are built with Go 1.24 or newer, and this is $version"
}

# Prints nothing when the binaries are there already.
build() {
  require_go
  local bin
  bin=$(binaries)
  [[ -e $bin ]] && return 0
  mkdir -p "$CACHE"
  local lock
  exec {lock}>"$bin.lock"
  if ! flock --nonblock "$lock"; then
    say "another build of the cluster's binaries is running; waiting for it ($bin.log)"
    flock --timeout "$BUILD_SECONDS_MAX" "$lock" || fail "it was not done within $BUILD_SECONDS_MAX s"
  fi
  [[ -e $bin ]] || build_anew "$bin"
  exec {lock}>&-
  # Only now: who waits for the lock has no use for it.
  rm -rf "$bin.work"
}

build_anew() {
  local bin=$1 work=$1.work log=$1.log started=$SECONDS flags=()
  mapfile -t flags < <(build_flags)
  local free
  free=$(df --output=avail --block-size=1M "$CACHE" | tail -1)
  ((free >= BUILD_MIB)) || fail "the build needs $BUILD_MIB MiB in $CACHE, and $free are free"
  say "building Kubernetes $KUBERNETES, once for this machine: 6 to 20 minutes, into $bin"
  # What a killed build left is continued: its compiler, which may have gone on, held the lock.
  mkdir -p "$work/tmp"
  : >"$log"
  # The second try is for downloads that failed: what was done is kept for it.
  compile || compile || {
    tail -20 "$log" >&8
    rm -rf "$work"
    fail "the build of the cluster's binaries failed ($log)"
  }
  local name
  for name in etcd kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics-server; do
    ln -sf kubebox "$work/bin/$name"
  done
  mv "$work/bin" "$bin"
  say "built in $((SECONDS - started)) s"
}

# With caches of its own, 4 GB that nothing else would ever use again.
compile() {
  local code=0 shown=$SECONDS packages build
  (
    cd "$MODULE" || exit
    exec env CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS='-buildvcs=false -modcacherw' GOTMPDIR="$work/tmp" \
      GOCACHE="$work/cache" GOMODCACHE="$work/modules" \
      timeout --kill-after=10 "$BUILD_SECONDS_MAX" \
      nice -n 19 go build -v "${flags[@]}" -o "$work/bin/" . ./coredns helm.sh/helm/v3/cmd/helm
  ) >>"$log" 2>&1 </dev/null 8>&- 9>&- &
  build=$!
  # `timeout` is the head of a process group, and ends all compilers with itself.
  trap 'kill "$build" 2>/dev/null || true; exit 130' INT TERM HUP
  while kill -0 "$build" 2>/dev/null; do
    sleep 1
    ((SECONDS - shown < 60)) && continue
    shown=$SECONDS
    packages=$(grep --count --invert-match '^go: ' "$log" || true)
    say "$(((SECONDS - started) / 60)) min: $packages of about $PACKAGES packages"
  done
  wait "$build" || code=$?
  trap - INT TERM HUP
  return "$code"
}
