# shellcheck shell=bash
# The account of a server, for tests whose server runs outside of the cluster.

# make_account FOLDER: FOLDER/account is a kubeconfig with the rights that the chart gives. It gives them in one namespace, and
# here they hold in all, for tests have namespaces of their own.
make_account() {
  local bin=$NANOFAAS_CLUSTER_DIR/bin token
  "$bin/helm" template nanofaas deploy/helm/nanofaas --namespace default --kube-version 1.34.0 --set functions.source=crd \
    --show-only templates/serviceaccount.yaml --show-only templates/role.yaml |
    sed 's/kind: Role/kind: ClusterRole/; /^  namespace: /d' |
    "$bin/kubectl" apply --filename -
  token=$("$bin/kubectl" create token nanofaas --duration 2h)
  sed "s/token: [^}]*/token: $token/" "$KUBECONFIG" >"$1/account"
  [[ $("$bin/kubectl" --kubeconfig "$1/account" auth whoami) == *system:serviceaccount:default:nanofaas* ]]
}
