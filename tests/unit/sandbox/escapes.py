"""Ways out of a sandbox. Run inside it as: escapes.py CASE. Prints ESCAPED when one worked, DONE when the attempt is over.

Environment: WORK (writable), SECRET (a folder outside, holding secret.txt), STATE (the agent's own), PORT (a TCP and UDP
listener of the test on loopback), SOCK (a unix socket outside), ABSTRACT (an abstract one), VICTIM (a process outside).
"""
import ctypes
import errno
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

WORK, SECRET, STATE = os.environ["WORK"], os.environ["SECRET"], os.environ["STATE"]
PORT, SOCK, ABSTRACT, VICTIM = int(os.environ["PORT"]), os.environ["SOCK"], os.environ["ABSTRACT"], int(os.environ["VICTIM"])
libc = ctypes.CDLL(None, use_errno=True)
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def syscall(number, *args):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_void_p(a) if isinstance(a, int) else a for a in args])
    return result if result >= 0 else -ctypes.get_errno()


def escaped(what):
    print("ESCAPED", what, flush=True)


def attempt(function, *args):
    try:
        function(*args)
        return True
    except (OSError, ValueError, subprocess.SubprocessError):
        return False


def writes(path):
    """Nothing outside may be created or changed."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write("x")
    except OSError:
        return
    escaped(path)


def reads_secret(path=None):
    try:
        with open(path or f"{SECRET}/secret.txt", encoding="utf-8") as file:
            if "the secret" in file.read():
                escaped("read the secret")
    except OSError:
        pass


# Files


@case
def fs_write_outside():
    for path in (f"{SECRET}/new.txt", "/usr/escape", "/etc/escape", "/var/escape", "/escape", f"{os.path.dirname(WORK)}/escape"):
        writes(path)


@case
def fs_dotdot():
    writes(f"{WORK}/../escape")
    reads_secret(f"{WORK}/../{os.path.basename(SECRET)}/secret.txt")


@case
def fs_symlink():
    link = f"{WORK}/link"
    os.symlink(SECRET, link)
    reads_secret(f"{link}/secret.txt")
    writes(f"{link}/new.txt")


@case
def fs_symlink_race():
    """The target changes while it is being opened."""
    safe, link, stop = f"{WORK}/safe", f"{WORK}/race", threading.Event()
    os.makedirs(safe, exist_ok=True)

    def swap():
        while not stop.is_set():
            for target in (safe, SECRET):
                temporary = f"{link}.new"
                attempt(os.symlink, target, temporary)
                attempt(os.rename, temporary, link)

    thread = threading.Thread(target=swap)
    thread.start()
    for _ in range(2000):
        try:
            with open(f"{link}/raced.txt", "w", encoding="utf-8") as file:
                file.write("x")
            with open(f"{link}/secret.txt", encoding="utf-8") as file:
                escaped(file.read())
        except OSError:
            pass
    stop.set()
    thread.join()


@case
def fs_hardlink():
    if attempt(os.link, f"{SECRET}/secret.txt", f"{WORK}/hard"):
        reads_secret(f"{WORK}/hard")
        writes(f"{WORK}/hard")
    if attempt(os.link, "/etc/passwd", f"{WORK}/passwd"):
        try:
            open(f"{WORK}/passwd", "a", encoding="utf-8").close()
            escaped("/etc/passwd is open for writing")
        except OSError:
            pass


@case
def fs_proc_root():
    for pid in ("self", "1", str(os.getppid()), str(VICTIM)):
        reads_secret(f"/proc/{pid}/root{SECRET}/secret.txt")
        writes(f"/proc/{pid}/root/etc/escape")
        reads_secret(f"/proc/{pid}/cwd/{os.path.basename(SECRET)}/secret.txt")


@case
def fs_environ():
    """Secrets in the environment of others."""
    for pid in os.listdir("/proc") if attempt(os.listdir, "/proc") else [str(VICTIM)]:
        if pid.isdigit():
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if b"VICTIMS_SECRET" in file.read():
                        escaped(pid)
            except OSError:
                pass
    if any("VICTIMS_SECRET" in key for key in os.environ):
        escaped("inherited")


@case
def fs_open_by_handle():
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    if syscall(303, -100, b"/", handle, ctypes.byref(mount), 0) >= 0:  # name_to_handle_at
        fd = os.open("/", os.O_RDONLY)
        if syscall(304, fd, handle, os.O_RDONLY) >= 0:
            escaped("open_by_handle_at")


@case
def fs_remount():
    for target in (b"/", b"/usr", SECRET.encode()):
        if libc.mount(b"none", target, None, ctypes.c_ulong(32 | 4096), None) == 0:  # remount, bind
            escaped(target)
    if libc.mount(b"tmpfs", WORK.encode(), b"tmpfs", 0, None) == 0:
        escaped("mounted")


@case
def fs_device_nodes():
    for kind, device in ((0o60000, os.makedev(254, 0)), (0o60000, os.makedev(8, 0)), (0o20000, os.makedev(1, 1))):
        if attempt(os.mknod, f"{WORK}/node{device}{kind}", kind | 0o600, device):
            escaped("mknod")
    for path in ("/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/loop0", "/dev/fuse", "/dev/kvm"):
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                os.close(os.open(path, flags))
                escaped(path)
            except OSError:
                pass
    attempt(os.mkfifo, f"{WORK}/fifo")


@case
def fs_truncate_rename():
    for path in (f"{SECRET}/secret.txt", f"{STATE}/audit.jsonl"):
        if attempt(os.truncate, path, 0):
            escaped("truncated")
        if attempt(os.rename, path, f"{WORK}/moved"):
            escaped("renamed")
        if attempt(os.unlink, path):
            escaped("removed")
    open(f"{WORK}/mine", "w", encoding="utf-8").close()
    if attempt(os.rename, f"{WORK}/mine", f"{SECRET}/mine"):
        escaped("moved out")
    if attempt(os.chmod, f"{SECRET}/secret.txt", 0o666):
        escaped("chmod")


@case
def fs_setuid_file():
    path = f"{WORK}/suid"
    with open(path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n")
    attempt(os.chmod, path, 0o4755)
    if os.stat(path).st_mode & 0o6000:
        escaped("a set-user-id file stays behind")


# Processes


@case
def process_fork_bomb():
    made = 0
    try:
        for _ in range(3000):
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            made += 1
    except OSError:
        pass
    if made > 400:
        escaped(made)


@case
def process_orphan():
    """Left behind in a session of its own; the test looks for it afterwards."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for fd in range(3):
                os.close(fd)
            os.execv("/bin/sleep", ["choir-orphan", "300"])
        os._exit(0)
    time.sleep(0.3)


@case
def process_ptrace():
    for pid in (os.getppid(), 1, VICTIM):
        if syscall(101, 16, pid, 0, 0) >= 0:
            escaped(pid)
    buffer = ctypes.create_string_buffer(8)
    local, remote = struct.pack("QQ", ctypes.addressof(buffer), 8), struct.pack("QQ", 0x400000, 8)
    if syscall(310, VICTIM, local, 1, remote, 1, 0) > 0:  # process_vm_readv
        escaped("process_vm_readv")


@case
def process_kill():
    if attempt(os.kill, VICTIM, signal.SIGTERM):
        escaped("signalled")


@case
def process_signal_flood():
    for pid in range(VICTIM - 5, VICTIM + 6):
        if pid not in (os.getpid(), os.getppid()):
            attempt(os.kill, pid, signal.SIGKILL)
    # os.kill(-1) would also end us where a sandbox has processes of its own; the test looks whether its victim lives


@case
def process_sysrq():
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/sysrq", "/proc/sys/kernel/panic", "/proc/sys/vm/drop_caches"):
        try:
            fd = os.open(path, os.O_WRONLY)
            os.close(fd)
            escaped(path)
        except OSError:
            pass


@case
def process_core_pattern():
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper"):
        try:
            os.close(os.open(path, os.O_WRONLY))
            escaped(path)
        except OSError:
            pass


@case
def process_nice():
    """Nothing runs before others than it was given."""
    if attempt(os.setpriority, os.PRIO_PROCESS, VICTIM, -5) or attempt(os.setpriority, os.PRIO_PROCESS, 0, -20):
        escaped("nice")
    if attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(50)):
        escaped("realtime")


@case
def process_zombies():
    made = 0
    try:
        for _ in range(2000):
            if os.fork() == 0:
                os._exit(0)
            made += 1
    except OSError:
        pass
    if made > 1900:
        escaped(made)


@case
def process_init():
    """Whoever is number 1 here must not be everybody's."""
    if attempt(os.kill, 1, signal.SIGKILL):
        time.sleep(0.5)


# Network


def connects(family, kind, address, protocol=0):
    try:
        with socket.socket(family, kind, protocol) as sock:
            sock.settimeout(2)
            sock.connect(address)
            sock.send(b"x")
            escaped(address)
    except OSError:
        pass


@case
def net_tcp():
    connects(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", PORT))
    connects(socket.AF_INET6, socket.SOCK_STREAM, ("::ffff:127.0.0.1", PORT))


@case
def net_udp():
    """A packet that arrives at the test's listener is one too many: the test looks."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"escaped", ("127.0.0.1", PORT))
    except OSError:
        pass


@case
def net_icmp():
    connects(socket.AF_INET, socket.SOCK_DGRAM, ("8.8.8.8", 0), socket.IPPROTO_ICMP)


@case
def net_raw():
    for protocol in (socket.IPPROTO_RAW, socket.IPPROTO_ICMP, socket.IPPROTO_TCP):
        try:
            socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol).close()
            escaped(protocol)
        except OSError:
            pass


@case
def net_packet():
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)).close()
        escaped("AF_PACKET")
    except OSError:
        pass


@case
def net_netlink():
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
        escaped("AF_NETLINK")
    except OSError:
        pass


@case
def net_vsock():
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
        escaped("AF_VSOCK")
    except OSError:
        pass


@case
def net_abstract_unix():
    connects(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + ABSTRACT)


@case
def net_host_unix():
    for path in (SOCK, "/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private"):
        connects(socket.AF_UNIX, socket.SOCK_STREAM, path)


@case
def net_dns():
    try:
        socket.getaddrinfo("example.com", 80)
        escaped("resolved")
    except OSError:
        pass


@case
def net_loopback_services():
    for port in (8000, 4646, 8500, 8081, 22, PORT):
        connects(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port))


@case
def net_bash_tcp():
    for tool in (["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT} && echo x >&3 && echo ESCAPED"],
                 ["curl", "-s", "-m", "2", f"http://127.0.0.1:{PORT}/"]):
        try:
            done = subprocess.run(tool, capture_output=True, timeout=5, check=False, text=True)
            if done.returncode == 0:
                escaped(tool[0])
        except (OSError, subprocess.SubprocessError):
            pass


# Kernel surface


@case
def kernel_io_uring():
    if syscall(425, 8, ctypes.create_string_buffer(256)) >= 0:
        escaped("io_uring_setup")


@case
def kernel_userns():
    for flags in (0x10000000, 0x10000000 | 0x40000000, 0x20000, 0x40000000):
        if libc.unshare(flags) == 0:
            escaped(hex(flags))


@case
def kernel_mount_api():
    if syscall(430, b"tmpfs", 0) >= 0 or syscall(428, -100, b"/", 1) >= 0:  # fsopen, open_tree
        escaped("new mount API")
    if syscall(155, b"/", b"/") >= 0 or attempt(os.chroot, WORK):
        escaped("pivot_root or chroot")


@case
def kernel_bpf():
    if syscall(321, 0, ctypes.create_string_buffer(struct.pack("IIII", 1, 4, 4, 1) + bytes(112)), 128) >= 0:
        escaped("bpf")


@case
def kernel_perf():
    if syscall(298, ctypes.create_string_buffer(struct.pack("II", 1, 112) + bytes(112)), 0, -1, -1, 0) >= 0:
        escaped("perf_event_open")


@case
def kernel_userfaultfd():
    if syscall(323, 0) >= 0 or syscall(323, 1) >= 0:
        escaped("userfaultfd")


@case
def kernel_keyctl():
    if syscall(248, b"user", b"x", b"y", 1, -2) >= 0 or syscall(250, 0, -3, 0) >= 0:
        escaped("keys")


@case
def kernel_modules():
    if syscall(246, 0, 0, 0, 0) == 0 or syscall(313, 0, b"", 0) == 0 or syscall(176, b"x", 0) == 0:
        escaped("kexec or modules")
    if syscall(169, 0xfee1dead, 672274793, 0x1234567, 0) >= 0:
        escaped("reboot")
    if libc.settimeofday(ctypes.create_string_buffer(16), None) == 0 or libc.sethostname(b"x", 1) == 0:
        escaped("clock or name")


@case
def kernel_clone_flags():
    arguments = struct.pack("QQQQQQQQ", 0x10000000, 0, 0, 0, 17, 0, 0, 0)
    result = syscall(435, ctypes.create_string_buffer(arguments), len(arguments))  # clone3
    if result == 0:
        os._exit(0)
    if result > 0:
        escaped("clone3 with a user namespace")
    result = syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    if result > 0:
        escaped("clone with a user namespace")


@case
def kernel_other_abi():
    """x32 numbers; a kernel without x32 says ENOSYS, a filter that lets them through would do as told."""
    if os.fork() == 0:
        result = syscall(0x40000000 | 41, 2, 1, 0)  # socket
        os._exit(42 if result >= 0 else 0)
    if os.waitstatus_to_exitcode(os.wait()[1]) == 42:
        escaped("x32")


# Resources


@case
def resource_memory():
    blocks = []
    try:
        for _ in range(64):
            blocks.append(bytearray(os.urandom(1) * (32 << 20)))
        escaped(f"{len(blocks) * 32} MB")
    except MemoryError:
        pass


@case
def resource_memory_spread():
    """Many processes that each stay below the limit of one."""
    for _ in range(20):
        if os.fork() == 0:
            block = bytearray(b"x" * (60 << 20))
            time.sleep(20)
            os._exit(len(block) & 1)
    time.sleep(15)
    escaped("1.2 GB in 20 processes")


@case
def resource_disk():
    try:
        with open(f"{WORK}/big", "wb") as file:
            for _ in range(256):
                file.write(bytes(1 << 20))
        escaped("256 MB")
    except OSError:
        pass


@case
def resource_sparse():
    try:
        with open(f"{WORK}/sparse", "wb") as file:
            file.truncate(1 << 40)
        escaped("1 TB sparse")
    except OSError:
        pass


@case
def resource_descriptors():
    held = []
    try:
        for _ in range(5000):
            held.append(os.open("/dev/null", os.O_RDONLY))
        escaped(len(held))
    except OSError:
        pass


@case
def resource_stdout():
    """The test looks how much of it was kept."""
    for _ in range(2000):
        sys.stdout.write("x" * 10000 + "\n")


@case
def resource_cpu():
    while True:
        pass


@case
def resource_recursion():
    def deeper(n):
        return deeper(n + 1) if n else 0

    sys.setrecursionlimit(1 << 30)
    if os.fork() == 0:
        try:
            deeper(1)
        except (RecursionError, MemoryError):
            pass
        os._exit(0)
    os.wait()


# Python's own


@case
def python_ctypes():
    fd = libc.open(f"{SECRET}/secret.txt".encode(), 0)
    if fd >= 0:
        escaped("libc.open")


@case
def python_exec():
    for program in (["/bin/cat", f"{SECRET}/secret.txt"], ["/bin/sh", "-c", f"cat {SECRET}/secret.txt"]):
        done = subprocess.run(program, capture_output=True, check=False)
        if b"the secret" in done.stdout:
            escaped(program[0])


@case
def python_site():
    import site
    for folder in [*site.getsitepackages(), site.getusersitepackages()]:
        if folder.startswith(WORK):
            continue
        attempt(os.makedirs, folder)
        writes(f"{folder}/escape.pth")


@case
def python_secrets():
    for key, value in os.environ.items():
        if any(word in key.upper() for word in ("KEY", "TOKEN", "PASSWORD", "DBUS", "SSH")):
            escaped(f"{key}={value}")


@case
def python_pickle():
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.system, (f"cat {SECRET}/secret.txt && echo ESCAPED",))

    pickle.loads(pickle.dumps(Evil()))


@case
def python_import_path():
    writes("/usr/lib/python3/dist-packages/escape.py")
    writes(f"{sys.prefix}/lib/python3/escape.py")


@case
def python_setuid():
    for program in (["/usr/bin/su", "-c", "id -u"], ["/usr/bin/sudo", "-n", "id", "-u"], ["/usr/bin/passwd", "-S"], ["/bin/mount", "-t", "tmpfs", "x", WORK]):
        try:
            done = subprocess.run(program, capture_output=True, timeout=5, check=False, stdin=subprocess.DEVNULL, text=True)
            if done.returncode == 0 and program[0].endswith(("su", "sudo", "mount")):
                escaped(program)
        except (OSError, subprocess.SubprocessError):
            pass


@case
def python_no_new_privs():
    if libc.prctl(39, 0, 0, 0, 0) != 1:
        escaped("no_new_privs is not set")
    with open("/proc/self/status", encoding="utf-8") as file:
        if "CapEff:\t0000000000000000" not in file.read() and os.getuid() != 0:
            escaped("capabilities")


# The agent's own


@case
def agent_config():
    for name in ("choir.conf", "policy.json", "owners.json", "history.db", "prompts/router.txt"):
        writes(f"{STATE}/{name}")
    for path in ("/etc/systemd/system/escape.service", "/opt/nomad/jobs/escape.nomad", os.path.expanduser("~root/.bashrc")):
        if attempt(os.makedirs, os.path.dirname(path)):
            pass  # inside a folder of its own memory that is thrown away: the test looks outside


@case
def agent_answers_itself():
    for path in ("/ws", "/api/approvals"):
        try:
            with socket.create_connection(("127.0.0.1", PORT), 2) as sock:
                sock.sendall(f"POST {path} HTTP/1.1\r\n\r\n".encode())
                escaped(path)
        except OSError:
            pass
    connects(socket.AF_UNIX, socket.SOCK_STREAM, f"{STATE}/choir.sock")


@case
def agent_forges_audit():
    try:
        with open(f"{STATE}/audit.jsonl", "a", encoding="utf-8") as file:
            file.write("{}\n")
        escaped("audit")
    except OSError:
        pass
    reads_secret(f"{STATE}/secret.txt")


@case
def agent_leaves_a_note():
    """Nothing written to /tmp or shared memory is there for the next call; the test runs this twice."""
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run"):
        path = f"{folder}/choir-note"
        if os.path.exists(path):
            escaped(path)
        attempt(lambda p=path: open(p, "w", encoding="utf-8").close())


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        print("\n".join(CASES))
    else:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            CASES[sys.argv[1]]()
        finally:
            print("DONE", flush=True)
    del errno
