#!/usr/bin/env python3
"""Tests of the chart in deploy/helm/nanofaas, without a cluster.

    check.py [NANOFAAS]

With UPDATE=1 it writes what it would compare: tests/chart/golden, deploy/k8s, and the settings in the values' schema. Needs
helm, which is built together with the test cluster's binaries (tests/k8s/cluster.sh build). Where it cannot be built, the
exit code is 77. NANOFAAS is the server that has to take the settings, target/debug/nanofaas unless it is named.
"""

import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHART = ROOT / "deploy/helm/nanofaas"
SCHEMA = CHART / "values.schema.json"
MANIFESTS = ROOT / "deploy/k8s"
CLUSTER = ROOT / "tests/k8s/cluster.sh"
UPDATE = os.environ.get("UPDATE") == "1"
# What helm assumes of the cluster when there is none.
KUBERNETES = "1.34.0"
# Values of deploy/k8s: functions apart from the server, as namespaces.yaml there has it.
APART = ["--set", "functions.namespace=nanofaas-functions"]

# Settings that values may not contain, and why.
OF_THE_CHART = re.compile(r"(data-dir(-wait)?|ephemeral|server\..*|management\..*|internal\.bind|shutdown\..*|k8s\..*"
                          r"|deployment\.(backends|default-backend))$")
OF_A_SECRET = re.compile(r"delivery\.secret$")
WITHOUT_EFFECT = re.compile(r"console\..*$")

passed, failures = 0, []


def check(name, problem):
    """Counts a test; `problem` is empty when it passed."""
    global passed
    if problem:
        failures.append(name)
        print(f"FAILED {name}\n{problem}\n")
    else:
        passed += 1


def compare(path, text):
    """Text against the file that has to hold it; what is wrong."""
    name = path.relative_to(ROOT)
    if UPDATE:
        path.write_text(text)
        return ""
    known = path.read_text() if path.exists() else ""
    lines = difflib.unified_diff(known.splitlines(), text.splitlines(), str(name), "now", lineterm="")
    difference = "\n".join(lines)
    return f"{difference}\nUPDATE=1 writes it anew" if difference else ""


def helm_path():
    """Where helm is; built if need be."""
    found = subprocess.run([CLUSTER, "binaries"], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode != 0:
        sys.exit(found.returncode)
    return Path(found.stdout.strip()) / "helm"


class Helm:
    """Helm, with folders of its own and no cluster."""

    def __init__(self, path, folder):
        self.path = path
        own = {f"HELM_{kind}_HOME": folder for kind in ("CACHE", "CONFIG", "DATA")}
        self.environment = {**os.environ, **own, "KUBECONFIG": f"{folder}/none"}

    def run(self, *arguments):
        """Exit code, standard output, standard error."""
        ran = subprocess.run([self.path, *map(str, arguments)], capture_output=True, text=True, check=False,
                             env=self.environment)
        return ran.returncode, ran.stdout, ran.stderr

    def template(self, *arguments):
        """The chart as release nanofaas in the namespace nanofaas: manifests, or why not."""
        code, out, error = self.run("template", "nanofaas", CHART, "--namespace", "nanofaas",
                                    "--kube-version", KUBERNETES, *arguments)
        return (out, "") if code == 0 else ("", error)


def settings_of(manifests):
    """The file that the server gets."""
    block = re.search(r"^  nanofaas\.toml: \|\n((?:    .*\n|\n)+)", manifests, re.MULTILINE)
    return "".join(line[4:] + "\n" for line in block.group(1).splitlines()) if block else ""


def without_keys(manifests):
    """The same without what is new each time: certificates that the chart makes."""
    return re.sub(r"^(  (?:ca\.crt|tls\.crt|tls\.key|caBundle): )[A-Za-z0-9+/=]{512,}$", r"\1bWFkZSBieSBoZWxt", manifests,
                  flags=re.MULTILINE)


def without_helm(manifests):
    """The same for people who have no helm."""
    return re.sub(r"^ +(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n", "", manifests, flags=re.MULTILINE)


def kind_of_setting(key, value):
    """A setting's schema, from its value; the server checks the rest."""
    duration = {"type": ["string", "integer"], "pattern": r"^[0-9PT][0-9.A-Za-z ]*$", "minimum": 0}
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, list):
        return {"type": "array", "items": {"type": "string", "minLength": 1}}
    if key.endswith("-bytes"):
        return {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+ *([KMGT]i?)?B?$"}
    if value is None or key.endswith("-ms") or isinstance(value, str) and re.match(r"^\d+(ms|s|m|h|d)$", value):
        return duration
    return {"type": "integer", "minimum": 0} if isinstance(value, int) else {"type": "string"}


def schema_with(settings):
    """The schema with these settings in it."""
    schema = json.loads(SCHEMA.read_text())
    known = [(key, each["value"]) for key, each in settings.items()
             if not any(other.match(key) for other in (OF_THE_CHART, OF_A_SECRET, WITHOUT_EFFECT))]
    schema["properties"]["settings"]["properties"] = {key: kind_of_setting(key, value) for key, value in known}
    return json.dumps(schema, indent=2) + "\n"


def main():
    server = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/nanofaas").resolve()
    bare = {name: value for name, value in os.environ.items() if not name.startswith("NANOFAAS_")}
    if not server.exists():
        sys.exit(f"there is no {server}: cargo build")
    with tempfile.TemporaryDirectory() as folder:
        bare["HOME"] = folder
        helm = Helm(helm_path(), folder)

        listed = subprocess.run([server, "config", "-o", "json"], capture_output=True, text=True, check=True, env=bare)
        check("schema: settings", compare(SCHEMA, schema_with(json.loads(listed.stdout))))
        version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)
        chart = (CHART / "Chart.yaml").read_text()
        wrong = [key for key in ("version", "appVersion") if f"\n{key}: {version}\n" not in chart]
        check("Chart.yaml", f"{' and '.join(wrong)} should be {version}, as in Cargo.toml" if wrong else "")

        for values in sorted((HERE / "values").glob("*.yaml")):
            name = values.stem
            code, out, error = helm.run("lint", "--strict", CHART, "--values", values, "--kube-version", KUBERNETES)
            check(f"lint: {name}", out + error if code else "")
            manifests, error = helm.template("--values", values)
            check(f"golden: {name}", error or compare(HERE / f"golden/{name}.yaml", without_keys(manifests)))
            check_settings(name, server, manifests, folder, bare)
        for values in sorted((HERE / "refused").glob("*.yaml")):
            expected = values.read_text().splitlines()[0].removeprefix("# ")
            manifests, error = helm.template("--values", values)
            said = "it was rendered" if manifests else error
            check(f"refused: {values.stem}", "" if expected in error else f"expected: {expected}\nsaid: {said}")
        manifests, error = helm.template(*APART, "--skip-tests")
        check("deploy/k8s", error or compare(MANIFESTS / "nanofaas.yaml", HEAD + without_helm(manifests)))
    print(f"{passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


HEAD = """# Made from deploy/helm/nanofaas by `UPDATE=1 tests/chart/check.py`: change it there.
"""


def check_settings(name, server, manifests, folder, environment):
    """The server takes the settings that it is given, and has them in the end."""
    file = Path(folder) / f"{name}.toml"
    file.write_text(settings_of(manifests))
    ran = subprocess.run([server, "config", "--config", file, "-o", "json"], capture_output=True, text=True, check=False,
                         env=environment)
    check(f"settings: {name}", ran.stdout + ran.stderr if ran.returncode or not file.stat().st_size else "")


main()
