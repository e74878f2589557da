"""The roots that all nodes share read-only (each node is an overlay on top), kept by the hash of their package list."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import proxy
from .state import CLUSTER, LABS, LabError, note, read_json

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
SUITE = "trixie"
REVISION = 1  # raised when this file makes another root of the same packages
BARE = "systemd-sysv dbus openssh-server sudo iproute2 ca-certificates netbase kmod udev".split()
NEED_MB = 2500


def packages(bare):
    if bare:
        return BARE
    lines = (HERE / "packages.txt").read_text(encoding="utf-8").splitlines()
    return sorted({line.split("#")[0].strip() for line in lines} - {""})


def folder_of(bare):
    key = hashlib.sha256("\n".join([str(REVISION), *packages(bare)]).encode()).hexdigest()[:12]
    return CLUSTER / f"base-{'bare-' if bare else ''}{SUITE}-{key}"


def sources():
    """This machine's own Debian archive, for the suite of the nodes: (one-line, deb822)."""
    sys.path.insert(0, str(ROOT / "tools"))
    from parts import resolve  # pylint: disable=import-outside-toplevel
    texts = [(str(p), p.read_text(encoding="utf-8")) for p in
             [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))] if p.is_file()]
    one_line, deb822 = resolve.derive_sources(texts, resolve.system_codename(), SUITE)
    if not one_line.strip() and not deb822.strip():
        raise LabError("apt's sources here name no Debian archive; the root of the nodes cannot be made")
    return one_line.strip(), deb822.strip()


def ready(bare):
    """The folder of the root; it is made first where it is not there yet."""
    folder = folder_of(bare)
    if (folder / ".complete").exists():
        return folder
    CLUSTER.mkdir(parents=True, exist_ok=True)
    with open(CLUSTER / f".{'bare' if bare else 'base'}-lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("another run makes the root of the nodes; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            make(folder, bare)
            prune(folder)
    return folder


def make(folder, bare):
    if not shutil.which("mmdebstrap"):
        raise LabError("mmdebstrap is missing; install it with: apt-get install mmdebstrap")
    free = shutil.disk_usage(CLUSTER).free >> 20
    if free < NEED_MB:
        raise LabError(f"{NEED_MB} MB must be free in {CLUSTER} for the root of the nodes, and {free} are")
    temporary, log = folder.with_name(folder.name + ".new"), CLUSTER / f"{folder.name}.log"
    shutil.rmtree(temporary, ignore_errors=True)
    one_line, deb822 = sources()
    note(f"making the root of the nodes ({len(packages(bare))} packages and what they need); its log is {log}")
    try:
        with open(log, "wb") as output, proxy.here() as address:
            command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(packages(bare))}",
                       f"--aptopt=Acquire::http::Proxy \"http://{address}\"", '--aptopt=APT::Install-Recommends "false"',
                       "--aptopt=Acquire::Languages \"none\"", "--dpkgopt=path-exclude=/usr/share/doc/*",
                       "--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=path-exclude=/usr/share/locale/*",
                       SUITE, temporary, *[f for f in (one_line, ) if f]]
            if not bare:
                command.insert(1, "--dpkgopt=path-exclude=/usr/share/man/*")
            done = subprocess.run(list(map(str, command)) + (["-"] if deb822 else []), stdout=output, stderr=subprocess.STDOUT,
                                  input=deb822.encode() + b"\n", check=False, env={**os.environ, "LC_ALL": "C"})
        if done.returncode:
            last = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise LabError(f"the root of the nodes could not be made ({' / '.join(last)}); the whole log is {log}")
        finish(temporary)
        (temporary / ".complete").touch()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def finish(root):
    """What a person's Debian has besides packages: the user, and no proxy or key of this machine."""
    inside = ["chroot", str(root)]
    subprocess.run([*inside, "useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo", "debian"], check=True)
    rule = root / "etc/sudoers.d/lab"
    rule.write_text("debian ALL=(ALL) NOPASSWD: ALL\n", encoding="utf-8")
    rule.chmod(0o440)
    for path in ("etc/apt/apt.conf.d/99mmdebstrap", "etc/resolv.conf", "etc/hostname"):
        (root / path).unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("", encoding="utf-8")
    (root / "etc/locale.conf").write_text("LANG=C.UTF-8\n", encoding="utf-8")
    for unit in ("apt-daily.timer", "apt-daily-upgrade.timer", "nginx.service", "systemd-networkd-wait-online.service"):
        if any((root / folder / unit).exists() for folder in ("usr/lib/systemd/system", "etc/systemd/system")):
            subprocess.run([*inside, "systemctl", "-q", "disable", unit], check=False, stderr=subprocess.DEVNULL)


def prune(keep):
    """Older roots that no lab stands on."""
    used = {read_json(p).get("base") for p in LABS.glob("*/nodes/*/node.json")}
    kind = keep.name.rsplit("-", 1)[0]
    for folder in CLUSTER.glob(f"{kind}-*"):
        if folder.is_dir() and folder != keep and str(folder) not in used:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_name(folder.name + ".log").unlink(missing_ok=True)
