"""parts.lock: one part a line, checked word for word."""

import os
import re
from dataclasses import dataclass

SETS = ("engine", "models", "runtime", "test")


class PartError(Exception):
    """One plain sentence for the person, with the next step in it."""


@dataclass(frozen=True)
class Part:
    kind: str
    package: str
    version: str
    file: str
    size: int
    sha256: str
    licence: str
    set: str
    purpose: str


def parse(path):
    parts = []
    try:
        with open(path, encoding="utf-8") as handle:
            lines = handle.read().splitlines()
    except OSError as error:
        raise PartError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split(None, 8)
        where = f"{os.path.basename(path)} line {number}"
        if len(fields) != 9:
            raise PartError(f"{where}: nine fields expected, {len(fields)} found; the head of the file names them")
        kind, package, version, file, size, sha256, licence, set_, purpose = fields
        if not re.fullmatch(r"pypi|npm|deb:[a-z]+", kind):
            raise PartError(f"{where}: unknown kind '{kind}'; use pypi, npm or deb:SUITE")
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise PartError(f"{where}: the sha256 must be 64 lower-case hex digits")
        if not size.isdigit() or int(size) == 0:
            raise PartError(f"{where}: the size must be a number of bytes")
        if set_ not in SETS:
            raise PartError(f"{where}: unknown set '{set_}'; use one of {', '.join(SETS)}")
        if file != os.path.basename(file) or file.startswith("."):
            raise PartError(f"{where}: '{file}' is not a plain file name")
        if any(p.file == file for p in parts):
            raise PartError(f"{where}: {file} is listed twice")
        parts.append(Part(kind, package, version, file, int(size), sha256, licence, set_, purpose))
    return parts
