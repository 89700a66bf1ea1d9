#!/usr/bin/env python3
"""Writes a container image that holds a program, to standard output: what `docker save` would write.

    image.py NAME PROGRAM[,PROGRAM...] [ARGUMENT...]

The programs lie in / under their own names, and the first is started with the arguments, by user 65532. A program that is linked
dynamically gets the libraries that it asks for beside it, at the places where they are here, and the roots of https: a
client of the API server wants some, although it uses others. The same input gives the same bytes.
"""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
USER = 65532
ROOTS = "/etc/ssl/certs/ca-certificates.crt"


def libraries(program):
    """Absolute paths of the loader and the libraries; none of a static program."""
    found = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return sorted(set(re.findall(r"(/\S+) \(0x", found.stdout)))


def add(archive, name, content, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def layer(files):
    """files: where in the image, and which file it is here."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        # For programs that want to write, when a Pod mounts nothing there.
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(folder)
        for inside, here in files:
            with open(here, "rb") as file:
                add(archive, inside.lstrip("/"), file.read(), 0o755)
    return out.getvalue()


def image(name, programs, arguments):
    inside = ["/" + os.path.basename(program) for program in programs]
    entry = inside[0]
    beside = sorted({library for program in programs for library in libraries(program)})
    if beside and os.path.exists(ROOTS):
        beside.append(ROOTS)
    content = layer([*zip(inside, programs), *((path, path) for path in beside)])
    config = json.dumps({
        "architecture": ARCHITECTURES.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Entrypoint": [entry], "Cmd": arguments, "User": str(USER), "Env": ["PATH=/"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        add(archive, "layer.tar", content)
        add(archive, config_name, config)
        manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
        add(archive, "manifest.json", json.dumps(manifest).encode())
    return out.getvalue()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.stdout.buffer.write(image(sys.argv[1], sys.argv[2].split(","), sys.argv[3:]))
