#!/usr/bin/env bash
#
# Builds target/watchdog/nanofaas-watchdog: the watchdog in a small static binary, for function images, and for the folder of a
# server. A server uses it when both were built from the same sources.
#
#   ./deploy/watchdog.sh
#
# Needs a C compiler to link, and Rust's musl target (added with rustup when missing).

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

architecture=$(rustc -vV | sed -n 's/^host: \([^-]*\)-.*/\1/p')
platform=$architecture-unknown-linux-musl
target=$PWD/${CARGO_TARGET_DIR:-target}
[[ ${CARGO_TARGET_DIR:-} == /* ]] && target=$CARGO_TARGET_DIR

[[ -d $(rustc --print sysroot)/lib/rustlib/$platform ]] || rustup target add "$platform" >&2
cargo build --quiet --profile small --locked -p nanofaas-watchdog --target "$platform"
mkdir -p "$target/watchdog"
cp "$target/$platform/small/nanofaas-watchdog" "$target/watchdog/"
printf 'done: target/watchdog/nanofaas-watchdog, %d bytes\n' "$(stat -c %s "$target/watchdog/nanofaas-watchdog")" >&2
