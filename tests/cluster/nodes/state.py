"""Where a lab keeps what it knows: one folder a lab, one folder a node in it. CHOIR_LAB names the lab."""

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import sys
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "choir"
CLUSTER = CACHE / "cluster"
LABS = CLUSTER / "labs"
SUBNET = "10.88.0"
FIRST = 10  # last octet of the first node


class LabError(Exception):
    """One plain sentence for the person, with the next step in it."""


def note(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)


def check_name(name):
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name) or name == "ctl":
        raise LabError(f"'{name}' cannot be the name of a node; use lower-case letters, digits and '-', starting with a letter")


class Lab:
    def __init__(self, name):
        if not re.fullmatch(r"[a-z][a-z0-9]{0,15}", name):
            raise LabError(f"'{name}' cannot be the name of a lab; set CHOIR_LAB to lower-case letters and digits, 16 at most")
        self.name = name
        self.folder = LABS / name
        self.prefix = f"choir-{name}-"  # of network namespaces and control groups

    def path(self, *parts):
        return self.folder.joinpath(*parts)

    @property
    def exists(self):
        return self.path("lab.json").exists()

    def create(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o711)
        if not self.exists:
            write_json(self.path("lab.json"), {"instance": secrets.token_hex(8)})

    @property
    def instance(self):
        return read_json(self.path("lab.json")).get("instance", "")

    @contextlib.contextmanager
    def locked(self):
        LABS.mkdir(parents=True, exist_ok=True)
        with open(LABS / f".{self.name}.lock", "w", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def node_names(self):
        folder = self.path("nodes")
        found = [read_json(p) for p in folder.glob("*/node.json")] if folder.is_dir() else []
        return [n["name"] for n in sorted(found, key=lambda n: n["number"])]

    def node(self, name):
        known = read_json(self.path("nodes", name, "node.json"))
        if not known:
            have = " ".join(self.node_names()) or "no node at all"
            raise LabError(f"lab '{self.name}' has no node '{name}'; it has {have}")
        return known

    def add_node(self, name, **known):
        taken = {self.node(n)["number"] for n in self.node_names()}
        number = next(i for i in range(FIRST, 250) if i not in taken)
        folder = self.path("nodes", name)
        folder.mkdir(parents=True)
        node = {"name": name, "number": number, "ip": f"{SUBNET}.{number}", **known}
        write_json(folder / "node.json", node)
        return node

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists():
            raise LabError(f"{self.folder} could not be removed whole; see what still uses it with: fuser -vm {self.folder}")


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_json(path, value):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
