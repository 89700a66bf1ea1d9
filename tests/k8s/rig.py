"""What load.py and measure.py share: a server beside the cluster, its API, constant load, and a look at the cluster's own API."""

import atexit
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLUSTER = HERE / "cluster.sh"
FOLDER = Path(os.environ.get("NANOFAAS_CLUSTER_DIR", "/nowhere"))
IMAGE = "localhost/replica:1"
NAMESPACE = "default"
API, MANAGEMENT = ("127.0.0.1", 8080), ("127.0.0.1", 8081)
# Pods of functions as they are seen by their labels.
OURS = "nanofaas.io/installation=nanofaas"


def run(*arguments, check=True, seconds=180, **more):
    """What a program says."""
    done = subprocess.run([str(each) for each in arguments], text=True, check=False, timeout=seconds,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def cluster(*arguments, **more):
    return run(CLUSTER, "--dir", FOLDER, *arguments, **more)


def kubectl(*arguments, **more):
    return run(FOLDER / "bin/kubectl", "--namespace", NAMESPACE, *arguments, **more)


def until(what, seconds, ask, pause=0.05):
    """Asks until the answer is something, and returns it."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(pause)


def image():
    """The function of all of this: tests/k8s/replica.c."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "replica"
        run("cc", "-Os", "-static", "-Wall", "-Wextra", "-Werror", "-o", program, HERE / "replica.c", "-lpthread")
        cluster("image", IMAGE, program)


def cpu_s(stat):
    """User and system time, from /proc/PID/stat."""
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """A server in the cluster's network, with the rights that the chart gives. Its data outlives it, until this program ends."""

    def __init__(self, program, *settings):
        self.program, self.settings = Path(program).resolve(), settings
        self.folder = tempfile.TemporaryDirectory(prefix="nanofaas-")
        self.process = None
        account = ". tests/k8s/parts/account.sh; make_account \"$1\""
        run("bash", "-euo", "pipefail", "-c", account, "-", self.folder.name, cwd=ROOT)
        atexit.register(self.kill)

    def start(self):
        """Comes back when it says that it serves."""
        assert self.process is None
        own = ["deployment.backends=k8s", f"k8s.kubeconfig={self.folder.name}/account", f"k8s.namespace={NAMESPACE}",
               "k8s.image-pull-policy=IfNotPresent", "async-queue.enabled=true", "rate.max-per-second=100000000", *self.settings]
        arguments = [part for setting in own for part in ("--set", setting)]
        with open(f"{self.folder.name}/log", "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "serve", "--workers", "2", "--data-dir", f"{self.folder.name}/data", *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("the server is ready", 60, lambda: manage("/readyz")[0] == 200 or self.has_ended(), pause=0.005)

    def has_ended(self):
        assert self.process.poll() is None, f"the server has ended\n{self.log()}"
        return False

    def log(self):
        return Path(f"{self.folder.name}/log").read_text()[-6000:]

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def cpu_s(self):
        """User and system time so far."""
        return cpu_s(Path(f"/proc/{self.process.pid}/stat").read_text())

    def memory_mib(self):
        """What belongs to it, what it shares with others in proportion; and the same with all that is shared."""
        sizes = {}
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size = line.split(":")
            sizes[name] = int(size.split()[0]) / 1024
        return sizes["Pss"], sizes["Rss"]


class Connection:
    """One that is kept, and opened again when it has broken."""

    def __init__(self, address, seconds=60):
        self.http = http.client.HTTPConnection(*address, timeout=seconds)

    def ask(self, method, path, body=None, **headers):
        """Status and document; status 0 when there is no answer."""
        try:
            text = None if body is None else json.dumps(body)
            more = {name.replace("_", "-"): value for name, value in headers.items()}
            self.http.request(method, path, text, {"Content-Type": "application/json", **more})
            answer = self.http.getresponse()
            text = answer.read()
            try:
                return answer.status, json.loads(text) if text else None
            except ValueError:
                return answer.status, text.decode(errors="replace")
        except (OSError, http.client.HTTPException):
            self.http.close()
            return 0, None


def ask(method, path, body=None, seconds=60):
    connection = Connection(API, seconds)
    try:
        return connection.ask(method, f"/v1{path}", body)
    finally:
        connection.http.close()


def manage(path):
    connection = Connection(MANAGEMENT, 10)
    try:
        return connection.ask("GET", path)
    finally:
        connection.http.close()


def register(name, **fields):
    spec = {"name": name, "image": IMAGE, "timeoutMs": 10_000, "concurrency": 64, "queueSize": 1000, **fields}
    status, answer = ask("POST", "/functions", spec)
    assert status == 201, (status, answer)


def remove(name):
    status, answer = ask("DELETE", f"/functions/{name}", seconds=120)
    assert status in (200, 204), (status, answer)


def scale(name, replicas, wait=True):
    status, answer = ask("PUT", f"/functions/{name}/replicas", {"replicas": replicas})
    assert status == 200, (status, answer)
    if wait:
        ready(name, replicas)


def ready(name, replicas, seconds=90):
    """Waits until so many take calls, and none besides them is wanted."""
    def are():
        answer = ask("GET", f"/functions/{name}/replicas")[1]
        return isinstance(answer, dict) and answer["ready"] == answer["desired"] == replicas
    until(f"{replicas} replicas of {name} are ready", seconds, are)


class Load:
    """`loadtest`, until it is told to end. Calls come at their times whatever happens to those before (an open loop)."""

    def __init__(self, program, server, scenario=None, arguments=()):
        self.folder = tempfile.TemporaryDirectory(prefix="nanofaas-load-")
        command = [Path(program).resolve(), "run", "--out", self.folder.name, "--pid", str(server.process.pid), *arguments]
        if "--url" not in arguments:
            command += ["--endpoint", "http://%s:%d" % API]
        if scenario is not None:
            file = Path(self.folder.name) / "scenario.toml"
            file.write_text(scenario)
            command.append(file)
        self.process = subprocess.Popen([str(each) for each in command], stdin=subprocess.DEVNULL, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def end(self):
        """No call begins any more, the last ones are waited for; the summary."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self):
        said = self.process.communicate()[0]
        summary = Path(self.folder.name) / "summary.json"
        assert summary.exists(), f"loadtest has failed\n{said}"
        return json.loads(summary.read_text())


class Kubernetes:
    """The API of the cluster as administrator, without what kubectl needs to start."""

    def __init__(self):
        for line in (FOLDER / "kubeconfig").read_text().splitlines():
            if "token:" in line:
                self.token = line.split("token:")[1].strip(" }").strip('"')
            if "server:" in line:
                self.address = line.split("server:")[1].split("https://")[1].split(",")[0].strip(' "}')
        self.tls = ssl.create_default_context(cafile=str(FOLDER / "keys/ca.crt"))

    def open(self, method, path, body=None, kind="application/json"):
        host, port = self.address.split(":")
        connection = http.client.HTTPSConnection(host, int(port), timeout=600, context=self.tls)
        connection.request(method, path, None if body is None else json.dumps(body),
                           {"Authorization": f"Bearer {self.token}", "Content-Type": kind})
        return connection.getresponse()

    def ask(self, method, path, body=None, kind="application/json"):
        answer = self.open(method, path, body, kind)
        text = answer.read()
        assert answer.status < 300, (answer.status, text)
        return json.loads(text)


class Watch:
    """Follows objects from now on, and notes when news of them came."""

    def __init__(self, kubernetes, path, selector=OURS):
        self.seen, self.news = [], threading.Condition()
        version = kubernetes.ask("GET", f"{path}?labelSelector={selector}&limit=1")["metadata"]["resourceVersion"]
        self.answer = kubernetes.open("GET", f"{path}?labelSelector={selector}&watch=1&resourceVersion={version}")
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        while line := self.answer.readline():
            now = time.monotonic()
            event = json.loads(line)
            with self.news:
                self.seen.append((now, event["type"], event["object"]))
                self.news.notify_all()

    def first(self, after, seconds, is_it):
        """When the first news came after that time for which `is_it(type, object)`, and the object."""
        end, looked = time.monotonic() + seconds, 0
        with self.news:
            while True:
                for at, kind, found in self.seen[looked:]:
                    if at >= after and is_it(kind, found):
                        return at, found
                looked = len(self.seen)
                assert self.news.wait(end - time.monotonic()) and time.monotonic() < end, "no such news"


def percentile(values, share):
    """The smallest value that so many are not above."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(1)
