#!/usr/bin/env bash
# Builds target/prime-count, unless it is newer than its source.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")"
[[ target/prime-count -nt main.rs ]] && exit 0
mkdir -p target
exec rustc -O --edition 2024 -o target/prime-count main.rs
