"""A cluster on three nodes of the lab, as the tests see it: the playbook, the services' own interfaces, the agent."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time

from nodes import network

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLUSTER = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir/cluster"
BIN, PACKAGES = CLUSTER / "bin", CLUSTER / "packages"
NODES = {"controller": "10.88.0.10", "worker1": "10.88.0.11", "worker2": "10.88.0.12"}
# The programs are bound into the nodes, so nothing is copied; the firewall counts the lab's control side as the LAN.
# Measuring three nodes that share two processors takes a minute and says nothing; the long run does it once.
VARIABLES = {"hashicorp_install_method": "present", "hashicorp_bin_dir": "/srv/choir/bin", "nomad_measure_node": os.environ.get("CHOIR_FULL") == "1"}


class OutOfTime(Exception):
    """The whole run must end now (CHOIR_DEADLINE): no fault of what is tested."""


def seconds_left():
    """Until the whole run must have ended, less what taking the nodes down takes."""
    return float(os.environ.get("CHOIR_DEADLINE") or "inf") - time.time() - 30


class Report:
    """Figures of a run, for a person: they are written down and never decide."""

    def __init__(self):
        self.rows = []
        self.begun = time.monotonic()

    def add(self, what, figure):
        self.rows.append((what, figure))
        print(f"  {what}: {figure}", flush=True)

    @contextlib.contextmanager
    def phase(self, what):
        begun = time.monotonic()
        yield
        self.add(what, f"{time.monotonic() - begun:.1f} s")

    def write(self):
        path = os.environ.get("CHOIR_REPORT")
        if not path:
            return
        load = os.getloadavg()[0]
        lines = ["# The cluster's tests", "", f"{os.cpu_count()} processors, load {load:.1f} at the end.", "", "| what | figure |", "|---|---|"]
        lines += [f"| {what} | {figure} |" for what, figure in [*self.rows, ("all of it", f"{(time.monotonic() - self.begun) / 60:.1f} min")]]
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


class Connection(http.client.HTTPConnection):
    """From the lab's control side: the socket is made there, the thread that makes it ends."""

    def __init__(self, namespace, host, port, timeout):
        super().__init__(host, port, timeout=timeout)
        self.namespace = namespace

    def connect(self):
        made = []

        def make():
            try:
                network.enter(self.namespace)
                made.append(socket.create_connection((self.host, self.port), self.timeout))
            except Exception as error:  # pylint: disable=broad-except
                made.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], Exception):
            raise OSError(f"{self.host}:{self.port}: {made[0]}")
        self.sock = made[0]


class House:
    def __init__(self, lab, report):
        self.lab, self.report = lab, report
        self.tokens = {}
        self.inventory = self.packages = None

    def own_packages(self):
        """The nodes see a copy, into which a test may put newer packages; it goes with the lab."""
        self.packages = CLUSTER / "labs" / self.lab.name / "packages"
        if not (self.packages / "set.json").exists():
            shutil.copytree(PACKAGES, self.packages, dirs_exist_ok=True)
        self.lab.env["CHOIR_LAB_PACKAGES"] = str(self.packages)

    def boot(self, *options):
        self.lab.call("up", *NODES, *options, timeout=400, check=True)

    # --- playbooks

    def write_inventory(self):
        folder = pathlib.Path(self.lab.call("ssh-config", check=True).stdout.strip()).parent
        self.inventory = folder / "inventory.yaml"
        self.inventory.write_text(self.lab.call("inventory", check=True).stdout, encoding="utf-8")

    def play(self, playbook, *options, variables=None, timeout=1500):
        """Runs a playbook; returns {host: {ok, changed, failed, unreachable}} and its output."""
        words = ["ctl", "ansible-playbook", "-i", self.inventory, playbook, "-e", json.dumps({**VARIABLES, **(variables or {})}), *map(str, options)]
        folder = pathlib.Path(os.environ["CHOIR_REPORT"]).parent if os.environ.get("CHOIR_REPORT") else self.inventory.parent
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{pathlib.Path(playbook).stem}-{len(self.report.rows)}.log"  # can be read while it runs
        allowed = min(timeout, seconds_left())
        if allowed <= 0:
            raise OutOfTime("the time of the whole run is used up")
        with open(log, "wb") as handle:
            process = subprocess.Popen([str(p) for p in (ROOT / "tests/cluster/lab", *words)], cwd=ROOT, stdout=handle, stderr=subprocess.STDOUT,
                                       stdin=subprocess.DEVNULL, env={**self.lab.env, "ANSIBLE_NOCOLOR": "1"})
            try:
                process.wait(allowed)
            except BaseException as end:
                process.kill()
                process.wait()
                if isinstance(end, subprocess.TimeoutExpired) and allowed < timeout:
                    raise OutOfTime(f"{playbook} had {allowed:.0f} s, the rest of the whole run, and had not ended") from end
                raise
        output = log.read_text(errors="replace")
        recap = {}
        for host, figures in re.findall(r"^(\S+)\s+: (ok=.*)$", output, re.M):
            recap[host] = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", figures)}
        return recap, output

    # --- Nomad and Consul

    def http(self, node, port, path, body=None, token=None, method=None, timeout=10, headers=None):
        connection = Connection(self.lab_namespace(), NODES[node], port, timeout)
        try:
            head = {"Content-Type": "application/json", **({"X-Nomad-Token" if port == 4646 else "X-Consul-Token": token} if token else {}),
                    **(headers or {})}
            connection.request(method or ("GET" if body is None else "POST"), path, None if body is None else json.dumps(body), head)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise OSError(f"{path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise OSError(f"{path}: {answer.status} {text[:300]}")
        return json.loads(text) if text[:1] in "{[\"" or text in ("null", "true", "false") else text

    def lab_namespace(self):
        return f"choir-{self.lab.name}-ctl"

    def token(self, product):
        if product not in self.tokens:
            self.tokens[product] = self.lab.sh("controller", f"cat /etc/{product}.d/management_token")
        return self.tokens[product]

    def nomad(self, path, body=None, node="controller", **options):
        return self.http(node, 4646, path, body, self.token("nomad"), **options)

    def consul(self, path, body=None, node="controller", **options):
        return self.http(node, 8500, path, body, self.token("consul"), **options)

    def passing(self, service):
        """[(node, address, port)] of the healthy ones, by name."""
        return self.passing_from("controller", service)

    def passing_from(self, node, service):
        return [(e["Node"]["Node"], e["Service"]["Address"] or e["Node"]["Address"], e["Service"]["Port"])
                for e in self.consul(f"/v1/health/service/{service}?passing", node=node)]

    def allocations(self, job):
        """Those that run: {node: allocation id}."""
        return {a["NodeName"]: a["ID"] for a in self.nomad(f"/v1/job/{job}/allocations") if a["ClientStatus"] == "running"}

    def scale(self, job, group, count):
        """A deployment may stand in the way for a moment; that is Nomad's answer 400."""
        end = time.monotonic() + 60
        while True:
            try:
                return self.nomad(f"/v1/job/{job}/scale", {"Count": count, "Target": {"Group": group}, "Message": "a test"}, method="PUT")
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    # --- Choir

    def agent_node(self):
        """Where the agent answers; Nomad's list also has those that are on their way out."""
        found = self.passing("pipecat-app")
        return found[0][0] if found else None

    def ask_expert(self, expert, query, node=None, timeout=240):
        """What the agent's tool route_to_expert answers, asked where the agent runs."""
        node = node or self.agent_node()
        words = json.dumps({"expert": expert, "query": query})
        state = self.lab.sh(node, "ls -d /opt/pipecatapp")
        done = self.lab.call("exec", node, "bash", "-c", f"choir tools --json --state {state} call route_to_expert.ask {shlex.quote(words)}", timeout=timeout)
        return done.returncode, done.stdout, done.stderr

    def memory(self, node):
        """Resident memory of each control-plane program in MB, and of the node's control group."""
        rows = self.lab.sh(node, "ps -eo rss=,comm=,args=").splitlines()
        found = {}
        for row in rows:
            rss, comm, args = row.split(None, 2)
            name = comm if comm in ("consul", "systemd", "systemd-journal") else None
            if comm == "nomad":
                name = "nomad " + (args.split()[1] if args.split()[1:2] in (["agent"], ["logmon"], ["executor"]) else "other")
            if name and (name != "systemd" or "--user" not in args):
                found[name] = found.get(name, 0) + int(rss) // 1024
        return found
