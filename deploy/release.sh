#!/usr/bin/env bash
#
# Builds the fast release: target/pgo/nanofaas, the release build optimised with a profile of itself at work (PGO), and beside
# it nanofaas-watchdog, which deploy/watchdog.sh makes. It is the same program with the same behaviour; only the compiler
# knows better which way its branches go.
#
#   ./deploy/release.sh
#
# Three release builds, so some ten minutes on two cores. Needs curl, and llvm-tools of the Rust toolchain in use
# (added with rustup when missing). Everything goes below target/; servers are started on free loopback ports, and ended.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Of each kind of call. Longer runs change nothing: the counts only have to be in proportion.
readonly SECONDS_EACH=${SECONDS_EACH:-4}

target=$PWD/${CARGO_TARGET_DIR:-target}
[[ ${CARGO_TARGET_DIR:-} == /* ]] && target=$CARGO_TARGET_DIR
work=$target/pgo
pids=()

main() {
  trap end EXIT
  local profdata
  profdata=$(find_profdata)
  rm -rf "$work/raw"
  mkdir -p "$work"

  say 'building the load generator'
  cargo build --release --quiet -p loadtest
  say 'building the server that counts'
  RUSTFLAGS="-Cprofile-generate=$work/raw" \
    cargo build --release --quiet --bin nanofaas --target-dir "$work/counting"
  say 'calling it'
  train "$work/counting/release/nanofaas" "$target/release/loadtest"
  "$profdata" merge -o "$work/profile" "$work/raw"
  say 'building the server'
  # Of code that no call has reached the compiler would warn, function by function.
  RUSTFLAGS="-Cprofile-use=$work/profile -Cllvm-args=-pgo-warn-missing-function=false" \
    cargo build --release --quiet --bin nanofaas --target-dir "$work/build"
  cp "$work/build/release/nanofaas" "$work/nanofaas"
  ./deploy/watchdog.sh
  cp "$target/watchdog/nanofaas-watchdog" "$work/nanofaas-watchdog"
  say "done: ${work#"$PWD/"}/nanofaas"
}

say() { printf '%s\n' "$*" >&2; }

find_profdata() {
  local tool
  tool=$(rustc --print target-libdir)/../bin/llvm-profdata
  [[ -x $tool ]] || rustup component add llvm-tools >&2
  [[ -x $tool ]] || { say "llvm-profdata is missing: rustup component add llvm-tools"; exit 1; }
  printf '%s\n' "$tool"
}

# train SERVER LOADTEST: calls of every kind, in the proportion in which they should be fast.
train() {
  local server=$1 loadtest=$2 api endpoint
  "$loadtest" static --body '{"ok":true,"n":42}' >"$work/endpoint.log" 2>&1 &
  pids+=($!)
  NANOFAAS_WORKERS=1 NANOFAAS_RATE_MAX_PER_SECOND=100000000 NANOFAAS_ASYNC_QUEUE_ENABLED=true \
    "$server" serve --ephemeral --port 0 --management-port 0 2>"$work/server.log" &
  pids+=($!)
  endpoint=$(wait_for "$work/endpoint.log" 's/.*serving on \(http[^ ]*\).*/\1/p')
  api=http://$(wait_for "$work/server.log" 's/.*"message":"serving","api":"\([^"]*\)".*/\1/p')
  register "$api" '{"name":"pool","executionMode":"POOL","endpointUrl":"'"$endpoint"'/invoke","concurrency":1000,"queueSize":10000}'
  register "$api" '{"name":"local","executionMode":"LOCAL","concurrency":1000,"queueSize":10000}'
  call() { "$loadtest" run --endpoint "$api" --duration "${SECONDS_EACH}s" --warm-up 0s --json "$@" >/dev/null; }
  call --function pool -c 32 -d '{"input":{"text":"hello world","n":42}}'
  call --function pool -c 1 -d '{"input":{"text":"hello world","n":42}}'
  call --function local -c 32 -d '{"input":{"text":"hello world","n":42}}'
  call --function pool -c 32 --mode async
  call --function pool -c 32 --mode raw -H 'Content-Type: text/plain' -d 'hello world'
  # The profile is written when the process ends by itself.
  kill "${pids[1]}"
  wait "${pids[1]}"
}

register() {
  curl --fail --silent --show-error --output /dev/null -H 'Content-Type: application/json' -d "$2" "$1/v1/functions"
}

# wait_for FILE SED-SCRIPT: what a process says of itself when it is ready.
wait_for() {
  local found
  for ((i = 0; i < 200; i++)); do
    found=$(sed -n "$2" "$1" | head -1)
    [[ -n $found ]] && { printf '%s\n' "$found"; return; }
    sleep 0.1
  done
  say "did not start:"
  cat "$1" >&2
  exit 1
}

end() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
}

main "$@"
