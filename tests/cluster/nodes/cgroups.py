"""One control group a node, in every hierarchy: a node sees it as its own root, and one write ends all in it."""

import os
import time
from pathlib import Path

from .state import LabError


def hierarchies():
    """(controllers, where this process's own group is) of every hierarchy that is mounted."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        groups[controllers] = path
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, right = line.split(" - ", 1)
        kind, _, options = right.split(" ", 2)
        mount = Path(left.split()[4])
        if kind == "cgroup2" and "" in groups:
            found.append(("", mount, groups[""]))
        elif kind == "cgroup":
            for controllers, path in groups.items():
                if controllers and set(controllers.split(",")) <= set(options.split(",")):
                    found.append((controllers, mount, path))
    if not any(controllers == "" for controllers, _, _ in found):
        raise LabError("no control groups of version 2 are mounted here (Linux 5.14 or newer, and not inside 'ip netns exec')")
    return found


def only_v2(found):
    return all(controllers == "" for controllers, _, _ in found)


def create(name, memory_mb):
    """Makes the groups and returns their folders, the version 2 one first."""
    found, folders = hierarchies(), []
    for controllers, mount, path in sorted(found, key=lambda h: h[0]):
        parent = mount / path.lstrip("/")
        if only_v2(found):  # a group with processes in it gives its children no controllers: the root does
            parent = mount
            for controller in ("+cpu", "+cpuset", "+memory", "+pids", "+io"):
                attempt(parent / "cgroup.subtree_control", controller)
        folder = parent / name
        folder.mkdir(exist_ok=True)
        if controllers == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):
                (folder / file).write_text((parent / file).read_text(encoding="utf-8"), encoding="utf-8")
        for file in ("memory.limit_in_bytes", "memory.max"):
            if (folder / file).exists():
                (folder / file).write_text(str(memory_mb << 20), encoding="utf-8")
        folders.append(str(folder))
    return folders


def attempt(path, text):
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        pass


def enter(folders):
    for folder in folders:
        Path(folder, "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")


def find(prefix):
    """Every group of ours on this machine, whoever made it."""
    folders = []
    for _, mount, _ in hierarchies():
        for folder, names, _ in os.walk(mount):
            ours = [n for n in names if n.startswith(prefix)]
            folders += [os.path.join(folder, n) for n in ours]
            names[:] = [n for n in names if n not in ours]
    return sorted(set(folders))


def populated(folder):
    try:
        return "populated 1" in Path(folder, "cgroup.events").read_text(encoding="utf-8")
    except OSError:
        return False


def processes(folder):
    """Process ids of a group and of the groups below it."""
    pids = []
    for below, _, _ in os.walk(folder):
        try:
            pids += [int(p) for p in Path(below, "cgroup.procs").read_text(encoding="utf-8").split()]
        except OSError:
            pass
    return pids


def kill(folders, seconds=20):
    """SIGKILL to all in the groups; returns when the last process is gone."""
    second = [f for f in folders if Path(f, "cgroup.kill").exists()]
    for folder in second:
        Path(folder, "cgroup.kill").write_text("1", encoding="utf-8")
    end = time.monotonic() + seconds
    while any(populated(f) for f in second):
        if time.monotonic() > end:
            raise LabError(f"processes in {' '.join(second)} did not end within {seconds} s; they are listed in its cgroup.procs")
        time.sleep(0.02)


def remove(folders):
    for top in folders:
        for folder, _, _ in os.walk(top, topdown=False):
            for _ in range(50):  # the last process may still be on its way out
                try:
                    os.rmdir(folder)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)
