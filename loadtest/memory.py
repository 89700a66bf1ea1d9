#!/usr/bin/env python3
"""Measures the memory of a server at rest, and of the watchdogs of its local replicas.

    ./loadtest/memory.py target/release/nanofaas

Starts `nanofaas dev` twice on free ports, once for each kind of program, with ten replicas, calls the function ten times per
replica, and adds up /proc/PID/smaps_rollup of guards and watchdogs; programs are left out. What is shared counts in
proportion (PSS). A `nanofaas-watchdog` beside the binary is used if it was built from the same sources.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

REPLICAS = 10
CALLS = 10
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"{}")
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def main():
    binary = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "server.py").write_text(SERVER, encoding="utf-8")
        for mode, command in (("HTTP", "python3 server.py"), ("STDIO", "cat")):
            measure(binary, folder, mode, command)


def measure(binary, folder, mode, command):
    server = subprocess.Popen(
        [binary, "dev", "--ephemeral", "--port", "0", "--management-port", "0", "--set", "autoscaler.enabled=false"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, "NANOFAAS_LOG": "info"})
    try:
        api = next(address for line in server.stderr if (address := serving(line)))
        at_rest = memory(server.pid)
        spec = {"name": "f", "runtimeMode": mode, "runtimeCommand": command, "workingDir": folder}
        ask(api, "POST", "/v1/functions", spec)
        ask(api, "PUT", "/v1/functions/f/replicas", {"replicas": REPLICAS})
        wait_for(api)
        for _ in range(CALLS * REPLICAS):
            ask(api, "POST", "/v1/functions/f:invoke", {"input": {"text": "hello"}})
        time.sleep(1)
        guards = children(server.pid)
        watchdogs = [child for guard in guards for child in children(guard)]
        report(mode, at_rest, guards, watchdogs)
    finally:
        server.terminate()
        server.communicate()


def serving(line):
    event = json.loads(line) if line.startswith("{") else {}
    return event["api"] if event.get("message") == "serving" else None


def ask(api, method, path, body):
    request = urllib.request.Request(
        f"http://{api}{path}", json.dumps(body).encode() if body else None,
        {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def wait_for(api):
    while ask(api, "GET", "/v1/functions/f/replicas", None)["ready"] < REPLICAS:
        time.sleep(0.1)


def children(pid):
    lists = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for list_ in lists for child in list_.read_text().split()]


def memory(pid):
    """KiB by name."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}


def report(mode, at_rest, guards, watchdogs):
    def pss(pids):
        return sum(memory(pid)["Pss"] for pid in pids) / REPLICAS / 1024
    binary = os.path.basename(os.readlink(f"/proc/{watchdogs[0]}/exe"))
    print(f"server at rest: PSS {at_rest['Pss'] / 1024:.1f} MiB, RSS {at_rest['Rss'] / 1024:.1f} MiB, "
          f"anonymous {at_rest['Anonymous'] / 1024:.1f} MiB")
    print(f"{mode}, {binary}, {len(guards)} replicas, PSS of each: guard {pss(guards):.2f} MiB, "
          f"watchdog {pss(watchdogs):.2f} MiB, both {pss(guards + watchdogs):.2f} MiB")


main()
