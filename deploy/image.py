#!/usr/bin/env python3
"""Writes the OCI image of deploy/image.sh to standard output.

    image.py NAME FILES

FILES is what is in the image, owned by root; the working directory is added, owned by the image's user. What the image says of
itself is what the Dockerfile says. The same input gives the same bytes.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path

DOCKERFILE = Path(__file__).resolve().parent.parent / "Dockerfile"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def configuration(text):
    """What the last stage of a Dockerfile sets, one thing per line."""
    config = {"Env": [], "Volumes": {}, "ExposedPorts": {}}
    for line in text[text.rindex("\nFROM "):].splitlines():
        word, _, rest = line.partition(" ")
        if word == "ENV":
            config["Env"].append(rest)
        elif word == "VOLUME":
            config["Volumes"][rest] = {}
        elif word == "EXPOSE":
            config["ExposedPorts"].update({f"{port}/tcp": {} for port in rest.split()})
        elif word in ("ENTRYPOINT", "CMD"):
            config[word.capitalize()] = json.loads(rest)
        elif word in ("USER", "WORKDIR", "STOPSIGNAL"):
            config[{"USER": "User", "WORKDIR": "WorkingDir", "STOPSIGNAL": "StopSignal"}[word]] = rest
    return config


def add(archive, name, content=None, mode=0o755, user=0):
    """A file, or a folder when there is no content. Time 0."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.uid, entry.gid = mode, user, user
    if content is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def layer(files, config):
    """Uncompressed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in sorted(files.rglob("*")):
            name = str(path.relative_to(files))
            if path.is_dir():
                add(archive, name)
            else:
                add(archive, name, path.read_bytes(), 0o755 if os.access(path, os.X_OK) else 0o644)
        add(archive, config["WorkingDir"].lstrip("/"), user=int(config["User"]))
    return out.getvalue()


class Layout:
    """An OCI image layout in a tar file."""

    def __init__(self, out):
        self.archive = tarfile.open(fileobj=out, mode="w")

    def blob(self, media_type, content):
        """Adds it; its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        add(self.archive, f"blobs/sha256/{digest}", content, 0o644)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(content)}

    def document(self, media_type, value):
        """The same for JSON."""
        return self.blob(media_type, json.dumps(value).encode())

    def file(self, name, value):
        """What is looked for by its name."""
        add(self.archive, name, json.dumps(value).encode(), 0o644)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    name, files = sys.argv[1], Path(sys.argv[2])
    own = configuration(DOCKERFILE.read_text())
    content = layer(files, own)
    out = io.BytesIO()
    layout = Layout(out)
    layers = [layout.blob("layer.v1.tar+gzip", gzip.compress(content, mtime=0))]
    config = layout.document("config.v1+json", {
        "architecture": ARCHITECTURES.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": own,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
    })
    manifest = layout.document("manifest.v1+json", {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
    })
    manifest["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    layout.file("index.json", {"schemaVersion": 2, "manifests": [manifest]})
    layout.file("oci-layout", {"imageLayoutVersion": "1.0.0"})
    layout.archive.close()
    sys.stdout.buffer.write(out.getvalue())


main()
