#!/usr/bin/env python3
"""Whether the cluster of cluster.sh is one that tests can rely on: starts it, uses and breaks it, ends it, and looks
for what is left. Prints the time of each step. Exit code 77, with the reason: this machine cannot run it.

Arguments: extras that are started and tried as well, with `all` for all of them.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CLUSTER = os.path.join(HERE, "cluster.sh")
SKIPPED = 77

WEB = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "terminationGracePeriodSeconds": 2,
                "containers": [{
                    "name": "hello",
                    "image": "localhost/hello:1",
                    "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                }],
            },
        },
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
}


class Cluster:
    def __init__(self, folder):
        self.folder = folder

    def call(self, *arguments, check=True, seconds=120, **more):
        done = subprocess.run([CLUSTER, "--dir", self.folder, *arguments], text=True, check=False, timeout=seconds,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
        if check and done.returncode != 0:
            raise AssertionError(f"cluster.sh {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}")
        return done

    def up(self, *arguments):
        """What it says is shown as it comes: the first time on a machine it builds for long."""
        done = subprocess.run([CLUSTER, "--dir", self.folder, "up", *arguments], check=False)
        if done.returncode == SKIPPED:
            sys.exit(SKIPPED)
        assert done.returncode == 0, "the cluster does not start"

    def kubectl(self, *arguments, **more):
        return self.call("kubectl", *arguments, **more).stdout

    def apply(self, *objects):
        self.kubectl("apply", "--server-side", "--filename", "-",
                     input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "--output", "json"))

    def pods(self, label="app=web"):
        return self.get("pods", "--selector", label)["items"]

    def http(self, address):
        """The body of the answer, or None."""
        done = self.call("run", "curl", "--silent", "--fail", "--max-time", "3", "--noproxy", "*", address, check=False)
        return done.stdout.strip() if done.returncode == 0 else None


def until(what, seconds, ask):
    """Asks until the answer is something, and returns it."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def image(cluster):
    program = os.path.join(cluster.folder, "hello")
    subprocess.run(["cc", "-Os", "-static", "-o", program, os.path.join(HERE, "hello.c")], check=True)
    cluster.call("image", "localhost/hello:1", program)


def deployment(cluster):
    cluster.apply(WEB, SERVICE)
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert ready(cluster) == 2


def ready(cluster):
    return cluster.get("deployment", "web")["status"].get("readyReplicas", 0)


def service_address(cluster):
    return "http://" + cluster.get("service", "web")["spec"]["clusterIP"]


def answers(cluster):
    for pod in cluster.pods():
        assert cluster.http(f"http://{pod['status']['podIP']}:8080") == pod["metadata"]["name"]
    names = {pod["metadata"]["name"] for pod in cluster.pods()}
    address = service_address(cluster)
    until("the Service answers", 10, lambda: cluster.http(address) in names)


def to_zero(cluster):
    cluster.kubectl("scale", "deployment/web", "--replicas=0")
    cluster.kubectl("wait", "--for=delete", "pods", "--selector", "app=web", "--timeout=60s")
    address = service_address(cluster)
    until("the Service refuses", 10, lambda: cluster.http(address) is None)


def from_zero(cluster):
    cluster.kubectl("scale", "deployment/web", "--replicas=1")
    address = service_address(cluster)
    until("the Service answers", 60, lambda: cluster.http(address))


def job(cluster):
    cluster.apply({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once"},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "hello", "image": "localhost/hello:1", "args": ["done once"]}],
        }}},
    })
    cluster.kubectl("wait", "--for=condition=complete", "job/once", "--timeout=60s")
    assert cluster.kubectl("logs", "job/once") == "done once\n"


def waiting_reason(cluster, pod):
    statuses = cluster.get("pod", pod)["status"].get("containerStatuses", [])
    return [status["state"].get("waiting", {}) for status in statuses]


def bad_image(cluster):
    """Nothing listens there: refused, at once."""
    cluster.kubectl("run", "bad", "--restart=Never", "--image=localhost:5009/nothing:1")
    states = until("the image cannot be pulled", 20, lambda: [
        state for state in waiting_reason(cluster, "bad")
        if state.get("reason") in ("ErrImagePull", "ImagePullBackOff")
    ])
    assert "localhost:5009" in states[0]["message"], states
    cluster.kubectl("delete", "pod", "bad", "--now")


def killed_process(cluster):
    """The container is started anew, in the same Pod."""
    [before] = cluster.pods()
    identity = before["status"]["containerStatuses"][0]["containerID"].split("//")[1]
    cluster.call("inside", before["spec"]["nodeName"], "ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal",
                 "SIGKILL", identity)

    def again():
        [pod] = cluster.pods()
        [status] = pod["status"]["containerStatuses"]
        return status["restartCount"] == 1 and status["ready"] and (pod, status)

    pod, status = until("the container is ready again", 60, again)
    assert pod["metadata"]["uid"] == before["metadata"]["uid"]
    assert status["lastState"]["terminated"]["exitCode"] == 137


def api_server(cluster):
    address = service_address(cluster)
    seen = json.loads(cluster.kubectl("get", "--raw", "/api/v1/namespaces/default/pods"))
    version = seen["metadata"]["resourceVersion"]
    cluster.kubectl("create", "configmap", "later")
    cluster.call("kill", "apiserver")
    assert cluster.kubectl("get", "pods", check=False)
    assert cluster.http(address), "Pods do not answer without the API server"
    cluster.call("start", "apiserver")
    # What happened before its start it does not know any more.
    watch = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/default/pods?watch=1&resourceVersion={version}")
    assert json.loads(watch)["object"]["code"] == 410, watch
    cluster.kubectl("scale", "deployment/web", "--replicas=2")
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")


def lost_packets(cluster):
    """The Pod stays ready, for its kubelet asks from its own machine, if it is on the second."""
    pod = cluster.pods()[0]["status"]["podIP"]
    cluster.call("cut", pod)
    assert cluster.http(f"http://{pod}:8080") is None
    cluster.call("cut", "api")
    mine = ["run", os.path.join(cluster.folder, "bin", "kubectl"), "get", "nodes", "--request-timeout=1s"]
    assert cluster.call(*mine, check=False).returncode != 0
    cluster.kubectl("get", "nodes")
    cluster.call("heal")
    until("the API is reached", 30, lambda: cluster.call(*mine, check=False).returncode == 0)
    until("the Pod is reached", 30, lambda: cluster.http(f"http://{pod}:8080"))
    cluster.kubectl("wait", "--for=condition=Ready", "pods", "--selector", "app=web", "--timeout=60s")


def address_again(cluster):
    """A Pod gets the address that another has just had."""
    def placed(name):
        cluster.apply({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": "node1", "containers": [{"name": "hello", "image": "localhost/hello:1"}]},
        })
        cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        return cluster.get("pod", name)["status"]["podIP"]

    def again():
        cluster.call("reuse")
        first = placed("first")
        cluster.kubectl("delete", "pod", "first", "--now")
        cluster.call("reuse")
        second = placed("second")
        cluster.kubectl("delete", "pod", "second", "--now")
        return first == second

    # A lower address may have become free in between: of a Pod that ended before.
    until("an address is used again", 60, again)


def silent_api_server(cluster):
    """Connections are taken, and nothing is answered."""
    cluster.call("kill", "apiserver", "STOP")
    ask = [os.path.join(cluster.folder, "bin", "kubectl"), "get", "nodes", "--request-timeout=1s"]
    assert cluster.call("run", *ask, check=False).returncode != 0
    cluster.call("kill", "apiserver", "CONT")
    until("it answers", 30, lambda: cluster.call("run", *ask, check=False).returncode == 0)


def again_on_kept_state(cluster):
    cluster.up()
    cluster.call("down", "--keep")
    cluster.up()
    # Until its Pods have come back the API tells of the old ones, as if they still ran.
    until("the Pods run again", 60,
          lambda: all(pod["status"]["containerStatuses"][0]["restartCount"] > 0 for pod in cluster.pods()))
    address = service_address(cluster)
    until("the Service answers", 60, lambda: cluster.http(address))


# Of the extras.


def state_of(cluster, pod, reason):
    """Message of the container of a Pod that waits for one of these reasons."""
    found = [state for state in waiting_reason(cluster, pod) if state.get("reason") in reason]
    return found and found[0].get("message", "")


def pull(cluster, name, image_name, secret=None):
    secrets = [{"name": secret}] if secret else []
    cluster.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "imagePullSecrets": secrets,
            "containers": [{"name": "hello", "image": image_name, "imagePullPolicy": "Always"}],
        },
    })


def pulled(cluster, name):
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    cluster.kubectl("delete", "pod", name, "--now")


def refused(cluster, name, part):
    message = until("it is refused", 30, lambda: state_of(cluster, name, ["ErrImagePull"]))
    assert part in message, message
    cluster.kubectl("delete", "pod", name, "--now")


def registry(cluster):
    cluster.call("push", "localhost/hello:1", "registry:5000/hello:1")
    pull(cluster, "pulls", "registry:5000/hello:1")
    pulled(cluster, "pulls")
    pull(cluster, "wrong", "registry:5000/hello:wrong")
    refused(cluster, "wrong", "not found")
    cluster.call("kill", "registry")
    pull(cluster, "down", "registry:5000/hello:1")
    refused(cluster, "down", "connection refused")
    cluster.call("start", "registry")


def locked_registry(cluster):
    cluster.call("push", "localhost/hello:1", "registry:5001/hello:1")
    pull(cluster, "locked", "registry:5001/hello:1")
    refused(cluster, "locked", "401 Unauthorized")
    cluster.kubectl("create", "secret", "docker-registry", "key", "--docker-server=registry:5001",
                    "--docker-username=user", "--docker-password=secret")
    pull(cluster, "unlocked", "registry:5001/hello:1", "key")
    pulled(cluster, "unlocked")


def coredns(cluster):
    query = """
import socket, sys
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ask.settimeout(1)
name = b"".join(bytes([len(part)]) + part for part in b"web.default.svc.cluster.local".split(b"."))
ask.sendto(b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + name + b"\\0\\0\\1\\0\\1", ("10.30.0.10", 53))
sys.exit(socket.inet_aton(sys.argv[1]) not in ask.recv(512))
"""
    address = service_address(cluster).removeprefix("http://")
    until("the name of a Service leads to it", 10,
          lambda: cluster.call("run", "python3", "-c", query, address, check=False).returncode == 0)


def metrics(cluster):
    def top():
        shown = cluster.call("kubectl", "top", "pods", "--no-headers", check=False)
        return shown.returncode == 0 and "web-" in shown.stdout

    until("what Pods use is shown", 60, top)
    external_metrics(cluster)


# A server for external metrics: KEYS PORT VALUE.
MEASURES = """
import http.server, json, ssl, sys
keys, port, value = sys.argv[1:]
api = {"apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {}}

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0].strip("/").split("/")
        if len(path) == 3:
            answer = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api["apiVersion"], "resources": [
                {"name": "depth", "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList",
                 "verbs": ["get"]},
            ]}
        else:
            answer = {**api, "kind": "ExternalMetricValueList", "items": [
                {"metricName": path[-1], "metricLabels": {}, "timestamp": "2026-01-01T00:00:00Z", "value": value},
            ]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer(("10.10.0.2", int(port)), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(keys + "/apiserver.crt", keys + "/apiserver.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def external_metrics(cluster):
    """An autoscaler that follows what a program in the cluster's network measures, from two to three and to zero."""
    keys = os.path.join(cluster.folder, "keys")

    def measures(value):
        program = ["python3", "-c", MEASURES, keys, "4444", value]
        return subprocess.Popen([CLUSTER, "--dir", cluster.folder, "run", *program],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    cluster.call("aggregate", "external.metrics.k8s.io", "v1beta1", "4444")
    server = measures("25")
    try:
        metric = {"metric": {"name": "depth"}, "target": {"type": "AverageValue", "averageValue": "10"}}
        cluster.apply({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 0, "maxReplicas": 5, "metrics": [{"type": "External", "external": metric}],
            },
        })
        until("three are ready", 60, lambda: ready(cluster) == 3)
        server.terminate()
        server.wait()
        server = measures("0")
        until("there is none", 90, lambda: ready(cluster) == 0)
    finally:
        server.terminate()
        server.wait()
        cluster.kubectl("delete", "hpa", "web", "--ignore-not-found")
        cluster.kubectl("delete", "apiservice", "v1beta1.external.metrics.k8s.io")
    cluster.kubectl("scale", "deployment/web", "--replicas=2")
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")


def node2(cluster):
    """A Pod on the second machine answers; it is lost, first from sight and then in fact, and comes back."""
    cluster.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "far"},
        "spec": {"nodeName": "node2", "containers": [{"name": "hello", "image": "localhost/hello:1"}]},
    })
    cluster.kubectl("wait", "--for=condition=Ready", "pod/far", "--timeout=60s")
    address = f"http://{cluster.get('pod', 'far')['status']['podIP']}:8080"
    assert cluster.http(address) == "far"

    def is_ready(name, kind="node"):
        conditions = cluster.get(kind, name)["status"]["conditions"]
        return next(each["status"] for each in conditions if each["type"] == "Ready")

    cluster.call("cut", "node2")
    assert cluster.http(address) is None
    assert is_ready("far", "pod") == "True", "the Pod is to stay ready until its machine is lost"
    until("the machine is lost", 60, lambda: is_ready("node2") == "Unknown")
    cluster.call("heal", "node2")
    until("the machine is back", 60, lambda: is_ready("node2") == "True" and cluster.http(address))
    cluster.call("kill", "node2")
    assert cluster.http(address) is None
    until("the machine is lost", 60, lambda: is_ready("node2") == "Unknown")
    cluster.call("start", "node2")
    until("the machine is back", 60, lambda: is_ready("node2") == "True")
    # On the other side of a restart it has an address again, perhaps another.
    until("the Pod answers", 60,
          lambda: cluster.http(f"http://{cluster.get('pod', 'far')['status'].get('podIP')}:8080") == "far")
    cluster.kubectl("delete", "pod", "far", "--now")


OF_EXTRAS = {"registry": registry, "locked-registry": locked_registry, "coredns": coredns, "metrics": metrics,
             "node2": node2}

STEPS = [image, deployment, answers, to_zero, from_zero, job, bad_image, killed_process, api_server,
         silent_api_server, lost_packets, address_again, again_on_kept_state]


def machine():
    """What a cluster must leave as it is: settings of the kernel, links, mounts, cgroups."""
    settings = {}
    for name in ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
                 "net/ipv4/ip_forward"]:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            settings[name] = file.read().strip()
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split()[4] for line in file]
    return settings, sorted(os.listdir("/sys/class/net")), mounts


def left_by(cluster):
    """Processes that name its folder, and its cgroups, which are named after a digest of it."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace")
            target = os.readlink(f"/proc/{process}/exe")
        except OSError:
            continue
        if int(process) != os.getpid() and (cluster.folder in command or target.startswith(cluster.folder)):
            found.append(command)
    digest = hashlib.sha256(f"{cluster.folder}\n".encode()).hexdigest()[:8]
    return found + [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if f"/nanofaas-{digest}-" in folder]


def lives_as_long_as_its_program():
    """Ended by its program, and by whatever ends the script; with what the program has left."""
    environment = {name: value for name, value in os.environ.items() if name != "NANOFAAS_CLUSTER_DIR"}

    def run(program):
        return subprocess.Popen([CLUSTER, "run", "sh", "-c", program], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)

    leaves = f'echo "$NANOFAAS_CLUSTER_DIR"; {CLUSTER} kubectl get nodes >&2 || exit 1; setsid sleep 600 & exit 7'
    with run(leaves) as program:
        ended = Cluster(program.stdout.readline().strip())
        program.stdout.read()
    assert program.returncode == 7, program.returncode
    with run('echo "$NANOFAAS_CLUSTER_DIR"; sleep 600') as program:
        killed = Cluster(program.stdout.readline().strip())
        program.kill()
        program.wait()
        for cluster in [ended, killed]:
            until(f"nothing is left of {cluster.folder}", 30,
                  lambda folder=cluster.folder: not os.path.exists(folder) and not os.path.exists(f"{folder}.runner"))
            assert not left_by(cluster), left_by(cluster)


def timed(name, step, *arguments):
    start = time.monotonic()
    step(*arguments)
    print(f"{name.replace('_', ' '):24} {round((time.monotonic() - start) * 1000):6} ms", flush=True)


def main():
    # An end by a time limit still ends the cluster.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    extras = list(OF_EXTRAS) if sys.argv[1:] == ["all"] else sys.argv[1:]
    # The last step starts the cluster anew, without extras.
    steps = STEPS[:-1] + [OF_EXTRAS[extra] for extra in extras] + STEPS[-1:]
    before = machine()
    with tempfile.TemporaryDirectory(prefix="nanofaas-smoke-") as folder:
        cluster = Cluster(os.path.join(folder, "cluster"))
        try:
            timed("up", cluster.up, *(["--with", ",".join(extras)] if extras else []))
            for step in steps:
                timed(step.__name__, step, cluster)
        finally:
            timed("down", cluster.call, "down")
        assert not os.path.exists(cluster.folder), "the run directory is left"
        left = left_by(cluster)
        assert not left, f"left: {left}"
    timed("a cluster for a program", lives_as_long_as_its_program)
    assert machine() == before, f"changed: {before} {machine()}"
    print(f"{len(steps) + 3} passed, 0 failed")


if __name__ == "__main__":
    main()
