#!/usr/bin/env bash
#
# Runs every test, and installs what they need when it is missing (apt-get; needs root or sudo then).
#
# One line per step; what a step printed is shown only when it failed, and then nothing else is run. Each step has a
# time limit and ends with everything that it started. One that this machine cannot run is skipped, and the last lines
# say so and why. Needs a Rust toolchain; reads nothing from its standard input.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly STEPS=17 CANNOT_RUN=77
log=$(mktemp) # what the current step prints
step=0
running=
building=
summary=()
total=0
skipped=0

main() {
  trap end EXIT
  trap 'exit 130' INT TERM HUP
  require_rust
  install_missing
  build_cluster
  local binary before
  binary=$(target_folder)/debug/nanofaas
  before=$(processes "$binary")
  # All but the simulator's own tests are of one build: those need a core that can be broken on purpose, and with the
  # whole workspace in one command every other crate would be built a second time for it.
  run 1800 'build'                      cargo test --no-run --workspace --exclude shard-sim
  run  600 'tests'                      cargo test --workspace --exclude shard-sim
  run  600 'simulations'                cargo test --package shard-sim
  run  600 'crashes'                    cargo test --test crashes
  run  600 'black box, split placement' env NANOFAAS_PLACEMENT=split cargo test --test it
  run  600 'real browser'               cargo test --test browser
  run  300 'generated client'           python3 tests/openapi_client.py
  run  300 'benchmarks, once each'      cargo test --bench '*'
  run  600 'example functions'          python3 examples/functions/check.py
  # Through the binary, not `cargo run`: it is the process that a time limit has to end.
  run  300 'demo'                       "$binary" demo --once --port 0 --management-port 0
  # Has run since the beginning; here it is waited for.
  run 2400 'kubernetes, built'          tests/k8s/cluster.sh build
  building=
  run  120 'chart'                      python3 tests/chart/check.py "$binary"
  run  600 'kubernetes cluster'         python3 tests/k8s/smoke.py
  run  900 'kubernetes backend'         tests/k8s/conformance.sh
  run  300 'kubernetes chart'           tests/k8s/cluster.sh run --with coredns tests/k8s/chart.py "$binary"
  run  600 'kubernetes under load'      tests/k8s/cluster.sh run --with node2 tests/k8s/load.py --server "$binary"
  run   60 'nothing is left behind'     process_check "$before" "$binary"
  local but=
  ((skipped == 0)) || but=", but for $skipped that this machine cannot run"
  printf '\nall %d steps passed%s\n' "$STEPS" "$but"
  printf '  %s\n' "${summary[@]}"
  printf '%d passed, 0 failed, %d skipped\n' "$total" "$skipped"
}

# The first time on a machine it takes 7 minutes of processor time, which nothing else is to miss.
build_cluster() {
  nice -n 19 tests/k8s/cluster.sh build >/dev/null 2>&1 </dev/null &
  building=$!
}

# run SECONDS NAME COMMAND…
run() {
  local limit=$1 name=$2 start=$SECONDS code=0
  shift 2
  step=$((step + 1))
  printf '[%d/%d] %-28s ' "$step" "$STEPS" "$name"
  if [[ $(type -t "$1") == function ]]; then
    "$@" >"$log" 2>&1 </dev/null || code=$?
  else
    # In the background, so that a signal to this script is heard at once and passed on by `end`. `timeout` is the head
    # of a process group of its own and ends all of it.
    timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 </dev/null &
    running=$!
    wait "$running" || code=$?
    running=
  fi
  local took=$((SECONDS - start))
  if ((code == 0)); then
    local passed
    passed=$(counts)
    summary+=("$(printf '%-28s %s' "$name" "$passed")")
    if [[ $passed =~ ^([0-9]+)\ passed ]]; then total=$((total + BASH_REMATCH[1])); fi
    printf 'ok, %d s\n' "$took"
    return
  fi
  if ((code == CANNOT_RUN)); then
    local reason
    reason="skipped: $(sed -n 's/.*cannot run here: //p' "$log" | tail -n 1)"
    skipped=$((skipped + 1))
    summary+=("$(printf '%-28s %s' "$name" "$reason")")
    printf '%s\n' "$reason"
    return
  fi
  printf 'FAILED after %d s\n\n' "$took"
  cat "$log"
  ((code == 124 || code == 137)) && printf '\nit was not done within %d s' "$limit"
  printf '\nstep %d of %d failed: %s (%s), exit code %d\n' "$step" "$STEPS" "$name" "$1 …" "$code"
  exit 1
}

# What the step's own last words say: tests that passed, or nothing.
counts() {
  awk '/^test result: ok/ { passed += $4; seen = 1 } /^[0-9]+ passed, 0 failed$/ { passed += $1; seen = 1 }
    END { if (seen) print passed " passed"; else print "ok" }' "$log"
}

require_rust() {
  command -v cargo >/dev/null && return
  echo 'cargo is missing: install a Rust toolchain (https://rustup.rs), then run this again' >&2
  exit 1
}

# Command and Debian package of everything that the build and the tests call.
install_missing() {
  local packages=() need
  for need in faketime:faketime cc:gcc python3:python3 node:nodejs setsid:util-linux kill:procps timeout:coreutils \
    chromium:chromium; do
    type -P "${need%%:*}" >/dev/null || packages+=("${need##*:}")
  done
  python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
  # The linker needs the C library's headers and start files, which gcc only recommends.
  [[ " ${packages[*]} " == *' gcc '* ]] && packages+=(libc6-dev)
  ((${#packages[@]} == 0)) && return
  local as_root=()
  ((EUID == 0)) || as_root=(sudo)
  if ! type -P apt-get >/dev/null || { ((EUID != 0)) && ! type -P sudo >/dev/null; }; then
    echo "missing, and cannot be installed from here: ${packages[*]}" >&2
    exit 1
  fi
  echo "installing with apt-get: ${packages[*]}"
  "${as_root[@]}" apt-get update -qq </dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 \
    --no-install-recommends "${packages[@]}" </dev/null >"$log" 2>&1 || {
    cat "$log"
    exit 1
  }
}

target_folder() {
  cargo metadata --format-version 1 --no-deps --offline |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'
}

# Processes of the binary that these tests build: servers, watchdogs, replicas.
processes() {
  find /proc -maxdepth 2 -name exe -lname "$1*" 2>/dev/null | sort || true
}

# process_check BEFORE BINARY: nothing runs that did not run before.
process_check() {
  local left
  left=$(comm -13 <(printf '%s\n' "$1") <(processes "$2"))
  [[ -z $left ]] || { echo "still running: $left"; return 1; }
}

end() {
  [[ -z $running ]] || kill "$running" 2>/dev/null || true
  [[ -z $building ]] || kill "$building" 2>/dev/null || true
  rm -f "$log"
}

main "$@"
