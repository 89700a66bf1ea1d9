#!/usr/bin/env python3
"""Checks the example functions against their payloads, without a server and without the watchdog.

    python3 examples/functions/check.py              every function
    python3 examples/functions/check.py NAME…        only these

It does to each program what the watchdog would do: a STDIO function gets a process per call, an HTTP function is
started once on a free port. A folder with a `build.sh` is built first. Each payload is sent in several shapes of the
request; a payload passes when every shape gives the expected output. Programs must also refuse what is no request:
HTTP answers 400, STDIO exits with an error and says why on stderr. The last line is `N passed, N failed`; the exit
status is 1 when something failed. Every process started here is ended here.

Deliberately not here: payload files that refer to other files (`"input": "@file"`), and YAML beyond the plain
`key: value` lines that function files begin with. `nanofaas fn test` knows both.
"""

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FUNCTIONS = Path(__file__).resolve().parent
READY_S_MAX = 10
STOP_S_MAX = 5
BUILD_S_MAX = 300

GARBAGE = ['{"input":', '{"input": {"number": 1}', "not JSON at all", "[]", ""]
"""What is not a request: cut off, no JSON, no object, nothing."""


def envelopes(value):
    """The shapes in which the server may send an input, with metadata that looks like an input."""
    yield {"input": value, "metadata": None}
    yield {"metadata": None, "input": value}
    yield {"metadata": {"input": "{\"number\":3}", "number": "3", "limit": "3", "text": "three"}, "input": value}


def main(names):
    folders = [FUNCTIONS / name for name in names] or sorted(path.parent for path in FUNCTIONS.glob("*/function.yaml"))
    passed = failed = 0
    for folder in folders:
        print(f"{folder.name}")
        for name, problem in check(folder):
            print(f"  ok    {name}" if problem is None else f"  FAIL  {name}\n          {problem}", flush=True)
            passed += problem is None
            failed += problem is not None
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def check(folder):
    """Yields (name of the check, None or what went wrong)."""
    try:
        function = read_function(folder / "function.yaml")
        build(folder)
        open_function = {"STDIO": StdioFunction, "HTTP": HttpFunction}[function["runtimeMode"]]
        with open_function(folder, shlex.split(function["runtimeCommand"]), int(function["timeoutMs"]) / 1000) as program:
            for path in sorted(folder.glob("payloads/*.json")):
                payload = json.loads(path.read_text(encoding="utf-8"))
                yield f"{path.name} - {payload['description']}", attempt(check_payload, program, payload)
            for text in GARBAGE:
                yield f"refuses {text!r}", attempt(program.refuse, text)
            yield from program.more_checks()
    except (OSError, KeyError, ValueError, Problem, subprocess.SubprocessError) as error:
        yield "can be run", f"{type(error).__name__}: {error}"


def attempt(action, *arguments):
    """None, or what went wrong."""
    try:
        action(*arguments)
    except (OSError, ValueError, Problem, http.client.HTTPException, subprocess.SubprocessError) as error:
        return f"{error}" if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
    return None


def check_payload(program, payload):
    for request in envelopes(payload["input"]):
        actual = program.call(json.dumps(request, ensure_ascii=False))
        if not same(actual, payload["expected"]):
            raise Problem(f"expected {json.dumps(payload['expected'])}, got {json.dumps(actual)} for {json.dumps(request)}")


def same(left, right):
    """JSON equality: 1 is 1.0, but true is not 1, which Python would say."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def read_function(path):
    """The plain `key: value` lines of a function file."""
    lines = (line.split(" #")[0] for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.split(":", 1) for line in lines if line[:1].isalpha() and ":" in line)
    function = {key: value.strip() for key, value in pairs}
    if function["name"] != path.parent.name:
        raise Problem(f"the function is named {function['name']}, its folder {path.parent.name}")
    return function


def build(folder):
    script = folder / "build.sh"
    if script.exists():
        subprocess.run([script], check=True, timeout=BUILD_S_MAX)


class Problem(Exception):
    """A program that does not do what it should."""


class StdioFunction:
    """A program that is started for every call."""

    def __init__(self, folder, command, timeout_s):
        self.folder, self.command, self.timeout_s = folder, command, timeout_s

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass  # no process outlives its call

    def run(self, text):
        # On timeout `run` kills the process before it raises.
        return subprocess.run(
            self.command, cwd=self.folder, input=text.encode(), capture_output=True, timeout=self.timeout_s
        )

    def call(self, request):
        done = self.run(request)
        if done.returncode != 0:
            raise Problem(f"exit status {done.returncode}, stderr: {done.stderr.decode(errors='replace').strip()}")
        return json.loads(done.stdout)

    def refuse(self, text):
        done = self.run(text)
        if done.returncode == 0:
            raise Problem(f"exit status 0, stdout: {done.stdout!r}")
        if not done.stderr.strip():
            raise Problem(f"exit status {done.returncode}, but nothing on stderr")

    def more_checks(self):
        return ()


class HttpFunction:
    """A server that is started once. All calls go through one connection, as long as the server keeps it open."""

    def __init__(self, folder, command, timeout_s):
        self.folder, self.command, self.timeout_s = folder, command, timeout_s

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            port = free_port()
            self.stderr = stack.enter_context(tempfile.TemporaryFile())
            environment = os.environ | {"PORT": str(port)}
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stderr=self.stderr
            )
            stack.callback(self.end)
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=self.timeout_s)
            stack.callback(self.connection.close)
            self.wait_until_ready()
            self.resources = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.resources.close()

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.send("GET", "/health")[0] == 200:
                    return
            self.connection.close()
            time.sleep(0.02)
        self.stderr.seek(0)
        message = self.stderr.read().decode(errors="replace").strip()
        raise Problem(f"not ready, exit status {self.process.poll()}, stderr: {message}")

    def end(self):
        """Asks the server to stop; kills it when it does not. Says whether it stopped by itself."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S_MAX)
            return True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False

    def send(self, method, path, body=None):
        """Status and JSON body of the answer."""
        self.connection.request(method, path, body and body.encode(), {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())

    def call(self, request):
        status, output = self.send("POST", "/invoke", request)
        if status != 200:
            raise Problem(f"status {status}: {json.dumps(output)}")
        return output

    def refuse(self, text):
        self.expect(400, "POST", "/invoke", text)

    def expect(self, expected, method, path, body=None):
        status, output = self.send(method, path, body)
        if status != expected or not isinstance(output, dict) or "error" not in output:
            raise Problem(f"expected status {expected} and an error, got {status}: {json.dumps(output)}")

    def stop(self):
        if not self.end():
            raise Problem(f"still running {STOP_S_MAX} s after SIGTERM")

    def more_checks(self):
        yield "does not know GET /nowhere", attempt(self.expect, 404, "GET", "/nowhere")
        yield "stops on SIGTERM", attempt(self.stop)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


if __name__ == "__main__":
    # Python would end at once and leave the servers behind; an exception closes them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
