#!/usr/bin/env python3
"""Calls at a constant rate while the cluster changes and breaks. Run it in a cluster of two machines:

    tests/k8s/cluster.sh run --with node2 tests/k8s/load.py [--seconds 10] [SCENARIO…]

Calls come at their times whatever happens to those before them, half of them to a function whose calls may be repeated (its
registration has `maxRetries`), half to one whose may not. Each keeps its function for 20 ms. Per scenario it prints what
was sent, what succeeded, failures by code, and how long calls took from the time at which they should have begun. Exit
code 1 when a call fails that a scenario has no excuse for. SCENARIO is any of the functions below that are in SCENARIOS.

With `--seconds 30` the API server is away for 30 s; less makes everything shorter, down to what the cluster needs.
"""

import argparse
import json
import threading
import time
from pathlib import Path

import rig
from rig import ask, cluster, kubectl, ready, register, scale, until

ONCE, AGAIN = "once", "again"
WORK_S = 0.02


class Failed(AssertionError):
    """A scenario has calls that failed and should not."""


def scenario(rate):
    """Half of the calls may be repeated."""
    text = 'warm_up = "0s"\nduration = "1h"\ntimeout = "10s"\n'
    for name in (ONCE, AGAIN):
        text += f"""
[[load]]
name = "{name}"
connections = 256
rate = {rate / 2}
[[load.function]]
name = "{name}"
payload = '{{"input":{{"sleep":{WORK_S}}}}}'
"""
    return text


def under_load(change):
    """The summary of the calls that were made during a change, and for some time before and after."""
    load = rig.Load(options.loadtest or Path(options.server).parent / "loadtest", server, scenario(options.rate))
    began = time.monotonic()
    try:
        time.sleep(options.seconds / 5)
        change()
        time.sleep(max(options.seconds / 5, began + options.seconds - time.monotonic()))
    except BaseException:
        load.process.kill()
        raise
    return load.end()


def report(name, summary, excuse=lambda function, code: False):
    """Prints a line per function; raises when there are failures without an excuse."""
    bad = {}
    for function in summary["functions"]:
        figures, codes = function["figures"], dict(function["figures"]["errors_by_code"])
        lost = figures["unanswered"] - sum(count for code, count in codes.items() if code.islower())
        if lost > 0:
            codes["no answer"] = lost
        text = " ".join(f"{code} {count}" for code, count in sorted(codes.items())) or "-"
        print(f"{name:<16} {function['name']:<6} {figures['sent']:>7} {figures['succeeded']:>9} {text:<30} "
              f"{figures['latency']['p50_ms']:>7.1f} {figures['latency']['p99_ms']:>7.1f} {figures['latency']['max_ms']:>7.0f}",
              flush=True)
        figures_bad = {code: count for code, count in codes.items() if not excuse(function["name"], code)}
        if figures_bad or figures["sent"] == 0:
            bad[function["name"]] = figures_bad
    if bad:
        raise Failed(f"{name}: {bad}")


def replicas(count):
    for name in (ONCE, AGAIN):
        scale(name, count, wait=False)
    for name in (ONCE, AGAIN):
        ready(name, count)
        pods_are(name, count)


def pods_of(name):
    return json.loads(kubectl("get", "pods", "--selector", f"nanofaas.io/function={name}", "--output", "json"))["items"]


def pods_are(name, count):
    """There are so many, with those that go."""
    until(f"{name} has {count} Pods", 120, lambda: len(pods_of(name)) == count, pause=0.3)


def rollout():
    """`kubectl rollout restart`: every Pod is replaced."""
    replicas(3)
    before = {pod["metadata"]["uid"] for name in (ONCE, AGAIN) for pod in pods_of(name)}

    def change():
        kubectl("rollout", "restart", f"deployment/fn-{ONCE}", f"deployment/fn-{AGAIN}")
        for name in (ONCE, AGAIN):
            kubectl("rollout", "status", f"deployment/fn-{name}", "--timeout=120s")
            pods_are(name, 3)
    summary = under_load(change)
    assert not before & {pod["metadata"]["uid"] for name in (ONCE, AGAIN) for pod in pods_of(name)}
    report("rollout restart", summary)


def fewer():
    """From 5 to 1, as the server's own API and autoscaler do it."""
    replicas(5)
    report("scale 5 to 1", under_load(lambda: replicas(1)))


def fewer_by_hand():
    """From 5 to 1 by `kubectl scale`: Kubernetes chooses who goes."""
    replicas(5)

    def change():
        for name in (ONCE, AGAIN):
            kubectl("scale", f"deployment/fn-{name}", "--replicas=1")
        for name in (ONCE, AGAIN):
            pods_are(name, 1)
    report("kubectl scale", under_load(change))


def deleted():
    """`kubectl delete pod`, the only ones."""
    replicas(1)

    def change():
        pods = [f"pod/{pod['metadata']['name']}" for name in (ONCE, AGAIN) for pod in pods_of(name)]
        kubectl("delete", *pods)
        for name in (ONCE, AGAIN):
            ready(name, 1)
    report("delete the Pod", under_load(change))


def drain():
    """`kubectl drain` of a machine: evictions, one at a time for what has a PodDisruptionBudget."""
    replicas(4)

    def there():
        return [pod for name in (ONCE, AGAIN) for pod in pods_of(name) if pod["spec"].get("nodeName") == "node2"]

    def change():
        assert there(), "no Pod is on the machine that is to be emptied"
        kubectl("drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=150s")
        assert not there()
        for name in (ONCE, AGAIN):
            ready(name, 4)
    try:
        report("kubectl drain", under_load(change))
    finally:
        kubectl("uncordon", "node2")


def api_server():
    """The API server is killed, and comes back."""
    replicas(2)

    def change():
        cluster("kill", "apiserver")
        time.sleep(min(options.seconds, 30))
        cluster("start", "apiserver")
    report("API server away", under_load(change))
    # What it could not do meanwhile, it can again.
    replicas(1)


def program():
    """The program of one of two Pods is killed. What ran there fails, unless it may be repeated."""
    replicas(2)

    def change():
        for name in (ONCE, AGAIN):
            pod = pods_of(name)[0]
            container = pod["status"]["containerStatuses"][0]["containerID"].rsplit("/", 1)[1]
            cluster("inside", pod["spec"]["nodeName"], "ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal",
                    "SIGKILL", container)
            until("it was started again", 60, lambda name=name: any(
                pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods_of(name)))
            ready(name, 2)
    summary = under_load(change)
    report("kill a program", summary, lambda function, code: function == ONCE and code == "FUNCTION_CRASHED")
    failed = sum(figures["figures"]["failed"] for figures in summary["functions"])
    # Of all that are in flight at a time the half that was there; and a margin for a machine that stood still.
    most = 10 * max(2, options.rate / 2 * WORK_S)
    if failed > most:
        raise Failed(f"{failed} calls failed, and about {options.rate / 2 * WORK_S:.0f} ran at a time")


def control_plane():
    """The server is killed and started again. Callers that wait for an answer find nobody; what it accepted is not lost."""
    replicas(2)
    accepted, gap, is_over = [], [0.0], threading.Event()

    def enqueue():
        connection, last, due = rig.Connection(rig.API, 10), None, time.monotonic()
        while not is_over.is_set():
            status, answer = connection.ask("POST", f"/v1/functions/{AGAIN}:enqueue", {"input": {"sleep": WORK_S}})
            now = time.monotonic()
            if status == 202:
                if last is not None:
                    gap[0] = max(gap[0], now - last)
                last = now
                accepted.append(answer["executionId"])
            # Not more than so many a second; those that found nobody are not made up for.
            due = max(due + 2 / options.rate, now)
            time.sleep(max(0, due - now))

    thread = threading.Thread(target=enqueue)

    def change():
        thread.start()
        time.sleep(options.seconds / 5)
        server.kill()
        server.start()
        for name in (ONCE, AGAIN):
            ready(name, 2)
        time.sleep(options.seconds / 5)
        is_over.set()
        thread.join()
    try:
        summary = under_load(change)
    finally:
        is_over.set()

    def outcome(execution):
        status, answer = ask("GET", f"/executions/{execution}?wait=5s")
        assert status == 200, f"{execution} was accepted and is lost: {status} {answer}"
        return answer["status"] not in ("queued", "running") and answer["status"]
    ends = {}
    for execution in accepted:
        end = until(f"{execution} ends", 60, lambda execution=execution: outcome(execution))
        ends[end] = ends.get(end, 0) + 1
    away = {"connect_failed", "connection_closed", "no answer", "not_sent"}
    report("kill the server", summary, lambda _, code: code in away)
    print(f"{'':<16} {len(accepted)} more were accepted, and 0 are lost: {ends}; none was accepted for {gap[0]:.2f} s", flush=True)
    if set(ends) != {"success"}:
        raise Failed(f"accepted calls ended otherwise than well: {ends}")


SCENARIOS = [rollout, fewer, fewer_by_hand, deleted, drain, api_server, program, control_plane]


def main():
    rig.image()
    server.start()
    scaling = {"strategy": "NONE", "minReplicas": 2, "maxReplicas": 10}
    register(ONCE, scalingConfig=scaling)
    register(AGAIN, scalingConfig=scaling, maxRetries=3)
    chosen = [each for each in SCENARIOS if not options.scenarios or each.__name__ in options.scenarios]
    failed = []
    print(f"{'':<16} {'':<6} {'sent':>7} {'succeeded':>9} {'failures':<30} {'p50 ms':>7} {'p99 ms':>7} {'max ms':>7}", flush=True)
    for each in chosen:
        try:
            each()
        except Failed as error:
            print(f"FAILED {error}", flush=True)
            failed.append(each.__name__)
        except BaseException:
            print(f"FAILED {each.__name__}\n{server.log()}", flush=True)
            print(kubectl("get", "pods,events", "--output", "wide", check=False)[-6000:], flush=True)
            raise
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    if failed:
        rig.fail(server.log())


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--server", default=rig.ROOT / "target/debug/nanofaas", help="the program")
parser.add_argument("--loadtest", help="the load generator [the one beside the server]")
parser.add_argument("--rate", type=float, default=200, help="calls per second")
parser.add_argument("--seconds", type=float, default=10, help="least time of a scenario")
parser.add_argument("scenarios", nargs="*", choices=[[], *(each.__name__ for each in SCENARIOS)], metavar="SCENARIO")
options = parser.parse_args()
server = rig.Server(options.server)
main()
