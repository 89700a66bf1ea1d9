#!/usr/bin/env python3
"""Instructions per call of two servers: the same input gives the same count, where CPU time wanders with the machine.

    loadtest/instructions.py OLD NEW [--calls 1000] [--rounds 1] [--kinds POOL,LOCAL,durable] [--in-flight 1] [--limit 1.02]

Each server runs under `valgrind --tool=callgrind` with one worker. One connection sends exactly so many identical calls, one after the
other, and then twice as many to another server; the difference, divided by the calls, is what a call costs: start and
end cancel out. POOL calls an endpoint of this script, LOCAL the server itself; durable enqueues calls of a LOCAL function with a data
directory in memory (/dev/shm, if there is one), their execution included. With `--in-flight N`, N connections send a call each at once and
wait for all answers: enqueues share their commits then, as they do in a server that has something to do. Old and new take turns; of several rounds the median is taken.

Exit code 0; 1 when new / old is over the limit in any kind, or a server fails; 2 when valgrind is missing. Only instructions of the
program are counted: none of the kernel, no cache miss. What depends on the clock (timers, how many records a commit takes) stays, and is
a few tenths of a percent.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

BODY = b'{"input":{"text":"hello world","n":42}}'
ANSWER = b'{"ok":true}'
PATIENCE_S = 300
PAUSE_S = 0.015
SETTINGS = ["rate.max-per-second=1000000000", "async-queue.enabled=true"]
# The allocator gives memory back by the clock otherwise; the rest keeps the environment of the caller out.
ENVIRONMENT = {"PATH": os.environ["PATH"], "MIMALLOC_PURGE_DELAY": "-1", "NANOFAAS_LOG": "info"}


class Connection:
    """One that stays, and waits for each answer."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.host = address
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = b""

    def request(self, path, body):
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def send(self, request):
        self.socket.sendall(request)
        return self.status()

    def status(self):
        return int(read(self).split(b" ", 2)[1])


def read(connection):
    """The head of the next message; its body is read and dropped. None at the end."""
    while b"\r\n\r\n" not in connection.bytes:
        more = connection.socket.recv(65536)
        if not more:
            return None
        connection.bytes += more
    head, rest = connection.bytes.split(b"\r\n\r\n", 1)
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, value = line.split(b":", 1)
        if name.lower() == b"content-length":
            length = int(value)
    while len(rest) < length:
        rest += connection.socket.recv(65536)
    connection.bytes = rest[length:]
    return head


class Endpoint:
    """A function behind HTTP that answers every request with the same bytes."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            self.serve_in_thread(self.listener.accept()[0])

    def serve_in_thread(self, accepted):
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self.serve, args=(accepted,), daemon=True).start()

    def serve(self, accepted):
        connection = Connection.__new__(Connection)
        connection.socket, connection.bytes = accepted, b""
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER
        try:
            while read(connection) is not None:
                accepted.sendall(answer)
        except OSError:
            pass  # the server ends as it likes


def count(binary, kind, calls, in_flight, endpoint):
    """Instructions of a server's whole life, with so many calls in it."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="instructions-") as folder:
        out = pathlib.Path(folder, "callgrind")
        store = ["--data-dir", str(pathlib.Path(folder, "data"))] if kind == "durable" else ["--ephemeral"]
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--quiet"]
        serve = [binary, "serve", "--workers", "1", "--port", "0", "--management-port", "0", *store]
        for setting in SETTINGS:
            serve += ["--set", setting]
        server = subprocess.Popen([*valgrind, *serve], stderr=subprocess.PIPE, env=ENVIRONMENT, text=True)
        try:
            call(server, kind, calls, in_flight, endpoint)
            server.send_signal(signal.SIGTERM)
            code = server.wait(PATIENCE_S)
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()
        if code != 0:
            sys.exit(f"{binary} ended with {code}")
        totals = [line for line in out.read_text().splitlines() if line.startswith(("summary:", "totals:"))]
        return int(totals[-1].split()[1])


def call(server, kind, calls, in_flight, endpoint):
    """Registers a function, and calls it so often, so many at a time."""
    api, log = None, []
    for line in server.stderr:
        log.append(line)
        if '"serving"' in line:
            api = json.loads(line)["api"]
            break
    if api is None:
        sys.exit("the server does not serve:\n" + "".join(log))
    # Its log must not fill the pipe.
    threading.Thread(target=server.stderr.read, daemon=True).start()
    mode = "POOL" if kind == "POOL" else "LOCAL"
    spec = {"name": "echo", "executionMode": mode, "timeoutMs": 600000, "concurrency": 16}
    if kind == "POOL":
        spec["endpointUrl"] = f"http://{endpoint.address}/invoke"
    connection = Connection(api)
    status = connection.send(connection.request("/v1/functions", json.dumps(spec).encode()))
    if status != 201:
        sys.exit(f"registered with {status}")
    operation, expected = ("enqueue", 202) if kind == "durable" else ("invoke", 200)
    request = connection.request(f"/v1/functions/echo:{operation}", BODY)
    connections = [connection] + [Connection(api) for _ in range(in_flight - 1)]
    for _ in range(calls // in_flight):
        if kind == "durable":
            # So that each call has two commits, that of its acceptance and that of its end, and not by chance one for two;
            # of those that come at once, all have the same two.
            time.sleep(PAUSE_S)
        for each in connections:
            each.socket.sendall(request)
        for status in [each.status() for each in connections]:
            if status != expected:
                sys.exit(f"a call was answered with {status}")


def per_call(binary, kind, calls, in_flight, endpoint):
    """What a call costs."""
    more, less = (count(binary, kind, times * calls, in_flight, endpoint) for times in (2, 1))
    return (more - less) / calls


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kinds", default="POOL,LOCAL,durable")
    parser.add_argument("--in-flight", type=int, default=1, help="calls at a time")
    parser.add_argument("--limit", type=float, default=1.02, help="largest ratio new / old")
    options = parser.parse_args()
    # As many for each connection.
    options.calls -= options.calls % options.in_flight
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: it counts the instructions (apt-get install valgrind)", file=sys.stderr)
        return 2
    endpoint = Endpoint()
    is_good = True
    print(f"{'instructions per call':<24}{'old':>12}{'new':>12}{'new / old':>12}", flush=True)
    for kind in options.kinds.split(","):
        rounds = []
        for _ in range(options.rounds):
            programs = (options.old, options.new)
            rounds.append([per_call(each, kind, options.calls, options.in_flight, endpoint) for each in programs])
        old, new = (statistics.median(values) for values in zip(*rounds))
        is_good &= new / old <= options.limit
        note = "" if new / old <= options.limit else f"  over {options.limit}"
        print(f"{kind:<24}{old:>12,.0f}{new:>12,.0f}{new / old:>12.4f}{note}", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
