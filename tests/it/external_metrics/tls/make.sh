#!/usr/bin/env bash
# Makes the certificates of these tests anew: make.sh, in this folder.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# authority FILE: signs others.
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=$1 authority" \
        -keyout "$work/$1-authority.key" -out "$work/$1-authority.crt"
}
# signed FILE AUTHORITY NAME USE: a certificate with its key.
signed() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -new -subj "/O=nanofaas/CN=$3" \
        -keyout "$work/$1.key" -out "$work/$1.csr"
    printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=%s\n' "$4" > "$work/extensions"
    openssl x509 -req -in "$work/$1.csr" -CA "$work/$2-authority.crt" -CAkey "$work/$2-authority.key" -CAcreateserial -days 36500 \
        -extfile "$work/extensions" -out "$work/$1.crt"
    cat "$work/$1.crt" "$work/$1.key" > "$1.pem"
}
for name in server proxies strange; do authority $name; done
for name in server proxies; do cp "$work/$name-authority.crt" "$name-authority.pem"; done
signed server server server serverAuth
signed proxy proxies front-proxy-client clientAuth
signed other proxies somebody-else clientAuth
signed stranger strange front-proxy-client clientAuth
