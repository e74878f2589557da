"""Looks at a node and changes nothing. One JSON argument with the limits; prints one JSON: {"now": seconds, "checks": [...]}.

A check is {"name", "result": "ok"|"warn"|"fail", "detail"}; what is no "ok" says what to do.
"""
import glob
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

PORTS = {8300: "consul", 8301: "consul", 8500: "consul", 4646: "nomad", 4647: "nomad", 4648: "nomad", 8000: "choir", 8443: "nginx"}
OURS = ("consul", "nomad", "choir", "nginx")


def text_of(path, default=""):
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return default


def run(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def system(_):
    release = dict(line.split("=", 1) for line in text_of("/etc/os-release").splitlines() if "=" in line)
    name = release.get("PRETTY_NAME", "an unknown system").strip('"')
    if not os.path.isdir("/run/systemd/system"):
        return "fail", f"{name} without systemd: install systemd and boot with it"
    if release.get("VERSION_CODENAME") not in ("bookworm", "trixie"):
        return "warn", f"{name}; tested are Debian bookworm and trixie"
    return "ok", name


def writable(limits):
    for folder in ("/etc", "/opt", "/usr/local", "/var/lib", "/etc/systemd/system"):
        try:
            with tempfile.TemporaryFile(dir=folder) as handle:
                handle.write(b"x" * 4096)
                handle.flush()
        except OSError as error:
            return "fail", f"{folder} cannot be written ({error.strerror}): look at `mount` and `df`"
    return "ok", "/etc /opt /usr/local /var/lib"


def disk(limits):
    least = None
    for folder in ("/opt", "/var/lib", "/usr"):
        stat = os.statvfs(folder)
        free = stat.f_bavail * stat.f_frsize // (1 << 20)
        if stat.f_files and stat.f_favail < 2000:
            return "fail", f"{folder} has only {stat.f_favail} inodes left: delete many small files (df -i)"
        if least is None or free < least[0]:
            least = (free, folder)
    free, folder = least
    if free < limits["min_disk_mb"]:
        return "fail", f"{free} MB free on {folder}, {limits['min_disk_mb']} are needed: make room or put /opt on a larger disk"
    return "ok", f"{free} MB free on {folder}"


def memory_mb():
    total = int(re.search(r"MemTotal:\s+(\d+)", text_of("/proc/meminfo", "MemTotal: 0")).group(1)) // 1024
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # a container's own limit
        limit = text_of(path).strip()
        if limit.isdigit():
            total = min(total, int(limit) >> 20)
    return total


def memory(limits):
    total = memory_mb()
    if total < limits["min_ram_mb"]:
        return "fail", f"{total} MB, {limits['min_ram_mb']} are needed"
    if total < limits["small_ram_mb"]:
        return "warn", f"{total} MB: enough for the smallest model only"
    return "ok", f"{total} MB"


def processor(_):
    info = text_of("/proc/cpuinfo")
    name = (re.search(r"model name\s*:\s*(.*)", info) or [None, os.uname().machine])[1]
    flags = set((re.search(r"flags\s*:\s*(.*)", info) or [None, ""])[1].split())
    if os.uname().machine != "x86_64":
        return "fail", f"{os.uname().machine}: Choir is built for x86-64"
    if "ssse3" not in flags:
        return "fail", f"{name} has no SSSE3: a Core 2 or anything newer is needed"
    for flag, label in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("sse4_2", "SSE4.2"), ("sse4_1", "SSE4.1")):
        if flag in flags:
            return "ok", f"{label} ({name})"
    return "ok", f"SSSE3 ({name})"


def names(_):
    hosts = re.findall(r"https?://([A-Za-z0-9.-]+)", "".join(text_of(f) for f in glob.glob("/etc/apt/sources.list*")
                                                             + glob.glob("/etc/apt/sources.list.d/*") if os.path.isfile(f)))
    host = hosts[0] if hosts else socket.gethostname()
    if run("timeout", "8", "getent", "ahosts", host):
        return "ok", host
    return "warn", f"{host} has no address: packages come from the controller only; /etc/resolv.conf names the servers that are asked"


def gateway(_):
    route = re.search(r"default via (\S+) dev (\S+)", run("ip", "-4", "route", "show", "default"))
    if not route:
        return "warn", "no default route: nothing outside the node's own network can be reached"
    address, device = route.groups()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # makes the kernel ask who has the address
        try:
            probe.connect((address, 9))
            probe.send(b"")
        except OSError:
            pass
    for _ in range(15):
        state = run("ip", "neigh", "show", address, "dev", device)
        if re.search(r"REACHABLE|STALE|DELAY|PERMANENT|NOARP", state):
            return "ok", f"{address} through {device}"
        time.sleep(0.2)
    return "warn", f"{address} does not answer on {device}: look at the cable and at `ip neigh`"


def answers(address, port):
    """A refusal is an answer, too: the machine is there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect((address, port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return True


def controllers(limits):
    others = [a for a in limits["servers"] if a != limits["address"]]
    silent = [a for a in others if not any(answers(a, port) for port in (22, 8000, 8300))]
    if silent:
        return "fail", f"no answer from {', '.join(silent)}: is it on, and on the same network as {limits['address']}?"
    return "ok", ", ".join(others) or "this is the only one"


def address(limits):
    card = card_of(limits["address"])
    if not card:
        return "fail", f"no interface has the address {limits['address']}: set ansible_host or advertise_ip of this node in the inventory"
    return "ok", f"{limits['address']} on {card}"


def card_of(wanted):
    for card in json.loads(run("ip", "-j", "-4", "address") or "[]"):
        if any(entry.get("local") == wanted for entry in card.get("addr_info", [])):
            return card["ifname"]
    return None


def link(limits):
    card = card_of(limits["address"])
    if not card:
        return "ok", "unknown"
    if os.path.isdir(f"/sys/class/net/{card}/wireless"):
        return "warn", f"{card} is Wi-Fi: answers will stutter; use a cable"
    speed = text_of(f"/sys/class/net/{card}/speed").strip()
    if speed.lstrip("-").isdigit() and 0 < int(speed) < 1000:
        return "warn", f"{card} runs at {speed} Mbit/s: models load slowly; use a gigabit switch and cable"
    return "ok", f"{card}, {speed} Mbit/s" if speed.isdigit() else card


def listeners():
    """Port -> program for everything that listens; root sees all of it."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in text_of(table).splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes[fields[9]] = int(fields[1].rsplit(":", 1)[1], 16)
    found = dict.fromkeys(inodes.values(), "another program")
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            inode = re.match(r"socket:\[(\d+)\]", os.readlink(path))
        except OSError:
            continue
        if inode and inode.group(1) in inodes:
            found[inodes[inode.group(1)]] = text_of(f"/proc/{path.split('/')[2]}/comm").strip()
    return found


def ports(_):
    taken = [f"{port} ({program})" for port, program in sorted(listeners().items()) if port in PORTS and not program.startswith(OURS)]
    if taken:
        return "fail", f"in use by others: {', '.join(taken)}: stop them or move them to another port"
    return "ok", "free or ours"


def time_service(_):
    for unit in ("systemd-timesyncd", "chrony", "chronyd", "ntpsec", "ntp", "openntpd"):
        if run("systemctl", "is-active", unit).strip() == "active":
            return "ok", unit
    return "warn", "nothing keeps the clock: systemd-timesyncd is installed by role common"


def part(limits):
    """What this node is already: a server that would be set up as a worker takes the others' quorum away."""
    is_server = re.search(r"^server *= *true", text_of(limits.get("consul_file", "/etc/consul.d/consul.hcl")), re.M)
    controller = str(limits.get("controller", True)).lower() == "true"  # an older Ansible makes strings of these, too
    if is_server and not controller:
        return "fail", ("it is a server of Consul and Nomad, and the inventory calls it a worker; a server cannot be made a worker: put it back "
                        "among the controller_nodes (tools/inventory move), or take all nodes away with uninstall.yaml")
    return "ok", f"{'controller' if controller else 'worker'}{', a server now' if is_server else ''}"


CHECKS = [("system", system), ("writable", writable), ("disk", disk), ("memory", memory), ("cpu", processor), ("part", part), ("address", address),
          ("link", link), ("gateway", gateway), ("dns", names), ("controllers", controllers), ("ports", ports), ("time service", time_service)]


def main():
    limits = json.loads(sys.argv[1])
    limits.update({key: int(value) for key, value in limits.items() if key.endswith("_mb")})  # an older Ansible makes strings of numbers
    checks = []
    for name, check in CHECKS:
        try:
            result, detail = check(limits)
        except Exception as error:  # a check that breaks must not hide the others
            result, detail = "fail", f"could not be looked at: {error!r}"
        checks.append({"name": name, "result": result, "detail": detail})
    print(json.dumps({"now": time.time(), "checks": checks}))


if __name__ == "__main__":
    main()
