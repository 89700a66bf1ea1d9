#!/usr/bin/env python3
"""The chart of deploy/helm/nanofaas in a real cluster: installed, called, upgraded, rolled back, its Pod deleted and killed
with calls in the queue. No accepted call may be lost. And a HorizontalPodAutoscaler that follows the metrics of the server. Run
it in a cluster:

    tests/k8s/cluster.sh run --with coredns tests/k8s/chart.py [PROGRAM | IMAGE.tar]

PROGRAM is the server, target/debug/nanofaas unless it is named; IMAGE.tar is what deploy/image.sh makes. Each image is used
under two names, so that an upgrade is one. Prints the time of each step.
"""

import base64
import http.client
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLUSTER = HERE / "cluster.sh"
CHART = ROOT / "deploy/helm/nanofaas"
FOLDER = Path(os.environ.get("NANOFAAS_CLUSTER_DIR", "/nowhere"))
# Where Pods find what this program serves.
MACHINE = "10.10.0.2"
IMAGE = "localhost/nanofaas"
NAMESPACE, FUNCTIONS = "nanofaas", "nanofaas-functions"
METRICS = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{FUNCTIONS}"
# Who asks for metrics in other clusters. In that of the tests controllers have no accounts of their own.
AUTOSCALER = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"


def run(*arguments, check=True, seconds=180, **more):
    """What a program says."""
    # What kubectl says besides, such as that an API does not answer just now, is no part of what it was asked for.
    done = subprocess.run([str(each) for each in arguments], text=True, check=False, timeout=seconds,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def cluster(*arguments, **more):
    return run(CLUSTER, "--dir", FOLDER, *arguments, **more)


def kubectl(*arguments, **more):
    return run(FOLDER / "bin/kubectl", "--namespace", NAMESPACE, *arguments, **more)


def helm(*arguments, **more):
    return run(FOLDER / "bin/helm", "--namespace", NAMESPACE, *arguments, **more)


def get(*arguments):
    return json.loads(kubectl("get", *arguments, "--output", "json"))


def apply(*objects):
    kubectl("apply", "--server-side", "--filename", "-",
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def until(what, seconds, ask):
    """Asks until the answer is something, and returns it."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Gate(http.server.BaseHTTPRequestHandler):
    """A function that answers with its input, when it may."""

    may_answer = threading.Event()
    protocol_version = "HTTP/1.1"

    def do_POST(self):  # noqa: N802, the name is the library's
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps(json.loads(body)["input"]).encode()
        Gate.may_answer.wait()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # the server that has asked is gone

    def log_message(self, *_):
        pass


class Api:
    """The API through the Service."""

    def __init__(self):
        address = get("service", "nanofaas")["spec"]["clusterIP"]
        self.base = f"http://{address}:8080/v1"

    def ask(self, method, path, body=None, content_type="application/json", seconds=30):
        """Status and body. Status 0: nobody answered in time."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        headers = {"Content-Type": content_type} if body is not None else {}
        request = urllib.request.Request(self.base + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def register(self, **spec):
        status, body = self.ask("POST", "/functions", spec)
        assert status in (200, 201), (status, body)

    def enqueue(self, function, number):
        """The id of the accepted execution, or None.

        A second: a connection that is opened just when the Pod ends is answered by nobody, not even refused."""
        status, body = self.ask("POST", f"/functions/{function}:enqueue", {"input": number}, seconds=1)
        return json.loads(body)["executionId"] if status == 202 else None

    def outcome(self, execution):
        """Status and output, or None while nobody answers or it has not ended."""
        status, body = self.ask("GET", f"/executions/{execution}?wait=5s")
        if status == 0 or status == 503:
            return None
        assert status == 200, f"{execution} is lost: {status} {body}"
        found = json.loads(body)
        return None if found["status"] in ("queued", "running") else (found["status"], found.get("output"))

    def all_succeed(self, accepted):
        """Each of the executions ends well, with the output that belongs to it."""
        for execution, number in accepted.items():
            outcome = until(f"{execution} ends", 120, lambda execution=execution: self.outcome(execution))
            assert outcome == ("success", number), (number, outcome)


api = None


def pod():
    return get("pod", "nanofaas-0")


def pod_or_none():
    found = get("pods", "--selector", "app.kubernetes.io/name=nanofaas")["items"]
    return found[0] if found else {}


def is_ready():
    conditions = pod_or_none().get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def answers():
    return api.ask("GET", "/functions")[0] == 200


def images():
    """The image under two tags, and what runs as a function."""
    server = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/nanofaas")
    if server.suffix == ".tar":
        cluster("load", server)
        names = [line.split()[0] for line in cluster("inside", "node1", "ctr", "--namespace", "k8s.io", "images", "ls").splitlines()
                 if line.startswith(f"{IMAGE}:")]
        for tag in ("old", "new"):
            cluster("inside", "node1", "ctr", "--namespace", "k8s.io", "images", "tag", "--force", names[0], f"{IMAGE}:{tag}")
    else:
        for tag in ("old", "new"):
            cluster("image", f"{IMAGE}:{tag}", server)
    # The watchdog, which the server's program has in it, and a program for it to run.
    program = ROOT / "target/debug/nanofaas" if server.suffix == ".tar" else server
    cluster("image", "localhost/job:1", f"{program},/bin/cat", "watchdog")
    for name in ("hello", "replica"):
        program = FOLDER / name
        run("cc", "-Os", "-static", "-o", program, HERE / f"{name}.c", "-lpthread")
        cluster("image", f"localhost/{name}:1", program)


def namespaces_and_volume():
    kubectl("apply", "--filename", ROOT / "deploy/k8s/namespaces.yaml")
    cluster("inside", "node1", "mkdir", "-p", "/var/lib/nanofaas-data")
    apply({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "nanofaas-data"},
        "spec": {
            "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": "/var/lib/nanofaas-data"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]}]}]}},
        },
    })


def manifests():
    """The API server takes deploy/k8s as it is."""
    run(FOLDER / "bin/kubectl", "apply", "--dry-run=server", "--kustomize", ROOT / "deploy/k8s")


def install():
    global api
    said = helm("install", "nanofaas", CHART, "--wait", "--timeout", "90s", "--set", f"image.repository={IMAGE},image.tag=old",
         "--set", f"functions.namespace={FUNCTIONS},functions.imagePullPolicy=IfNotPresent",
         "--set", "persistence.storageClass=local,resources.requests.cpu=100m,shutdown.timeoutSeconds=5",
         "--set", "externalMetrics.enabled=true",
         "--set", r"settings.rate\.max-per-second=0,settings.scaling\.poll-interval-ms=500")
    assert "THERE IS NO AUTHENTICATION" in said, said
    api = Api()
    until("the Service answers", 10, answers)


def helm_test():
    helm("test", "nanofaas", "--timeout", "60s")


def calls():
    api.register(name="echo", executionMode="LOCAL")
    api.register(name="gate", executionMode="POOL", endpointUrl=f"http://{MACHINE}:{gate.server_port}/invoke", concurrency=2,
                 queueSize=1000, timeoutMs=60000, maxRetries=3)
    status, body = api.ask("POST", "/functions/echo:invoke", {"input": 7})
    assert status == 200 and json.loads(body)["output"] == 7, (status, body)
    api.all_succeed({api.enqueue("echo", number): number for number in range(20)})


def functions_in_the_cluster():
    """With the rights that the chart gives and no others."""
    api.register(name="hello", executionMode="DEPLOYMENT", image="localhost/hello:1", healthPath="/", timeoutMs=5000)
    status, body = api.ask("POST", "/functions/hello:invoke", b"who are you?", "text/plain")
    assert status == 200 and body.startswith(b"fn-hello-"), (status, body)


def jobs_in_the_cluster():
    """Results come back through the Service."""
    api.register(name="job", executionMode="REMOTE", image="localhost/job:1", runtimeMode="STDIO", runtimeCommand="cat")
    # The second is too long for an environment.
    medians = []
    for given in (7, "x" * 200_000):
        times = []
        for _ in range(5):
            began = time.monotonic()
            status, body = api.ask("POST", "/functions/job:invoke", {"input": given})
            times.append(time.monotonic() - began)
            assert status == 200 and json.loads(body)["output"]["input"] == given, (status, body[:1000])
        medians.append(sorted(times)[2])
    execution = api.enqueue("job", 8)
    status, output = until("the job ends", 60, lambda: api.outcome(execution))
    assert status == "success" and output["input"] == 8, (status, output)
    jobs = kubectl("--namespace", FUNCTIONS, "get", "jobs", "--output", "name").split()
    assert len(jobs) == 11, jobs
    assert api.ask("DELETE", "/functions/job")[0] in (200, 204)
    # They would stay for a minute, and later steps count Pods.
    kubectl("--namespace", FUNCTIONS, "delete", "jobs", "--all")
    until("their Pods are gone", 30, lambda: not kubectl("--namespace", FUNCTIONS, "get", "pods", "--selector",
                                                           "executionId", "--output", "name").strip())
    return "a call took {:.2f} s, with a Secret {:.2f} s".format(*medians)


def metric(name, function="busy", *arguments):
    """Its value as the cluster tells it."""
    found = json.loads(kubectl("get", "--raw", f"{METRICS}/{name}?labelSelector=function%3D{function}", *arguments))["items"]
    return found[0]["value"] if found else None


def authority():
    """Whom the cluster trusts to have signed the certificate of the API of metrics, as PEM."""
    return base64.b64decode(get("apiservice", "v1beta1.external.metrics.k8s.io")["spec"]["caBundle"]).decode()


def is_available():
    conditions = get("apiservice", "v1beta1.external.metrics.k8s.io")["status"]["conditions"]
    return any(each["type"] == "Available" and each["status"] == "True" for each in conditions)


def ask_metrics(client=None, headers=None):
    """Status of a request that goes to the server itself, past the API server; 0: the connection is closed. Client: the name of
    a certificate."""
    address = get("service", "nanofaas-metrics-api")["spec"]["clusterIP"]
    context = ssl.create_default_context(cadata=authority())
    if client:
        context.load_cert_chain(f"{client}.crt", f"{client}.key")
    raw = http.client.HTTPConnection(address, 443, timeout=10)
    raw.connect()
    try:
        # The name is that by which the API server knows it.
        raw.sock = context.wrap_socket(raw.sock, server_hostname=f"nanofaas-metrics-api.{NAMESPACE}.svc")
        raw.request("GET", f"{METRICS}/nanofaas_rps?labelSelector=function%3Dbusy", headers=headers or {})
        return raw.getresponse().status
    except (ssl.SSLError, ConnectionError):
        return 0
    finally:
        raw.close()


def api_of_metrics():
    """Whoever may ask is answered, through the API server, and nobody past it."""
    until("the API is there", 60, is_available)
    api.register(name="busy", executionMode="DEPLOYMENT", image="localhost/replica:1", concurrency=2, timeoutMs=60000,
                 scalingConfig={"strategy": "HPA", "minReplicas": 0, "maxReplicas": 3,
                                "metrics": [{"type": "queue_depth", "target": "5"}]})
    for name in ("nanofaas_queue_depth", "nanofaas_in_flight"):
        assert metric(name) == "0", name
        assert metric(name, "busy", "--as", AUTOSCALER) == "0", name
    until("there is a rate", 30, lambda: metric("nanofaas_rps") == "0")
    assert metric("nanofaas_queue_depth", "nobody") is None
    refused = run("bash", "-c", '"$@" 2>&1 || true', "-", FOLDER / "bin/kubectl", "get", "--raw",
                  f"{METRICS}/nanofaas_rps?labelSelector=function%3Dbusy", "--as", "somebody")
    assert "Forbidden" in refused, refused

    proxy, somebody = str(FOLDER / "keys/front-proxy"), {"X-Remote-User": "somebody"}
    admin = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
    run("bash", "-euo", "pipefail", "-c", '. "$1"; cd "$2"; certificate front-proxy-ca another /CN=another clientAuth', "-",
        HERE / "parts/keys.sh", FOLDER / "keys")
    for client, headers, expected in [
            (None, admin, 401),  # no certificate
            (str(FOLDER / "keys/another"), admin, 401),  # of the front proxy's authority, but not the front proxy's
            (str(FOLDER / "keys/apiserver-kubelet"), admin, 0),  # of another authority
            (proxy, {}, 401),  # for nobody
            (proxy, somebody, 403),
            (proxy, admin, 200)]:
        status = ask_metrics(client, headers)
        assert status == expected, (client, headers, status)


def busy_replicas():
    return json.loads(kubectl("--namespace", FUNCTIONS, "get", "deployment", "fn-busy", "--output", "json"))["spec"]["replicas"]


def autoscaler_of_the_cluster():
    """From zero to three by calls that wait, to zero when there are none, and again to one for a caller that waits."""
    assert busy_replicas() == 0
    accepted = [json.loads(api.ask("POST", "/functions/busy:enqueue", {"input": {"sleep": 1}})[1])["executionId"]
                for _ in range(24)]
    began = time.monotonic()
    until("the metric says what waits", 10, lambda: metric("nanofaas_queue_depth") == "24" or busy_replicas())
    until("three replicas are wanted", 40, lambda: busy_replicas() == 3)
    up = time.monotonic() - began
    for execution in accepted:
        status = until(f"{execution} ends", 60, lambda execution=execution: api.outcome(execution))[0]
        assert status == "success", status
    began = time.monotonic()
    until("no replica is wanted", 60, lambda: busy_replicas() == 0)
    down = time.monotonic() - began
    until("its Pods are gone", 60, lambda: not kubectl("--namespace", FUNCTIONS, "get", "pods", "--selector",
                                                       "nanofaas.io/function=busy", "--output", "name").strip())
    began = time.monotonic()
    status, body = api.ask("POST", "/functions/busy:invoke", {"input": {"sleep": 0}}, seconds=60)
    assert status == 200, (status, body)
    woken = time.monotonic() - began
    assert api.ask("DELETE", "/functions/busy")[0] in (200, 204)
    return f"0 to 3 in {up:.0f} s, to 0 in {down:.0f} s, a call at 0 took {woken:.1f} s"


def queue_of(count):
    """Calls that are accepted, and of which none can end."""
    Gate.may_answer.clear()
    accepted = {api.enqueue("gate", number): number for number in range(count)}
    assert None not in accepted and len(accepted) == count
    return accepted


def gone_with_a_queue(end, is_back):
    accepted = queue_of(50)
    before = pod()
    end()
    until("a server is ready again", 90, lambda: is_back(before) and is_ready())
    until("the Service answers", 30, answers)
    Gate.may_answer.set()
    api.all_succeed(accepted)
    return f"{len(accepted)} accepted, 0 lost"


def deleted():
    return gone_with_a_queue(lambda: kubectl("delete", "pod", "nanofaas-0"), is_another)


def deleted_by_force():
    """As people do with the Pods of a lost machine. The next server waits for the lock of the data directory."""
    return gone_with_a_queue(lambda: kubectl("delete", "pod", "nanofaas-0", "--grace-period=0", "--force"), is_another)


def killed():
    """The process, as when it is out of memory. The container is started again in the same Pod."""
    process = cluster("inside", "node1", "pgrep", "--full", "--oldest", "^nanofaas serve").strip()
    return gone_with_a_queue(lambda: cluster("inside", "node1", "kill", "-KILL", process), has_been_restarted)


def is_another(before):
    return pod_or_none().get("metadata", {}).get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]


def has_been_restarted(before):
    return restarts(pod()) > restarts(before)


def restarts(of_pod):
    return of_pod["status"]["containerStatuses"][0]["restartCount"]


class Load:
    """Calls that come all the time, from one client that tries again when it is refused."""

    def __init__(self, function):
        self.accepted, self.gap, self.is_over = {}, 0.0, threading.Event()
        self.function = function
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        number, last = 0, time.monotonic()
        while not self.is_over.is_set():
            execution = api.enqueue(self.function, number)
            if execution is None:
                time.sleep(0.02)
            else:
                now = time.monotonic()
                self.gap, last = max(self.gap, now - last), now
                self.accepted[execution] = number
                number += 1

    def end(self):
        self.is_over.set()
        self.thread.join()
        assert self.accepted
        api.all_succeed(self.accepted)
        return f"{len(self.accepted)} accepted, 0 lost; none accepted for {self.gap:.1f} s"


def under_load(change):
    load = Load("echo")
    try:
        change()
        before = len(load.accepted)
        until("calls are accepted again", 60, lambda: len(load.accepted) > before + 50)
    finally:
        load.is_over.set()
    return load.end()


def upgrade():
    def change():
        helm("upgrade", "nanofaas", CHART, "--reuse-values", "--set", "image.tag=new,settings.workers=1", "--wait",
             "--timeout", "90s")
    before = authority()
    said = under_load(change)
    assert pod()["spec"]["containers"][0]["image"] == f"{IMAGE}:new"
    assert authority() == before, "the upgrade has made another certificate"
    return said


def rollback():
    said = under_load(lambda: helm("rollback", "nanofaas", "--wait", "--timeout", "90s"))
    assert pod()["spec"]["containers"][0]["image"] == f"{IMAGE}:old"
    return said


def rollback_of_an_image_that_is_not_there():
    helm("upgrade", "nanofaas", CHART, "--reuse-values", "--set", "image.tag=typo")
    until("the new Pod cannot start", 90, lambda: pod_waits())
    helm("rollback", "nanofaas", "--wait", "--timeout", "90s")
    until("the Service answers", 30, answers)


def pod_waits():
    statuses = [status for each in get("pods")["items"] for status in each["status"].get("containerStatuses", [])]
    return any("waiting" in status["state"] and "mage" in status["state"]["waiting"]["reason"] for status in statuses)


def function_is_adopted():
    """The Pods of functions have run on through all of this."""
    names = kubectl("--namespace", FUNCTIONS, "get", "pods", "--output", "name").split()
    assert len(names) == 1, names
    status, body = api.ask("POST", "/functions/hello:invoke", b"still there?", "text/plain")
    assert status == 200 and f"pod/{body.decode().strip()}" in names, (status, body, names)
    assert api.ask("DELETE", "/functions/hello")[0] in (200, 204)
    until("the function's Pod is gone", 60,
          lambda: not kubectl("--namespace", FUNCTIONS, "get", "deployments", "--output", "name").strip())


def installed_again():
    """What was registered is still there after `helm uninstall`."""
    helm("uninstall", "nanofaas", "--wait")
    install()
    assert api.ask("GET", "/functions/echo")[0] == 200
    # With another certificate.
    until("the API of metrics is there", 60, is_available)


STEPS = [images, namespaces_and_volume, manifests, install, helm_test, calls, functions_in_the_cluster, jobs_in_the_cluster,
         api_of_metrics, autoscaler_of_the_cluster, deleted, killed, deleted_by_force, upgrade, rollback,
         rollback_of_an_image_that_is_not_there, function_is_adopted, installed_again]


def main():
    passed = 0
    for step in STEPS:
        began = time.monotonic()
        try:
            said = step() or ""
        except BaseException:
            print(f"FAILED {step.__name__}\n", flush=True)
            for what in (["get", "all,pvc,events,apiservices", "--all-namespaces"], ["describe", "pods"],
                         ["describe", "hpa", "--all-namespaces"],
                         ["logs", "nanofaas-0", "--tail=40"], ["logs", "nanofaas-0", "--previous", "--tail=40"]):
                print(kubectl(*what, check=False)[-6000:], flush=True)
            raise
        print(f"{step.__name__:<42} {time.monotonic() - began:6.1f} s  {said}", flush=True)
        passed += 1
    print(f"{passed} passed, 0 failed")


gate = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Gate)
gate.daemon_threads = True
threading.Thread(target=gate.serve_forever, daemon=True).start()
main()
