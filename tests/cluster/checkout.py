"""A copy of this checkout in a node, and bootstrap.sh run there as a person would."""
import contextlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import time

from house import ROOT

HOME = "/home/debian/choir"
# What a machine without the internet sets: the two programs are bound into the lab's nodes.
SETTINGS = {"hashicorp_install_method": "present", "hashicorp_bin_dir": "/srv/choir/bin"}
CONTROLLER = "10.88.0.10"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"

# What must not move when bootstrap.sh runs again: configuration, units, tokens, the time since the services started.
PICTURE = """
for f in /etc/consul.d/* /etc/nomad.d/* /etc/choir/tokens/* /etc/systemd/system/choir-* /etc/systemd/system/{consul,nomad}.service \
         /home/debian/choir/inventory.yaml /home/debian/choir/group_vars/all.yaml; do
  [ ! -f "$f" ] || stat -c '%n %i %Y %s %a %U' "$f"
done
systemctl show -p ExecMainStartTimestampMonotonic consul nomad choir-join-server choir-depot
"""
# Everything of ours on a node: files by their names (not what is bound in, logs and models), users, rules, processes.
TRACE = r"""
find / -xdev \( -path /srv -o -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log -o -path /opt/nomad/models -o -name 'choir-lab*' \) -prune -o \
  \( -iname '*choir*' -o -iname '*consul*' -o -iname '*nomad*' -o -iname '*pipecat*' -o -iname 'llama*' \) -print
getent passwd consul nomad llama pipecatapp choir-join; getent group choir
nft list tables | grep choir
ps -eo comm= | grep -xE 'consul|nomad|llama-server|choir.*'
"""
ANSWER = re.compile(r"[A-Za-z]{2}")


def send(lab, node):
    """The files that git knows, or would with the next commit, as they are now; what was sent before stays as it is."""
    if lab.sh(node, f"ls {HOME}/bootstrap.sh 2> /dev/null", check=False):
        return
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".", ":!tests", ":!ui", ":!engine"],
                            capture_output=True, check=True).stdout
    names = sorted({n for n in listed.decode().split("\0") if n and (ROOT / n).exists()})
    tar = subprocess.run(["tar", "-C", ROOT, "-c", "--null", "-T", "-"], input="\0".join(names).encode(), capture_output=True, check=True).stdout
    done = subprocess.run([lab_program(lab), "exec", node, "bash", "-c", f"mkdir -p {HOME} && tar -x -C {HOME} && chown -R debian: {HOME}"], input=tar,
                          capture_output=True, env=lab.env, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for name, value in SETTINGS.items():
        lab.sh(node, f"cd {HOME} && sed -i 's|^{name}:.*|{name}: {value}|' group_vars/all.yaml")


def lab_program(lab):  # pylint: disable=unused-argument
    return str(ROOT / "tests/cluster/lab")


def bootstrap(lab, node, *words, path="", check=True, timeout=1500, env=""):
    """As debian, who may use sudo. path: a folder before all others, for the root half too."""
    command = " ".join(shlex.quote(str(w)) for w in words)
    run = f"cd {HOME} && {env} ./bootstrap.sh {command}"
    if path:  # sudo has a path of its own, so this goes as root directly
        script = f"cd {HOME} && PATH={path}:$PATH ./bootstrap.sh {command}"
    else:
        script = f"runuser -l debian -c {shlex.quote(run)}"
    done = lab.call("exec", node, "bash", "-c", script, timeout=timeout)
    if check:
        log = lab.call("exec", node, "tail", "-30", f"{HOME}/.bootstrap.log").stdout
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    return done


def says(lab, node, text, state="/opt/pipecatapp"):
    """The agent's answer to a typed turn, None while there is none."""
    done = lab.call("exec", node, "choir", "chat", "--once", text, "--url", f"unix:{state}/choir.sock", timeout=300)
    return done.stdout if done.returncode == 0 and ANSWER.search(done.stdout) else None


@contextlib.contextmanager
def model_server(lab):
    """A real llama-server outside of the nodes, at the lab's control side; yields what says how much it has written."""
    server, log, port = CACHE / "engine/11434/bin/llama-server", f"/tmp/{lab.name}-llama.log", "8081"

    def ask(path):
        return lab.call("ctl", "curl", "-fsS", f"http://10.88.0.1:{port}{path}")

    with open(log, "w", encoding="utf-8") as output:
        child = lab.start("ctl", str(server), "-m", str(CACHE / "models" / MODEL), "--host", "10.88.0.1", "--port", port, "-c", "4096", "-t", "1", "--alias", "outside",
                          "--metrics", stdout=output, stderr=output)
    try:
        end = time.monotonic() + 120
        while ask("/health").returncode:
            assert time.monotonic() < end and child.poll() is None, pathlib.Path(log).read_text(encoding="utf-8", errors="replace")[-2000:]
            time.sleep(0.5)
        yield lambda: float(re.search(r"^llamacpp:tokens_predicted_total (\S+)", ask("/metrics").stdout, re.M)[1])
    finally:
        child.terminate()
        child.wait(30)


def with_password(lab, node, command, prompt, password):
    """As somebody who logs in by SSH and has to type the password: what was printed, and how often it was asked for."""
    with subprocess.Popen([str(ROOT / "tests/cluster/lab"), "ssh", node, "-tt", f"cd {HOME} && {command}"], env=lab.env, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        said, asked, end = b"", 0, time.monotonic() + 600
        while chunk := os.read(child.stdout.fileno(), 4096):
            assert time.monotonic() < end, said
            said += chunk
            if said.count(prompt) > asked:
                asked += 1
                child.stdin.write(password.encode() + b"\n")
                child.stdin.flush()
        return child.wait(), said.decode(errors="replace"), asked


def steps(output):
    """[(name, "ok" or "done before" or "FAILED")], as bootstrap.sh printed them."""
    return re.findall(r"^\d\d:\d\d:\d\d +\d+/\d+ +(\S+) +(ok|done before|FAILED)", output, re.M)


def nomad(lab, node, command, **options):
    return lab.call("exec", node, "bash", "-lc", f"PATH=/srv/choir/bin:$PATH; {command}", **options).stdout


def traces(lab, node):
    """What is left after --uninstall, apart from the copy of the checkout, the copy of the state, and models."""
    left = lab.sh(node, TRACE, check=False).splitlines()
    return [l for l in left if l and not l.startswith((HOME, "/var/backups/choir-", "/opt/nomad"))]


def nodes(lab, server="controller"):
    """{name: status} as Nomad's servers see them; a machine that was made anew is there twice for a while, and the new one counts."""
    try:
        return {n["Name"]: n["Status"] for n in sorted(json.loads(nomad(lab, server, "nomad node status -json")), key=lambda n: n["CreateIndex"])}
    except ValueError:
        return {}


class Town:
    """A cluster as a person makes it: bare machines, bootstrap.sh on each. What a kept lab has is taken as it is."""

    def __init__(self, lab):
        self.lab = lab

    def controller(self):
        """What bootstrap.sh printed when it made the controller."""
        lab = self.lab
        lab.up("controller", "--bare")
        send(lab, "controller")
        said = lab.sh("controller", "cat /root/first-run 2> /dev/null", check=False)
        if not said:
            said = bootstrap(lab, "controller", "--role", "controller").stdout
            lab.call("exec", "controller", "tee", "/root/first-run", stdin=said, check=True)
        return said

    def bare(self, node):
        """A new machine of that name, unknown to the controller, without the lab's folders of packages and models."""
        lab = self.lab
        if lab.call("exec", node, "true").returncode == 0:
            lab.sh("controller", f"choir nodes refuse {node} || true")
            lab.call("remove", node, check=True)
        lab.up(node, "--bare")
        lab.sh(node, "umount /srv/choir/packages /srv/choir/models && rmdir /srv/choir/packages /srv/choir/models")  # they come from the controller
        send(lab, node)

    def joins(self, node, token):
        """bootstrap.sh at work there, in the background; its output in a file."""
        log = f"/tmp/{self.lab.name}-{node}.log"
        command = f"cd {HOME} && ./bootstrap.sh --role worker --controller-ip {CONTROLLER} --token {token}"
        with open(log, "w", encoding="utf-8") as output:
            return self.lab.start("exec", node, "runuser", "-l", "debian", "-c", command, stdout=output, stderr=output), log

    def worker(self, node):
        """A machine that has joined."""
        self.controller()
        if nodes(self.lab).get(node) == "ready":
            return
        self.bare(node)
        process, log = self.joins(node, self.lab.sh("controller", "choir nodes token --auto 2> /dev/null"))
        assert process.wait(1500) == 0, open(log, encoding="utf-8").read()


def lab_name(suffix):
    """(name of the lab, whether it stays): CHOIR_LAB_KEEP=NAME keeps what a test makes for the next one."""
    keep = os.environ.get("CHOIR_LAB_KEEP")
    return (keep + suffix, True) if keep else (f"{suffix or 't'}{os.getpid()}", False)
