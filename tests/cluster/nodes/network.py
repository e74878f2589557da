"""A bridge in a network namespace of its own, a namespace a node; nothing of it is in the machine's own network."""

import ctypes
import os
import socket
import subprocess
import time
from pathlib import Path

from .state import SUBNET, LabError

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def ip(*words, check=True):
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise LabError(f"'ip {' '.join(map(str, words))}' failed: {done.stderr.strip()}")
    return done


def path_of(namespace):
    return Path("/run/netns") / namespace


def namespaces(prefix):
    folder = Path("/run/netns")
    return sorted(p.name for p in folder.iterdir() if p.name.startswith(prefix)) if folder.is_dir() else []


def create_control(lab):
    control = lab.prefix + "ctl"
    if path_of(control).exists():
        return
    ip("netns", "add", control)
    ip("-n", control, "link", "set", "lo", "up")
    ip("-n", control, "link", "add", "br0", "type", "bridge")
    ip("-n", control, "addr", "add", f"{SUBNET}.1/24", "dev", "br0")
    ip("-n", control, "link", "set", "br0", "up")


def create_node(lab, node):
    control, own = lab.prefix + "ctl", lab.prefix + node["name"]
    if path_of(own).exists():
        return
    ip("netns", "add", own)
    ip("-n", own, "link", "set", "lo", "up")
    ip("-n", control, "link", "add", f"v{node['number']}", "type", "veth", "peer", "name", node["interface"], "netns", own)
    ip("-n", control, "link", "set", f"v{node['number']}", "master", "br0", "up")
    ip("-n", own, "addr", "add", f"{node['ip']}/24", "dev", node["interface"])
    ip("-n", own, "link", "set", node["interface"], "up")
    ip("-n", own, "route", "add", "default", "via", f"{SUBNET}.1")


def link(lab, node, up):
    """The node's cable: its end at the switch goes up or down."""
    ip("-n", lab.prefix + "ctl", "link", "set", f"v{node['number']}", "up" if up else "down")


def is_cut(lab, node):
    shown = ip("-n", lab.prefix + "ctl", "-o", "link", "show", f"v{node['number']}", check=False).stdout
    return "state DOWN" in shown


def delete(lab, node):
    ip("-n", lab.prefix + "ctl", "link", "del", f"v{node['number']}", check=False)
    ip("netns", "del", lab.prefix + node["name"], check=False)


def delete_all(lab):
    for name in namespaces(lab.prefix):
        ip("netns", "del", name, check=False)


def enter(namespace):
    """This process goes into that network namespace; the file systems it sees stay the same."""
    try:
        handle = os.open(path_of(namespace), os.O_RDONLY)
    except FileNotFoundError as error:
        raise LabError("this lab is not up; start it with: lab up NAME...") from error
    if LIBC.setns(handle, CLONE_NEWNET):
        raise LabError(f"cannot enter the network of the lab: {os.strerror(ctypes.get_errno())}")
    os.close(handle)


def wait_banner(address, seconds):
    """Until the ssh server there says who it is. Run in the lab's control namespace."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection((address, 22), timeout=2) as connection:
                if connection.recv(4) == b"SSH-":
                    return True
        except OSError:
            time.sleep(0.1)
    return False
