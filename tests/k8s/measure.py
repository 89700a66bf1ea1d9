#!/usr/bin/env python3
"""What a server on Kubernetes costs and how long things take. Run it in a cluster, with a release build:

    tests/k8s/cluster.sh run tests/k8s/measure.py --server target/release/nanofaas [PART…]

Parts, all of them if none is named:

call    processor time of the server per call at 200 calls/s and in a closed loop, the time that it adds to a call, and the
        same for a POOL function whose endpoint is the same Pod
wake    how long the first call takes when there is no Pod, and how long Kubernetes takes for the same scale by itself
rest    many functions without Pods: time to register them, memory, processor time and requests to the API server at rest, and
        until the next server has adopted them

Processor time is user and system time from /proc. When Kubernetes did what is told by a watch of this program, whose
news have times of arrival: conditions have whole seconds. Requests are counted in the audit log of the API server.
"""

import argparse
import concurrent.futures
import datetime
import json
import statistics
import time
from pathlib import Path

import rig
from rig import Kubernetes, Watch, ask, kubectl, percentile, register, remove, until

PODS, DEPLOYMENTS = "/api/v1/namespaces/default/pods", "/apis/apps/v1/namespaces/default/deployments"
AUDIT = rig.FOLDER / "node1/log/audit.log"
ON_DEMAND = {"strategy": "INTERNAL", "minReplicas": 0, "maxReplicas": 1, "metrics": [{"type": "in_flight", "target": "10"}]}


def say(text):
    print(text, flush=True)


def ms(seconds):
    return f"{seconds * 1000:.0f} ms"


def loaded(*arguments, seconds, pod=None):
    """The summary of a load of so many seconds; processor time per call in microseconds, of the server and of the function."""
    before = program_cpu_s(pod) if pod else 0
    load = rig.Load(options.loadtest or Path(options.server).parent / "loadtest", server,
                    arguments=["--warm-up", "1s", "--duration", f"{seconds}s", *arguments])
    summary = load.wait()
    total = summary["total"]
    assert not total["failed"] and not total["unanswered"], total
    # The function has the calls of the warm-up as well.
    per_second = total["succeeded"] / seconds
    of_function = (program_cpu_s(pod) - before) / (per_second * (seconds + 1)) * 1e6 if pod else None
    return total["latency"], summary["server"]["cpu_us_per_answer"], of_function


def program_cpu_s(pod):
    """User and system time of a Pod's program so far."""
    container = pod["status"]["containerStatuses"][0]["containerID"].rsplit("/", 1)[1]
    tasks = rig.cluster("inside", "node1", "ctr", "--namespace", "k8s.io", "tasks", "ls").splitlines()
    process = next(line.split()[1] for line in tasks if line.startswith(container))
    return rig.cpu_s(rig.cluster("inside", "node1", "cat", f"/proc/{process}/stat"))


def call():
    register("pod")
    pod = json.loads(kubectl("get", "pods", "--output", "json"))["items"][0]
    url = f"http://{pod['status']['podIP']}:8080/invoke"
    register("pool", executionMode="POOL", image=None, endpointUrl=url)
    ways = {
        "pod": ["--function", "pod"],
        "pool": ["--function", "pool"],
        "direct": ["--url", url, "-X", "POST", "-d", '{"input":null}'],
    }
    for load in (["--rate", str(options.rate)], ["--connections", "32"]):
        found = {way: [] for way in ways}
        for number in range(3):
            for way in list(ways)[::1 if number % 2 else -1]:
                found[way].append(loaded(*ways[way], *load, seconds=options.seconds, pod=pod))
        for way, runs in found.items():
            latencies, of_server, of_function = zip(*runs)
            p50, p99 = (statistics.median(each[name] for each in latencies) for name in ("p50_ms", "p99_ms"))
            cpu = f"CPU per call: function {statistics.median(of_function):.1f} µs"
            if way != "direct":
                cpu += f", server {statistics.median(of_server):.1f} µs ({min(of_server):.1f} to {max(of_server):.1f})"
            say(f"{' '.join(load):<16} {way:<7} p50 {p50:.2f} ms, p99 {p99:.2f} ms; {cpu}")
        say("memory after that: %.1f MiB (PSS), %.1f MiB (RSS)" % server.memory_mib())
    ratios = []
    for number in range(options.rounds):
        cpu = {way: loaded(*ways[way], "--connections", "32", seconds=2)[1] for way in ("pod", "pool")[::1 if number % 2 else -1]}
        ratios.append(cpu["pod"] / cpu["pool"])
    low, high = interval(ratios)
    say(f"CPU per call of the server, pod / pool: {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}), median of "
        f"{options.rounds} rounds")
    for name in ("pod", "pool"):
        remove(name)


def interval(values):
    """Where the median lies in 95 of 100 such measurements: order statistics of a binomial distribution."""
    ordered, skip = sorted(values), 0
    reach, each = 0.0, 0.5 ** len(ordered)
    for below in range(len(ordered) // 2):
        reach += each
        if reach > 0.025:
            break
        skip, each = below, each * (len(ordered) - below) / (below + 1)
    return ordered[skip], ordered[-1 - skip]


def wake():
    kubernetes = Kubernetes()
    register("zero", scalingConfig=ON_DEMAND)
    pods, deployments = Watch(kubernetes, PODS), Watch(kubernetes, DEPLOYMENTS)
    connection = rig.Connection(rig.API)

    def is_ready(_, pod):
        return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))

    def runs(_, pod):
        return any("running" in each["state"] for each in pod["status"].get("containerStatuses", []))

    def sleep():
        """No Pod, and none that goes: it is not given the time to end that it would have."""
        rig.scale("zero", 0)
        for pod in kubernetes.ask("GET", f"{PODS}?labelSelector={rig.OURS}")["items"]:
            kubernetes.open("DELETE", f"{PODS}/{pod['metadata']['name']}?gracePeriodSeconds=0").read()
        until("the Pod is gone", 30, lambda: not kubernetes.ask("GET", f"{PODS}?labelSelector={rig.OURS}")["items"])
        # The kubelet is not done with it.
        time.sleep(1)

    calls, before, after, after_ready, bare = [], [], [], [], []
    for number in range(options.wakes):
        sleep()
        began = time.monotonic()
        status, answer = connection.ask("POST", "/v1/functions/zero:invoke", {"input": None})
        ended = time.monotonic()
        assert status == 200, (status, answer)
        scaled = deployments.first(began, 10, lambda _, found: found["spec"].get("replicas"))[0]
        calls.append(ended - began)
        before.append(scaled - began)
        after.append(ended - pods.first(began, 10, runs)[0])
        after_ready.append(ended - pods.first(began, 10, is_ready)[0])
        if number % 4:
            continue
        sleep()
        began = time.monotonic()
        kubernetes.ask("PATCH", f"{DEPLOYMENTS}/fn-zero/scale", {"spec": {"replicas": 1}}, "application/merge-patch+json")
        bare.append(pods.first(began, 10, is_ready)[0] - began)

    def figures(values):
        return f"p50 {ms(percentile(values, 50))}, p99 {ms(percentile(values, 99))}, min {ms(min(values))}, max {ms(max(values))}"
    say(f"first call without a Pod, {len(calls)} times: {figures(calls)}")
    say(f"  from the call until the scale is told: {figures(before)}")
    say(f"  from the news that its program runs until the answer: {figures(after)}")
    say(f"  both, which is all that is not Kubernetes: {figures([one + other for one, other in zip(before, after)])}")
    say(f"  from the news that it is ready until the answer: {figures(after_ready)}")
    say(f"scale 0 to 1 by hand until Ready, {len(bare)} times: {figures(bare)}")
    remove("zero")


def audit(since):
    """Requests of the server that began after that time: verb and resource, how many; and when the last one was answered."""
    counts, seen, last = {}, set(), since
    for line in AUDIT.read_text().splitlines():
        event = json.loads(line)
        at = moment(event["requestReceivedTimestamp"])
        if at < since or event["auditID"] in seen or not event["user"]["username"].endswith(":nanofaas"):
            continue
        seen.add(event["auditID"])
        reference = event.get("objectRef", {})
        what = f"{event['verb']} {reference.get('resource', event['requestURI'])}"
        code = event.get("responseStatus", {}).get("code", 200)
        what += f" {code}" if code >= 300 else ""
        counts[what] = counts.get(what, 0) + 1
        last = max(last, moment(event["stageTimestamp"]))
    return counts, last


def moment(text):
    return datetime.datetime.fromisoformat(text).timestamp()


def told(counts):
    return f"{sum(counts.values())} ({', '.join(f'{count} {what}' for what, count in sorted(counts.items())) or 'none'})"


def rest():
    global server
    server.kill()
    server = rig.Server(options.server, "autoscaler.enabled=true")
    server.start()
    count = options.functions
    say("memory without functions: %.1f MiB (PSS), %.1f MiB (RSS)" % server.memory_mib())
    names = [f"at-rest-{number}" for number in range(count)]
    began, wall, cpu = time.monotonic(), time.time(), server.cpu_s()
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda name: register(name, scalingConfig=ON_DEMAND), names))
    took = time.monotonic() - began
    say(f"{count} functions registered, 16 at a time: {took:.1f} s, {(server.cpu_s() - cpu) / count * 1000:.2f} ms CPU each; "
        f"requests {told(audit(wall)[0])}")
    until("Kubernetes has taken note of all of them", 300, lambda: seen_by_kubernetes() >= count, pause=1)
    quiet(server, "after that")
    server.kill()
    wall, began = time.time(), time.monotonic()
    server.start()
    answers = time.monotonic() - began

    def is_quiet():
        counts, last = audit(wall)
        return counts and time.time() - last > 2 and (counts, last)
    counts, last = until("the server has adopted everything", 120, is_quiet, pause=0.5)
    say(f"restarted: ready for calls after {ms(answers)}, all adopted after {last - wall:.2f} s, {server.cpu_s():.2f} s CPU; "
        f"requests {told(counts)}")
    began = time.monotonic()
    status, answer = ask("POST", f"/functions/{names[-1]}:invoke", {"input": None})
    assert status == 200, (status, answer)
    say(f"the first call of one of them: {ms(time.monotonic() - began)}")
    rig.scale(names[-1], 0)
    quiet(server, "after the restart")


def seen_by_kubernetes():
    """Deployments that its controller has looked at."""
    return kubectl("get", "replicasets", "--output", "name").count("\n")


def quiet(of_server, when):
    """At rest."""
    time.sleep(5)
    wall, cpu = time.time(), of_server.cpu_s()
    time.sleep(options.rest)
    used, minutes = of_server.cpu_s() - cpu, options.rest / 60
    pss, rss = of_server.memory_mib()
    say(f"at rest {when}, {options.rest:.0f} s: {used / minutes:.2f} s CPU per minute ({used / options.rest * 100:.2f} % of a core), "
        f"{pss:.1f} MiB (PSS), {rss:.1f} MiB (RSS); requests {told(audit(wall)[0])}")


PARTS = [call, wake, rest]


def main():
    rig.image()
    server.start()
    for part in PARTS:
        if options.parts and part.__name__ not in options.parts:
            continue
        began = time.monotonic()
        try:
            part()
        except BaseException:
            say(f"FAILED {part.__name__}\n{server.log()}")
            raise
        say(f"({part.__name__}: {time.monotonic() - began:.0f} s)\n")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--server", default=rig.ROOT / "target/release/nanofaas", help="the program")
parser.add_argument("--loadtest", help="the load generator [the one beside the server]")
parser.add_argument("--rate", type=float, default=200, help="calls per second")
parser.add_argument("--seconds", type=int, default=8, help="of each load")
parser.add_argument("--rounds", type=int, default=15, help="of the comparison with POOL")
parser.add_argument("--wakes", type=int, default=50, help="first calls")
parser.add_argument("--functions", type=int, default=1000, help="at rest")
parser.add_argument("--rest", type=float, default=60, help="seconds at rest")
parser.add_argument("parts", nargs="*", choices=[[], *(each.__name__ for each in PARTS)], metavar="PART")
options = parser.parse_args()
# The autoscaler decides how many there are when nobody calls: it is not asked here.
server = rig.Server(options.server, "autoscaler.enabled=true", "scaling.poll-interval-ms=60000")
main()
