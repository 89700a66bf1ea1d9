#!/usr/bin/env bash
#
# Measures what docs/performance.md reports, on this machine, with nothing else running: about an hour.
#
#   loadtest/targets.sh target/release/nanofaas RESULTS [STEP…]
#
# Steps: latency (what the server adds to a direct call), steady (ten minutes at 70 % of saturation, a function in the server),
# steady_pool (the same with a function behind an endpoint), both followed by two minutes of the same calls to a server that does
# nothing, which shows what the machine itself adds; durable (enqueued calls with and without a store), growth, scaling. The server
# is on core 0, the load generator and the endpoint that it serves are on core 1, unless a step says otherwise. Results go to
# RESULTS/STEP; exit code 1 when a goal was missed. Comparison with nginx needs other programs and is not here.

set -euo pipefail

readonly BINARY=$(realpath "$1")
readonly RESULTS=$2
shift 2
readonly STEPS=("${@:-latency steady steady_pool durable growth scaling}")
readonly BODY='{"input":{"text":"hello world","n":42}}'
missed=0
pids=()
SERVE=(--ephemeral)

main() {
  trap stop EXIT
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  cargo build --release --quiet -p loadtest
  local folder=${CARGO_TARGET_DIR:-target}
  loadtest=$(realpath "$folder/release/loadtest")
  mkdir -p "$RESULTS"
  for step in ${STEPS[*]}; do
    printf '\n== %s\n' "$step"
    "$step" || { missed=1; printf 'goal missed: %s\n' "$step"; }
  done
  exit "$missed"
}

# At one connection one of client, server and function works while the others wait. On one core they hand it to each other; on two, every
# hop has to wake a core that sleeps, and what that takes is the machine's affair: it is shown and not judged.
latency() {
  local core code=0
  for core in 1 0; do
    start POOL "$core"
    taskset -c 1 "$loadtest" peers direct="$endpoint/invoke" nanofaas="$api/v1/functions/echo:invoke" \
      --pid nanofaas="$server" -c 1 -d "$BODY" -H 'Content-Type: application/json' --rounds 7 --seconds 3 --json \
      >"$RESULTS/latency.core-$core.json"
    stop
  done
  python3 - "$RESULTS"/latency.core-{1,0}.json <<'PYTHON' | tee "$RESULTS/latency.txt" || code=1
import json, sys

print(f"{'server on':<24}{'':>6}{'direct':>10}{'through it':>12}{'added':>8}{'goal':>7}")
missed = False
for place, file, goals in zip(["the client's core", "a core of its own"], sys.argv[1:], [(60, 150), (None, None)]):
    direct, through = (target["median"] for target in json.load(open(file)))
    for name, goal in zip(["p50", "p99"], goals):
        before, after = (1000 * figures[f"{name}_ms"] for figures in (direct, through))
        print(f"{place:<24}{name:>6}{before:>7.0f} µs{after:>9.0f} µs{after - before:>5.0f} µs{goal or '-':>7}")
        missed |= goal is not None and after - before > goal
    errors = direct["error_rate"] + through["error_rate"]
    missed |= errors > 0
    if errors:
        print(f"{place:<24}calls failed")
sys.exit(missed)
PYTHON
  return "$code"
}

steady() { hold steady LOCAL; }

steady_pool() { hold steady_pool POOL; }

# hold STEP MODE: finds the saturation, then stays below it.
hold() {
  local results=$RESULTS/$1 saturation code=0
  start "$2"
  taskset -c 1 "$loadtest" saturate --endpoint "$api" --function echo -d "$BODY" --p99-ms 20 --start 10000 --seconds 4 \
    --precision 0.03 -c 256 --json >"$results.saturation.json"
  saturation=$(sed -n 's/.*"saturation_per_s": *\([0-9.]*\).*/\1/p' "$results.saturation.json" | head -1)
  printf 'saturation: %s calls/s\n' "$saturation"
  taskset -c 1 "$loadtest" run loadtest/scenarios/steady.toml --endpoint "$api" --saturation "$saturation" \
    --pid "$server" --out "$results" | tee "$results.txt" || code=1
  stop
  printf '\nthe same calls to a server that does nothing:\n'
  serve_nothing 0 '{"executionId":"x","status":"success","output":{"ok":true,"n":42}}'
  taskset -c 1 "$loadtest" run loadtest/scenarios/steady.toml --endpoint "$endpoint" --saturation "$saturation" \
    --out "$results.control" --warm-up 5s --duration 2m | tee "$results.control.txt" || true
  stop
  return "$code"
}

growth() {
  local code=0
  for place in local pool; do
    "$loadtest" growth --binary "$BINARY" --functions-in "$place" --rounds 60 --seconds 1 --warm-up 1s \
      --out "$RESULTS/growth-$place" | tee "$RESULTS/growth-$place.txt" || code=1
  done
  return "$code"
}

scaling() {
  "$loadtest" scaling --binary "$BINARY" | tee "$RESULTS/scaling.txt"
}

# Enqueued calls, their executions included: what a core can do with the records in memory and on disk, in turns; then 30 000 per
# second for half a minute on disk.
durable() {
  local round code=0 data
  data=$(mktemp -d)
  for round in 1 2 3; do
    start LOCAL
    enqueue "$RESULTS/durable.memory.$round" --duration 5s
    stop
    SERVE=(--data-dir "$data/$round")
    start LOCAL
    enqueue "$RESULTS/durable.disk.$round" --duration 5s
    stop
    SERVE=(--ephemeral)
  done
  SERVE=(--data-dir "$data/steady")
  start LOCAL
  enqueue "$RESULTS/durable.steady" --duration 30s --rate 30000 --threshold p99_ms=20 --threshold error_rate=0 || code=1
  stop
  SERVE=(--ephemeral)
  rm -r "$data"
  return "$code"
}

# enqueue RESULTS FLAG…
enqueue() {
  taskset -c 1 "$loadtest" run --url "$api/v1/functions/echo:enqueue" -X POST -H 'Content-Type: application/json' -d "$BODY" \
    -c 512 --warm-up 3s --pid "$server" --out "$@" | tee "$1.txt"
}

# start MODE [CORE]: a server with one worker and one function, echo, that answers at once; `SERVE` has flags of its own.
start() {
  serve_nothing 1 '{"ok":true,"n":42}'
  NANOFAAS_WORKERS=1 NANOFAAS_RATE_MAX_PER_SECOND=100000000 NANOFAAS_ASYNC_QUEUE_ENABLED=true taskset -c "${2:-0}" \
    "$BINARY" serve "${SERVE[@]}" --port 0 --management-port 0 2>"$RESULTS/server.log" &
  server=$!
  pids+=("$server")
  api=http://$(wait_for "$RESULTS/server.log" 's/.*"message":"serving","api":"\([^"]*\)".*/\1/p')
  curl --fail --silent --show-error --output /dev/null -H 'Content-Type: application/json' "$api/v1/functions" \
    -d '{"name":"echo","executionMode":"'"$1"'","endpointUrl":"'"$endpoint"'/invoke","concurrency":1000,"queueSize":10000}'
}

# serve_nothing CORE BODY: sets `endpoint` to a server that answers everything at once.
serve_nothing() {
  taskset -c "$1" "$loadtest" static --body "$2" >"$RESULTS/endpoint.log" 2>&1 &
  pids+=($!)
  endpoint=$(wait_for "$RESULTS/endpoint.log" 's/.*serving on \(http[^ ]*\).*/\1/p')
}

stop() {
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  pids=()
}

# wait_for FILE SED-SCRIPT: what a process says of itself when it is ready.
wait_for() {
  local found
  for ((i = 0; i < 200; i++)); do
    found=$(sed -n "$2" "$1" | head -1)
    [[ -n $found ]] && { printf '%s\n' "$found"; return; }
    sleep 0.1
  done
  printf 'did not start:\n' >&2
  cat "$1" >&2
  exit 1
}

main
