#!/usr/bin/env python3
"""Makes a Python client of openapi.yaml with openapi-python-client, and imports all of it.

    python3 tests/openapi_client.py

The generator leaves out what it does not understand and goes on; so every operation of the document must have come out
as a module that imports. It is installed into target/openapi-client, which is kept. The last line is `N passed, 0 failed`.
"""

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "openapi-client"
GENERATOR = "openapi-python-client==0.29.1"


def main():
    python = installed()
    document = ROOT / "openapi.yaml"
    operations = re.findall(r"^      operationId: (\w+)$", document.read_text(), re.MULTILINE)
    assert len(operations) > 20, "the document lost its operations"
    with tempfile.TemporaryDirectory() as folder:
        client = Path(folder) / "client"
        made = subprocess.run(
            [python.parent / "openapi-python-client", "generate", "--path", document, "--output-path", client],
            capture_output=True, text=True, check=False,
        )
        if made.returncode or "will not be generated" in made.stdout or "removal of" in made.stdout:
            sys.exit(f"{made.stdout}\n{made.stderr}\nthe generator does not understand all of openapi.yaml")
        package = next(path.parent for path in client.glob("*/client.py"))
        modules = {path.stem: path for path in package.glob("api/*/*.py") if path.stem != "__init__"}
        missing = [operation for operation in operations if snake(operation) not in modules]
        if missing or len(modules) != len(operations):
            sys.exit(f"without a module: {missing}; modules: {sorted(modules)}")
        names = [".".join(path.relative_to(client).with_suffix("").parts) for path in modules.values()]
        names.append(f"{package.name}.models")
        program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
        subprocess.run([python, "-c", program, *names], cwd=client, check=True)
    print(f"{len(operations)} passed, 0 failed")


def snake(name):
    """`getOpenApi` as the generator writes it: `get_open_api`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def installed():
    """The Python of the environment in which the generator is; made when it is not there yet."""
    python = HOME / "bin" / "python"
    mark = HOME / GENERATOR
    if not mark.exists():
        venv.create(HOME, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", GENERATOR], check=True)
        mark.touch()
    return python


if __name__ == "__main__":
    main()
