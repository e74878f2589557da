"""Joining against the real service: what is unproved, malformed, expired or played again changes nothing; one machine goes the
whole way from its token to its bundle with the programs that a worker runs. The cluster's own secrets come from a stand-in."""
import hashlib
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import tarfile
import time
import urllib.error
import urllib.request

import pytest
import yaml
from conftest import BUILD, ROOT

MACHINE = "00112233445566778899aabbccddeeff"
KEY = "ab" * 32
INVENTORY = """\
all:
  children:
    controller_nodes:
      hosts:
        boss:
          ansible_host: 10.0.0.11   # fixed
          ansible_connection: local
    worker_nodes:
      hosts: {}   # nobody yet
"""
ACL = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/acl.log"
[ ! -e "$(dirname "$0")/acl.broken" ] || { echo "Consul has no leader." >&2; exit 1; }
[ "$1" = forget ] || echo '{"gossip_key":"g","tokens":{"consul-agent":"only-'"$2"'"},"nomad_tokens":{"pipecat-app":"n"}}'
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """`choir nodes serve` with folders of its own."""

    def __init__(self, folder):
        self.folder, self.state, self.ready = folder, folder / "state", folder / "ready"
        self.ready.mkdir()
        self.inventory = folder / "inventory.yaml"
        self.inventory.write_text(INVENTORY)
        self.acl = folder / "acl"
        self.acl.write_text(ACL)
        self.acl.chmod(0o755)
        self.port, self.process = free_port(), None

    def start(self):
        self.log = open(self.folder / "service.log", "ab")
        self.process = subprocess.Popen([BUILD / "choir", "nodes", "serve", "--state", self.state, "--ready", self.ready, "--port", str(self.port)],
                                        stdout=subprocess.PIPE, stderr=self.log)
        assert b"https://" in self.process.stdout.readline()
        end = time.monotonic() + 60
        while True:
            try:
                return self if self.call("GET", "/health")[0] == 200 else None
            except OSError:
                assert time.monotonic() < end, (self.folder / "service.log").read_text()
                time.sleep(0.1)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(30) == 0
            self.log.close()

    def context(self):
        return ssl.create_default_context(cafile=self.state / "tls/ca.crt")

    def call(self, method, path, body=None, key=None, raw=None):
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.context()) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def choir(self, *words, good=True):
        done = subprocess.run([BUILD / "choir", "nodes", *words, "--state", self.state], capture_output=True, text=True, timeout=60)
        assert not good or done.returncode == 0, done.stderr
        return done

    def token(self, *words):
        return self.choir("token", *words).stdout.strip()

    def kept(self):
        """Everything a wrong call must leave alone."""
        document = json.loads((self.state / "join.json").read_text()) if (self.state / "join.json").exists() else {}
        return document, sorted(p.name for p in (self.state / "approved").iterdir()), self.inventory.read_text(), sorted(p.name for p in self.ready.iterdir())

    def apply(self):
        return subprocess.run([ROOT / "tools/join-apply", "--state", self.state, "--ready", self.ready, "--acl", self.acl, "--firewall", self.folder / "none", "--drain", self.folder / "drain",
                               "--packages", self.folder,
                               "--inventory", self.inventory], capture_output=True, text=True, timeout=60)

    def join(self, *words, machine="m1"):
        env = {**os.environ, "CHOIR_JOIN_DIR": str(self.folder / machine), "CHOIR_JOIN_WORK": str(self.folder / f"{machine}-work"),
               "CHOIR_JOIN_LOG": str(self.folder / f"{machine}.log"), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        # under a name of its own: the service refuses a worker that is called like the controller
        apart = ["unshare", "--uts", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "sh", "-c", 'hostname "$0" && exec "$@"', "worker-" + machine]
        return subprocess.run([*apart, ROOT / "tools/choir-join", *words], capture_output=True, text=True, timeout=120, env=env)

    def register(self, token, machine="m1", controller="127.0.0.1"):
        path = self.folder / "token"
        path.write_text(token)
        return self.join("register", "--controller", controller, "--port", str(self.port), "--token-file", path, machine=machine)

    def nodes(self):
        return json.loads(self.choir("requests", "--json").stdout)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = Service(tmp_path_factory.mktemp("join"))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def fresh(tmp_path):
    made = Service(tmp_path)
    try:
        yield made.start()
    finally:
        made.stop()


def asked(proof, **more):
    return {"hostname": "atlas", "machine_id": MACHINE, "key": KEY, "address": "10.0.0.12", "cpu": "core2", "ram_mb": 8000, "token": proof} | more


def test_the_token_carries_the_fingerprint_of_the_certificate(service):
    token = service.token()
    pem = (service.state / "tls/ca.crt").read_text()
    assert re.fullmatch(r"cj1\.[0-9a-f]{48}\.[0-9a-f]{64}", token)
    assert token.endswith("." + hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest())
    assert service.call("GET", "/choir-ca.crt")[1].decode() == pem
    assert token.split(".")[1] not in (service.state / "join.json").read_text()
    assert (service.state / "join.json").stat().st_mode & 0o777 == 0o600
    assert (service.state / "join.sock").stat().st_mode & 0o777 == 0o600


def test_what_is_unproved_changes_nothing(service):
    service.token()
    before = service.kept()
    for method, path, body in [("GET", "/api/join/nodes", None), ("GET", "/api/join/tokens", None), ("POST", "/api/join/tokens", {"minutes": 5, "auto": True}),
                               ("POST", "/api/join/approve", {"host": "atlas"}), ("POST", "/api/join/refuse", {"host": "atlas"}),
                               ("POST", "/api/join/tokens/revoke", {"id": "0"}), ("GET", "/api/provisioning/status", None),
                               ("GET", "/api/provisioning/status/boss", None), ("GET", "/api/join/status", None), ("GET", "/api/join/bundle", None),
                               ("POST", "/api/join/report", {"status": "joined"}), ("POST", "/api/join/address", {"address": "10.0.0.9"})]:
        for key in (None, KEY, "", "x" * 5000):
            assert service.call(method, path, body, key)[0] in (401, 403), path
    assert service.call("GET", "/api/join/nodes", key=KEY)[0] == 403
    assert service.call("DELETE", "/api/join")[0] in (403, 405) and service.call("GET", "/metrics")[0] in (403, 404)
    assert service.kept() == before


def test_the_original_call_is_answered_and_does_nothing(service):
    service.token()
    before = service.kept()
    status, body = service.call("POST", "/api/ready-for-provisioning", {"ip_address": "10.0.0.66", "hostname": "evil"})
    assert status == 202 and json.loads(body)["status"] == "pending"
    assert service.kept() == before and "evil" not in json.dumps(before[0])


@pytest.mark.parametrize("change", [{"token": "cj1." + "0" * 48 + "." + "0" * 64}, {"token": ""}, {"token": None}, {"token": 7}, {"hostname": "a;reboot"},
                                    {"hostname": "{{ x }}"}, {"hostname": "all"}, {"address": "10.0.0.1/8"}, {"machine_id": "short"}, {"key": "zz" * 32},
                                    {"ram_mb": -5}, {"mac": "nonsense"}])
def test_malformed_requests_change_nothing(fresh_token, change):
    service, token = fresh_token
    before = service.kept()
    status, body = service.call("POST", "/api/join", asked(token, **change))
    assert status in (400, 403) and len(json.loads(body)["error"]["message"]) > 10
    assert service.kept() == before


@pytest.fixture(scope="module")
def fresh_token(tmp_path_factory):
    made = Service(tmp_path_factory.mktemp("join-malformed"))
    try:
        made.start()
        yield made, made.token()
    finally:
        made.stop()


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"token":"a","token":"b"}', b"[" * 4000, b"\xff\xfe", b"x" * 20000])
def test_what_is_no_json_changes_nothing(service, raw):
    service.token()
    before = service.kept()
    assert service.call("POST", "/api/join", raw=raw)[0] in (400, 413)
    assert service.kept() == before


def test_a_token_serves_one_machine_once(fresh):
    token = fresh.token()
    assert fresh.call("POST", "/api/join", asked(token))[0] == 202
    before = fresh.kept()
    assert fresh.call("POST", "/api/join", asked(token))[0] == 202  # its answer was lost: the same request
    for other in ({"key": "cd" * 32}, {"machine_id": "1" * 32}, {"machine_id": "1" * 32, "hostname": "other", "key": "cd" * 32}):
        status, body = fresh.call("POST", "/api/join", asked(token, **other))
        assert status == 403 and b"used already" in body
    assert fresh.kept() == before


def test_an_expired_token_and_a_restart(fresh):
    token, good = fresh.token("--minutes", "1"), fresh.token()
    fresh.call("POST", "/api/join", asked(good))
    fresh.stop()
    path = fresh.state / "join.json"
    document = json.loads(path.read_text())
    document["tokens"][0]["expires"] -= 61
    path.write_text(json.dumps(document))
    fresh.start()
    before = fresh.kept()
    status, body = fresh.call("POST", "/api/join", asked(token, machine_id="2" * 32, hostname="late"))
    assert status == 403 and b"expired" in body
    assert fresh.kept() == before
    assert json.loads(fresh.call("GET", "/api/join/status", key=KEY)[1])["status"] == "pending"  # requests outlive a restart


def test_wrong_tokens_are_slowed_down(fresh):
    codes = [fresh.call("POST", "/api/join", asked("cj1." + "0" * 48 + "." + "0" * 64))[0] for _ in range(8)]
    assert codes[0] == 403 and codes[-1] == 429


def test_a_damaged_file_stops_the_service(tmp_path):
    (tmp_path / "join.json").write_text('{"tokens": [')
    done = subprocess.run([BUILD / "choir", "nodes", "serve", "--state", tmp_path, "--ready", tmp_path, "--port", "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "damaged" in done.stderr


def test_another_machine_is_not_believed(fresh):
    token = fresh.token()
    wrong = token.rsplit(".", 1)[0] + "." + "0" * 64
    before = fresh.kept()
    done = fresh.register(wrong)
    assert done.returncode == 1 and "not the controller that made this token" in done.stderr
    assert fresh.kept() == before and not (fresh.folder / "m1").exists()
    done = fresh.register("rubbish")
    assert done.returncode == 1 and "sudo choir nodes token" in done.stderr
    done = subprocess.run([ROOT / "tools/choir-join", "register", "--controller", "127.0.0.1", "--port", str(free_port()), "--token-file", fresh.folder / "token"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1


def test_the_whole_way_of_a_worker(fresh):
    (fresh.folder / "bin").mkdir()
    (fresh.folder / "SHA256SUMS").write_text("f" * 64 + "  choir-node_1_amd64.deb\n")
    playbook = fresh.folder / "bin/ansible-playbook"
    playbook.write_text("#!/bin/sh\necho \"$@\" > \"$CHOIR_JOIN_WORK/../ran\"; mkdir -p ../told; cp join.json inventory.yaml ../told\n"
                        "echo 'TASK [consul : Configuration] ***'\n[ ! -e ../stop ] || { echo 'fatal: [x]: FAILED! => {\"msg\": \"no leader in 120 s\"}'; exit 2; }\n")
    playbook.chmod(0o755)
    for program, text in ((fresh.folder / "bin/dpkg-query", "echo 0.1.0+7.abc"), (fresh.folder / "drain", 'echo "$@" >> "$(dirname "$0")/drain.log"')):
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    done = fresh.register(fresh.token())
    assert done.returncode == 0 and done.stdout.strip() == "pending", done.stderr
    node = fresh.nodes()[0]
    assert node["status"] == "pending" and node["address"] == "127.0.0.1" and "key_sha256" not in node
    host = node["hostname"]
    assert host in fresh.choir("pending").stdout
    assert fresh.kept()[1] == [] and fresh.apply().returncode == 0  # nobody said yes: nothing to do
    assert yaml.safe_load(fresh.inventory.read_text())["all"]["children"]["worker_nodes"]["hosts"] == {}

    (fresh.folder / "acl.broken").touch()
    assert "approved" in fresh.choir("approve", host).stdout
    assert fresh.choir("approve", host, good=False).returncode == 1
    assert fresh.apply().returncode == 1
    assert "Consul has no leader" in fresh.choir("requests").stdout
    (fresh.folder / "acl.broken").unlink()
    fresh.choir("approve", host)
    applied = fresh.apply()
    assert applied.returncode == 0, applied.stderr
    workers = yaml.safe_load(fresh.inventory.read_text())["all"]["children"]["worker_nodes"]["hosts"]
    assert workers[host]["ansible_host"] == "127.0.0.1" and "# fixed" in fresh.inventory.read_text()
    bundle = next(fresh.ready.glob("*.tar.gz"))
    assert bundle.stat().st_mode & 0o777 in (0o600, 0o640)
    names = tarfile.open(bundle).getnames()
    assert {"playbook.yaml", "ansible.cfg", "join.json", "inventory.yaml", "group_vars/all.yaml", "ansible/roles/consul/tasks/main.yaml"} <= set(names)
    assert not [n for n in names if n.startswith("/") or ".." in n or n.endswith(".pyc")]

    (fresh.folder / "stop").touch()
    done = fresh.join("run")
    assert done.returncode == 1 and "no leader in 120 s" in done.stderr
    shown = fresh.choir("requests").stdout
    assert "failed" in shown and "consul" in shown and "no leader in 120 s" in shown
    (fresh.folder / "stop").unlink()
    done = fresh.join("run")
    assert done.returncode == 0 and done.stdout.rstrip().endswith("choir-join: joined"), done.stderr
    assert fresh.nodes()[0]["status"] == "joined"
    assert not (fresh.folder / "drain.log").exists() and fresh.apply().returncode == 0
    assert (fresh.folder / "drain.log").read_text() == f"version {host} 0.1.0+7.abc\n"  # what Nomad is told
    assert f"--limit {host} -e @join.json" in (fresh.folder / "ran").read_text()
    told = json.loads((fresh.folder / "told/join.json").read_text())
    assert told["packages_sums"] == {"choir-node_1_amd64.deb": "f" * 64}
    assert told["cluster_servers"] == ["10.0.0.11"] and told["cluster_secrets"]["tokens"]["consul-agent"].startswith("only-")
    machines = json.loads((fresh.folder / "told/inventory.yaml").read_text())["all"]["children"]
    assert machines["worker_nodes"]["hosts"][host]["ansible_connection"] == "local"
    assert machines["controller_nodes"]["hosts"] == {"boss": {"ansible_host": "10.0.0.11"}}
    assert not (fresh.folder / "m1-work").exists()  # the secrets do not lie about

    before = fresh.kept()
    assert fresh.join("run").returncode == 0  # the next boot: the same address, so nothing changes
    assert fresh.kept() == before
    key = (fresh.folder / "m1/key").read_text().strip()
    assert fresh.call("POST", "/api/join/address", {"address": "10.0.0.77"}, key)[0] == 200
    assert fresh.call("POST", "/api/join/address", {"address": "10.0.0.77; x"}, key)[0] == 400
    assert fresh.apply().returncode == 0
    assert yaml.safe_load(fresh.inventory.read_text())["all"]["children"]["worker_nodes"]["hosts"][host]["ansible_host"] == "10.0.0.77"
    # whatever was said before, at its start it tells its own, and sets itself up for it
    (fresh.folder / "m1/address").write_text("10.0.0.77\n")
    (fresh.folder / "ran").unlink()
    assert fresh.call("POST", "/api/join/address", {"address": "127.0.0.1"}, key)[0] == 200
    assert fresh.apply().returncode == 0
    done = fresh.join("run")
    assert done.returncode == 0 and "the address was 10.0.0.77, it is 127.0.0.1 now" in done.stdout and "joined" in done.stdout, done.stderr
    assert (fresh.folder / "ran").exists() and yaml.safe_load(fresh.inventory.read_text())["all"]["children"]["worker_nodes"]["hosts"][host]["ansible_host"] == "127.0.0.1"
    fresh.choir("refuse", host)
    assert fresh.apply().returncode == 0
    assert yaml.safe_load(fresh.inventory.read_text())["all"]["children"]["worker_nodes"]["hosts"] == {}
    assert f"forget {host}" in (fresh.folder / "acl.log").read_text()
    assert fresh.call("GET", "/api/join/bundle", key=key)[0] == 401
    assert fresh.join("run").returncode == 3


def test_auto_join_needs_no_yes_and_known_machines_are_updated(fresh):
    assert fresh.call("POST", "/api/join", asked(fresh.token("--auto")))[0] == 202
    assert fresh.apply().returncode == 0
    assert json.loads(fresh.call("GET", "/api/join/status", key=KEY)[1])["status"] == "ready"
    status, body = fresh.call("POST", "/api/join", asked(fresh.token("--auto"), hostname="atlas2", address="10.0.0.13", key="cd" * 32))
    assert status == 202 and json.loads(body)["status"] == "approved"
    assert fresh.call("GET", "/api/join/status", key=KEY)[0] == 401
    assert fresh.apply().returncode == 0
    workers = yaml.safe_load(fresh.inventory.read_text())["all"]["children"]["worker_nodes"]["hosts"]
    assert list(workers) == ["atlas2"] and workers["atlas2"]["ansible_host"] == "10.0.0.13"
    status, body = fresh.call("POST", "/api/join", asked(fresh.token("--auto"), machine_id="3" * 32, hostname="atlas2", key="ef" * 32))
    assert status == 409 and b"hostnamectl" in body


def test_the_root_half_believes_nothing(fresh):
    spool, target = fresh.state / "approved", fresh.folder / "secret"
    target.write_text("root only")
    good = {"what": "join", "id": "0" * 16, "hostname": "atlas", "address": "10.0.0.5", "machine_id": MACHINE, "mac": ""}
    for number, change in enumerate([{"hostname": "../../etc"}, {"hostname": "boss{{x}}"}, {"id": "../../x"}, {"id": "0" * 15 + "/"}, {"address": "10.0.0.5 x=y"},
                                     {"what": "bundle"}, {"what": "__class__"}, {"machine_id": 5},
                                     {"what": "version", "version": "$(id)"}, {"what": "version", "version": "-e x"}]):
        (spool / f"bad{number}.json").write_text(json.dumps({**good, **change}))
    (spool / "link.json").symlink_to(target)
    (spool / "long.json").write_text(" " * 10000 + json.dumps(good))
    os.mkfifo(spool / "pipe.json")
    before = fresh.inventory.read_text()
    done = fresh.apply()
    assert done.returncode == 1 and fresh.inventory.read_text() == before
    assert sorted(spool.iterdir()) == [] and sorted(fresh.ready.iterdir()) == [] and target.read_text() == "root only"
    # a request cannot take the place of a controller either
    (spool / "boss.json").write_text(json.dumps({**good, "hostname": "boss"}))
    assert fresh.apply().returncode == 1 and fresh.inventory.read_text() == before
    assert "another machine" in next(fresh.ready.glob("*.error")).read_text()


@pytest.mark.parametrize("words, hint", [(["nodes", "token", "--minutes", "0"], "1 to 10080"), (["nodes", "approve"], "approve HOST"), (["nodes", "fly"], "fly"),
                                         (["nodes", "serve", "--port", "0"], "65535")])
def test_wrong_usage(tmp_path, words, hint):
    done = subprocess.run([BUILD / "choir", *words, "--state", tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and hint in done.stderr


def test_no_service_says_how_to_get_one(tmp_path):
    done = subprocess.run([BUILD / "choir", "nodes", "token", "--state", tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "bootstrap.sh --role controller" in done.stderr


def test_help_has_examples_and_exit_codes():
    done = subprocess.run([BUILD / "choir", "nodes", "token", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Examples:" in done.stdout and "Exit codes:" in done.stdout
