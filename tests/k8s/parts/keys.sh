# shellcheck shell=bash
# Certificates, tokens and kubeconfigs, made once for a run directory.

make_keys() {
  local keys=$DIR/keys node user
  [[ -e $keys/complete ]] && return 0
  rm -rf "$keys"
  mkdir -p "$keys"
  (
    cd "$keys"
    umask 077
    authority ca
    authority front-proxy-ca
    certificate ca apiserver /CN=kube-apiserver serverAuth \
      "IP:127.0.0.1,IP:$GUESTS_API,IP:10.10.0.2,IP:10.30.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    certificate ca apiserver-kubelet /O=system:masters/CN=kube-apiserver clientAuth
    certificate front-proxy-ca front-proxy /CN=front-proxy clientAuth
    # One for each machine with its address: without it `kubectl logs` and `exec` are refused.
    for node in node1 node2; do
      certificate ca "$node" "/CN=$node" serverAuth "IP:$(address "$node"),DNS:$node"
    done
    new_key service-account
    openssl pkey -in service-account.key -pubout -out service-account.pub
    while read -r user groups; do
      printf '%s,%s,%s,"%s"\n' "$(openssl rand -hex 16)" "$user" "$user" "$groups"
    done >tokens.csv <<'USERS'
admin system:masters
system:kube-scheduler
system:kube-proxy
system:node:node1 system:nodes
system:node:node2 system:nodes
USERS
  ) >"$DIR/keys.log" 2>&1 || broken 'the certificates cannot be made' "$DIR/keys.log"
  for user in admin system:kube-scheduler system:kube-proxy system:node:node1 system:node:node2; do
    kubeconfig "$user" >"$keys/${user//:/-}.kubeconfig"
  done
  kubeconfig admin "$GUESTS_API" >"$DIR/kubeconfig"
  touch "$keys/complete"
}

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

authority() {
  new_key "$1"
  openssl req -x509 -new -key "$1.key" -days 3650 -subj "/CN=$1" -out "$1.crt"
}

# certificate AUTHORITY NAME SUBJECT USAGE [ALTERNATIVE NAMES]
certificate() {
  new_key "$2"
  openssl req -new -key "$2.key" -subj "$3" -out "$2.csr"
  openssl x509 -req -in "$2.csr" -CA "$1.crt" -CAkey "$1.key" -CAcreateserial -days 3650 -out "$2.crt" \
    -extfile <(printf 'extendedKeyUsage=%s\n' "$4" && { [[ -z ${5:-} ]] || printf 'subjectAltName=%s\n' "$5"; })
}

token() { awk -F, -v user="$1" '$2 == user { print $1 }' "$DIR/keys/tokens.csv"; }

# Where programs that `run` starts find the API. Not where others do, so that the way there can be cut for those alone.
readonly GUESTS_API=127.0.0.2

# kubeconfig USER [SERVER]: everything is in the file, so that it is good wherever it is read, inside or outside.
kubeconfig() {
  local server=${2:-10.10.0.2}
  [[ $1 == admin ]] && server=${2:-127.0.0.1}
  cat <<CONFIG
apiVersion: v1
kind: Config
clusters:
- name: tests
  cluster:
    server: https://$server:6443
    certificate-authority-data: $(base64 --wrap=0 <"$DIR/keys/ca.crt")
users:
- name: $1
  user: {token: $(token "$1")}
contexts:
- name: tests
  context: {cluster: tests, user: "$1"}
current-context: tests
CONFIG
}
