#!/usr/bin/env bash
#
# The tests that every backend passes, with the Kubernetes backend in a real cluster, which is up for as long as they run,
# and those of a server in it, which break the cluster. Both servers have the rights that the chart gives, and no others.
# Exit code 77: this machine cannot run one. Arguments go to the tests.

set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE IMAGE=localhost/replica:1 JOBS=localhost/job:1
cd "$HERE/../.."

# In the cluster's network there is no way out, so everything is built before.
if [[ ${1:-} != --inside ]]; then
  cargo test --no-run --test backends --test it
  cargo build --package nanofaas-watchdog
  exec "$HERE/cluster.sh" run --with registry,locked-registry "$HERE/conformance.sh" --inside "$@"
fi
shift
folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT
cc -Os -static -Wall -Wextra -Werror -o "$folder/replica" "$HERE/replica.c" -lpthread
"$HERE/cluster.sh" image "$IMAGE" "$folder/replica"
# What jobs are made of: the watchdog, and programs for it to run.
target=${CARGO_TARGET_DIR:-target}
"$HERE/cluster.sh" image "$JOBS" "$target/debug/nanofaas-watchdog,/bin/sh,/bin/sleep,/bin/cat,/usr/bin/wc,/usr/bin/tail"
# shellcheck source=SCRIPTDIR/parts/account.sh
. "$HERE/parts/account.sh"
make_account "$folder"
export NANOFAAS_TEST_IMAGE=$IMAGE NANOFAAS_TEST_JOB_IMAGE=$JOBS NANOFAAS_TEST_ACCOUNT=$folder/account
cargo test --offline --test backends cluster:: -- --test-threads=4 "$@"
cargo test --offline --test it kubernetes:: -- --test-threads=1 --skip machines:: "$@"
"$HERE/cluster.sh" add node2
"$HERE/cluster.sh" image "$IMAGE" "$folder/replica"
cargo test --offline --test it kubernetes::machines:: -- "$@"
