#!/usr/bin/env bash
#
# Builds the container image without a container engine: target/image/nanofaas.tar, an OCI image that `docker load`,
# `podman load`, `ctr images import` and `skopeo copy oci-archive:…` read.
#
#   ./deploy/image.sh [NAME]        the image, called localhost/nanofaas:VERSION unless it is named
#   ./deploy/image.sh --files        only what is in it, below target/image: the Dockerfile uses this
#
# In it are the server and the watchdog, both static, and the roots of https. Nothing else: no shell, no libraries. Needs
# musl-gcc (Debian's musl-tools: ring and mimalloc have C code), Rust's musl target (added with rustup when missing), the
# roots of this machine (Debian's ca-certificates), and Python for the image.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly ROOTS=/etc/ssl/certs/ca-certificates.crt

architecture=$(rustc -vV | sed -n 's/^host: \([^-]*\)-.*/\1/p')
platform=$architecture-unknown-linux-musl
target=$PWD/${CARGO_TARGET_DIR:-target}
[[ ${CARGO_TARGET_DIR:-} == /* ]] && target=$CARGO_TARGET_DIR
image=$target/image

main() {
  local name=${1:-localhost/nanofaas:$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)}
  type -P musl-gcc >/dev/null || fail 'musl-gcc is missing: apt-get install musl-tools'
  [[ -s $ROOTS ]] || fail "$ROOTS is missing: apt-get install ca-certificates"
  [[ -d $(rustc --print sysroot)/lib/rustlib/$platform ]] || rustup target add "$platform" >&2
  # Words of CARGO_FLAGS are for whoever tries the image out: a release without link-time optimisation is built in half
  # the time.
  # shellcheck disable=SC2086
  cargo build --quiet --release --locked --bin nanofaas --target "$platform" ${CARGO_FLAGS:-}
  ./deploy/watchdog.sh
  lay_out
  [[ $name == --files ]] && return
  python3 deploy/image.py "$name" "$image/files" >"$image/nanofaas.tar"
  say "done: target/image/nanofaas.tar, $(stat -c %s "$image/nanofaas.tar") bytes, $name"
}

lay_out() {
  rm -rf "$image"
  mkdir -p "$image/files/usr/local/bin" "$image/files/etc/ssl/certs" "$image/data"
  cp "$target/$platform/release/nanofaas" "$target/watchdog/nanofaas-watchdog" "$image/files/usr/local/bin/"
  cp "$ROOTS" "$image/files/etc/ssl/certs/"
  local program
  for program in "$image"/files/usr/local/bin/*; do
    # A loader would be looked for in vain.
    ! readelf --program-headers --wide "$program" | grep --quiet INTERP || fail "$program is not static"
  done
}

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

main "$@"
