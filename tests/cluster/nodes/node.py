"""One node: an overlay on the shared root, systemd as its first process, its own network and control group."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from . import base, cgroups, network, proxy
from .state import CACHE, CLUSTER, SUBNET, LabError, note, write_json

PROXY_PORT = 3142
CLONE_NEWNS = 0x00020000
BOUND = {"/srv/choir/bin": CLUSTER / "bin",
         "/srv/choir/packages": Path(os.environ.get("CHOIR_LAB_PACKAGES") or CLUSTER / "packages"),
         "/srv/choir/models": CACHE / "models"}
# The lab's own service in every node: what a real machine has and nspawn takes away. Nomad writes into the control
# groups; a program in a sandbox of its own may mount /proc only where a whole one is visible; and /proc/meminfo must
# tell the node's own memory, or everything would be placed as if it had the machine's.
UNIT = """[Unit]
Description=What a real machine has and a lab's node lacks
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/choir-lab-node
[Install]
WantedBy=sysinit.target
"""
SCRIPT = """#!/bin/sh
for folder in /sys/fs/cgroup/*/; do
  mount -o remount,rw,bind "$folder" 2> /dev/null
done
mkdir -p -m 700 /run/choir-lab/proc
mount -t proc proc /run/choir-lab/proc
mount --bind /etc/choir-lab/meminfo /proc/meminfo
exit 0
"""


def prepare(lab, node):
    """Files that differ from node to node, written into its overlay."""
    top = lab.path("nodes", node["name"])
    for folder in ("up", "work", "root"):
        (top / folder).mkdir(exist_ok=True)
    os.chmod(top / "up", 0o755)
    root = top / "root"
    mount_overlay(node, top)
    (root / "etc/hostname").write_text(node["name"] + "\n", encoding="utf-8")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {node['name']}\n", encoding="utf-8")
    home, owner = root / "home/debian", (root / "home/debian").stat()
    keys = home / ".ssh/authorized_keys"
    if not keys.exists():
        keys.parent.mkdir(mode=0o700, exist_ok=True)
        keys.write_text(lab.path("key.pub").read_text(encoding="utf-8"), encoding="utf-8")
        for path, mode in ((keys.parent, 0o700), (keys, 0o600)):
            os.chown(path, owner.st_uid, owner.st_gid)
            path.chmod(mode)
    if node["apt"]:
        one_line, deb822 = base.sources()
        folder = root / "etc/apt/sources.list.d"
        (root / "etc/apt/sources.list").write_text(one_line + "\n" if one_line else "", encoding="utf-8")
        for old in folder.glob("*"):
            old.unlink()
        (folder / "debian.sources").write_text(deb822 + "\n", encoding="utf-8")
        (root / "etc/apt/apt.conf.d/80lab-proxy").write_text(f'Acquire::http::Proxy "http://{SUBNET}.1:{PROXY_PORT}";\n', encoding="utf-8")
    (root / "etc/choir-lab").mkdir(exist_ok=True)
    kb = node["memory_mb"] << 10
    (root / "etc/choir-lab/meminfo").write_text("".join(f"{k + ':':16}{v:8d} kB\n" for k, v in (
        ("MemTotal", kb), ("MemFree", kb * 3 // 4), ("MemAvailable", kb * 4 // 5), ("Buffers", 0), ("Cached", kb // 20),
        ("SwapCached", 0), ("Active", kb // 8), ("Inactive", kb // 16), ("Shmem", 0), ("SwapTotal", 0), ("SwapFree", 0))), encoding="utf-8")
    script = root / "usr/local/sbin/choir-lab-node"
    script.write_text(SCRIPT, encoding="utf-8")
    script.chmod(0o755)
    (root / "etc/systemd/system/choir-lab-node.service").write_text(UNIT, encoding="utf-8")
    wants = root / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(exist_ok=True)
    if not (wants / "choir-lab-node.service").is_symlink():
        (wants / "choir-lab-node.service").symlink_to("../choir-lab-node.service")


def mount_overlay(node, top):
    """Only ever in a mount namespace of our own: the mount goes when the last process in it does."""
    options = f"lowerdir={node['base']},upperdir={top}/up,workdir={top}/work"
    run("mount", "-t", "overlay", "choir-lab", "-o", options, top / "root")


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"'{command[0]}' failed for the node: {done.stderr.strip()}")


def boot_here(lab, name):
    """Becomes the node (in a process started for it): never returns."""
    node = lab.node(name)
    folders = cgroups.create(lab.prefix + name, node["memory_mb"])
    node["groups"] = folders
    write_json(lab.path("nodes", name, "node.json"), node)
    cgroups.enter(folders)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise LabError(f"no mount namespace can be made here: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")
    prepare(lab, node)
    command = ["systemd-nspawn", "-q", "-D", str(lab.path("nodes", name, "root")), "-b", "-M", lab.prefix + name, f"--hostname={name}",
               "--register=no", "--keep-unit", f"--network-namespace-path=/run/netns/{lab.prefix}{name}", "--resolv-conf=off",
               "--timezone=off", "--console=pipe", "--link-journal=no",
               # This machine's own cache outlives the power cuts of a lab, so waiting for the disk proves nothing.
               "--suppress-sync=yes",
               # Nomad's exec driver makes session keys; the rest is for the power agent's programs and for sandboxes
               "--system-call-filter=@keyring landlock_create_ruleset landlock_add_rule landlock_restrict_self bpf perf_event_open",
               "--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN"]
    for inside, outside in BOUND.items():
        outside.mkdir(parents=True, exist_ok=True)
        command.append(f"--bind-ro={outside}:{inside}")
    os.execvp(command[0], command)


def boot(lab, name):
    """Starts the process that becomes the node; it outlives the caller."""
    log = open(lab.path("nodes", name, "console.log"), "ab")  # pylint: disable=consider-using-with
    return subprocess.Popen([sys.executable, base.HERE / "lab", "_boot", name], stdin=subprocess.DEVNULL, stdout=log,  # pylint: disable=consider-using-with
                            stderr=log, start_new_session=True, env={**os.environ, "CHOIR_LAB": lab.name})


def first_process(lab, name):
    """Process id, on this machine, of the node's systemd; 0 while there is none."""
    groups, best, depth = lab.node(name).get("groups") or [], 0, 99
    for pid in cgroups.processes(groups[0]) if groups else []:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except OSError:
            continue
        inside = next((l.split()[1:] for l in status.splitlines() if l.startswith("NSpid:")), [])
        if inside[1:] and inside[-1] == "1" and len(inside) < depth:  # a sandbox in the node has a first process too, deeper down
            best, depth = pid, len(inside)
    return best


def running(lab, name):
    return any(cgroups.populated(g) for g in lab.node(name).get("groups") or [])


def exec_in(lab, name, command):
    """This process becomes a root shell (or the command) in the node; the network may be cut."""
    pid = first_process(lab, name)
    if not pid:
        raise LabError(f"node '{name}' does not run; start it with: lab up {name}")
    cgroups.enter([f"{g}/payload" if os.path.isdir(f"{g}/payload") else g for g in lab.node(name)["groups"]])
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
                   "USER": "root", "SHELL": "/bin/bash", "TERM": os.environ.get("TERM", "dumb")}
    os.execvpe("nsenter", ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--root", "--wdns=/root", "--",
                           *(command or ["/bin/bash", "-l"])], {**environment, "PATH": os.environ["PATH"] + ":" + environment["PATH"]})


def answer(lab, name, *command, seconds=60):
    """Output of a command in the node, as text."""
    done = subprocess.run([sys.executable, base.HERE / "lab", "exec", name, *command], capture_output=True, text=True, check=False,
                          timeout=seconds, stdin=subprocess.DEVNULL, env={**os.environ, "CHOIR_LAB": lab.name})
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def wait_ready(lab, name, process, seconds):
    """Until systemd says that all is started and ssh answers."""
    end, log = time.monotonic() + seconds, lab.path("nodes", name, "console.log")
    while not first_process(lab, name):
        if process.poll() is not None or time.monotonic() > end:
            raise LabError(f"node '{name}' did not start: {tail(log)}; the whole log is {log}")
        time.sleep(0.05)
    if not network_banner(lab, lab.node(name)["ip"], max(1, end - time.monotonic())):
        raise LabError(f"node '{name}' is up but its ssh server did not answer within {seconds} s: {tail(log)}; the log is {log}")
    state = ""
    while time.monotonic() < end:
        state = answer(lab, name, "systemctl", "is-system-running", "--wait")[1]
        if state in ("running", "degraded"):
            break
        time.sleep(0.2)
    if state != "running":
        failed = answer(lab, name, "systemctl", "list-units", "--failed", "--plain", "--no-legend")[1]
        note(f"node '{name}' is {state or 'not ready'}; failed units: {failed or 'none'}")


def tail(path):
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return " / ".join(lines[-2:]) or "its console is empty"


def network_banner(lab, address, seconds):
    """Asked from the control side: a network namespace is a thread's own."""
    answers = []

    def ask():
        network.enter(lab.prefix + "ctl")
        answers.append(network.wait_banner(address, seconds))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join()
    return answers == [True]


def power_off(lab, name, seconds=60):
    """An orderly shutdown."""
    pid = first_process(lab, name)
    if pid:
        answer(lab, name, "systemctl", "poweroff", "--no-block")
    end = time.monotonic() + seconds
    while running(lab, name):
        if time.monotonic() > end:
            raise LabError(f"node '{name}' did not shut down within {seconds} s; cut its power with: lab kill {name}")
        time.sleep(0.1)
    release(lab, name)


def release(lab, name):
    """No process and no group is left of the node; its disk stays."""
    folders = sorted(set(lab.node(name).get("groups") or []) | {f for f in cgroups.find(lab.prefix + name) if Path(f).name == lab.prefix + name})
    cgroups.kill(folders)
    cgroups.remove(folders)


def serve_apt(lab):
    """The caching proxy for the nodes (in a process started for it): never returns."""
    cgroups.enter(cgroups.create(lab.prefix + "ctl", 512))
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    network.enter(lab.prefix + "ctl")
    server = proxy.serve(f"{SUBNET}.1", PROXY_PORT)
    if network.LIBC.setns(here, network.CLONE_NEWNET):
        raise LabError("the proxy cannot go back to the machine's own network")
    server.serve_forever()
