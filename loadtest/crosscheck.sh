#!/usr/bin/env bash
#
# Measures `loadtest static` with loadtest and with wrk, in turns, and shows how far they are apart.
# Usage: crosscheck.sh [ROUNDS] [SECONDS] [CONNECTIONS]. Works from any directory; without wrk it shows loadtest alone.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-3} seconds=${2:-4} connections=${3:-64}
cargo build --release --quiet -p loadtest
loadtest=target/release/loadtest

coproc server { exec "$loadtest" static; }
server_pid=$server_PID
trap 'kill "$server_pid"' EXIT
read -r _ _ url <&"${server[0]}"

field() { sed -n "s/^ *\"$1\": \([0-9.]*\),*$/\1/p" | head -1; }

printf '%-10s %12s %12s\n' '' requests/s 'CPU µs/request'
for _ in $(seq "$rounds"); do
  summary=$("$loadtest" run --url "$url" -c "$connections" --duration "${seconds}s" --json)
  printf '%-10s %12.0f %12.1f\n' loadtest \
    "$(field throughput_per_s <<<"$summary")" "$(sed -n '/"harness"/,$p' <<<"$summary" | field cpu_us_per_answer)"
  if command -v wrk >/dev/null; then
    { TIMEFORMAT='cpu %U %S'; time wrk -t1 -c"$connections" -d"${seconds}s" "$url"; } 2>&1 |
      awk '/requests in/ { requests = $1 } /^Requests\/sec/ { rate = $2 } /^cpu/ { cpu = $2 + $3 }
           END { printf "%-10s %12.0f %12.1f\n", "wrk", rate, cpu * 1e6 / requests }'
  fi
done
command -v wrk >/dev/null || echo 'wrk is not installed: nothing to compare with'
