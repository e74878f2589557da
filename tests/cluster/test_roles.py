"""The roles by themselves: what they refuse and in which words, and (CHOIR_FULL=1) a small cluster that is harmed, mended
and taken away."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from checkout import TRACE, lab_name
from conftest import TestLab
from house import House, ROOT, VARIABLES

ROLES = ROOT / "ansible/roles"
ANSIBLE = pathlib.Path(sys.executable).parent / "ansible-playbook"
full = pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="part of ./test --full")


# --- without a node

def test_names_are_generated_and_checked(tmp_path):
    for name in ("tools/gen-names", "src/base/names.h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "group_vars").mkdir()

    def run(*words):
        return subprocess.run([tmp_path / "tools/gen-names", *words], capture_output=True, text=True, check=False)
    assert run("--check").returncode == 1
    assert run().returncode == 0 and run("--check").returncode == 0
    made = (tmp_path / "group_vars/names.yaml").read_text()
    assert 'choir_job_agent: "pipecat-app"' in made and "choir_port_web: 8000" in made
    header = tmp_path / "src/base/names.h"
    header.write_text(header.read_text().replace('"pipecat-app"', '"other"'))
    stale = run("--check")
    assert stale.returncode == 1 and "run tools/gen-names" in stale.stderr
    header.write_text(header.read_text() + "#define CHOIR_SUM (1 + 2)\n")
    odd = run()
    assert odd.returncode == 1 and "CHOIR_SUM" in odd.stderr


def look(limits, wrap=()):
    given = {"min_ram_mb": 1, "small_ram_mb": 2, "min_disk_mb": 1, "address": "127.0.0.1", "servers": [], **limits}
    done = subprocess.run([*wrap, sys.executable, ROLES / "preflight/files/preflight.py", json.dumps(given)], capture_output=True, text=True,
                          timeout=120, check=True)
    return {c["name"]: (c["result"], c["detail"]) for c in json.loads(done.stdout)["checks"]}


def test_preflight_says_what_is_wrong():
    good = look({})
    assert {good[n][0] for n in ("writable", "disk", "memory", "cpu", "address", "controllers")} == {"ok"}, good
    bad = look({"min_ram_mb": 1 << 30, "min_disk_mb": 1 << 40, "address": "192.0.2.77", "servers": ["192.0.2.78"]})
    for name, word in (("memory", "are needed"), ("disk", "make room"), ("address", "advertise_ip"), ("controllers", "192.0.2.78")):
        assert bad[name][0] == "fail" and word in bad[name][1], bad[name]
    assert look({"small_ram_mb": 1 << 30})["memory"][0] == "warn"


def test_preflight_makes_no_worker_of_a_server(tmp_path):
    """Whoever moves a server in the inventory would take the others' quorum away."""
    file = tmp_path / "consul.hcl"
    for text, controller, result in (("server     = true\n", False, "fail"), ("server     = true\n", "False", "fail"), ("server     = true\n", True, "ok"),
                                     ("server     = false\n", False, "ok"), ("", False, "ok")):
        file.write_text(f"data_dir = \"/opt/consul\"\n{text}")
        found = look({"consul_file": str(file), "controller": controller})["part"]
        assert found[0] == result and (result == "ok" or "tools/inventory move" in found[1]), (text, controller, found)


def test_preflight_names_who_has_a_port(tmp_path):
    """In a network of its own, so that nothing of this machine is in the way."""
    script = tmp_path / "hold"
    script.write_text("import socket, subprocess, sys\nh = socket.create_server(('0.0.0.0', 4646))\nsys.exit(subprocess.call(sys.argv[1:]))\n")
    bad = look({}, ["unshare", "--net", sys.executable, script])
    assert bad["ports"][0] == "fail" and "4646 (python" in bad["ports"][1], bad["ports"]
    assert look({}, ["unshare", "--net"])["ports"][0] == "ok"


class Keeper:
    """cluster-acl with a root folder of its own and nobody to talk to."""

    def __init__(self, folder):
        self.folder = folder
        bin_folder = folder / "bin"
        bin_folder.mkdir(parents=True)
        shutil.copy(ROLES / "consul/files/cluster-acl", bin_folder)
        policies = {kind: {p.stem: p.read_text() for p in (ROLES / f"consul/files/policies/{kind}").glob("*.hcl")} for kind in ("consul", "nomad")}
        (bin_folder / "policies.json").write_text(json.dumps(policies))
        self.store = folder / "root/var/lib/choir/cluster/secrets.json"

    def run(self, *words):
        return subprocess.run([sys.executable, self.folder / "bin/cluster-acl", *words, "--root", self.folder / "root", "--consul", "http://127.0.0.1:1",
                               "--nomad", "http://127.0.0.1:1", "--wait", "1"], capture_output=True, text=True, timeout=60, check=False)


def test_secrets_are_made_once(tmp_path):
    keeper = Keeper(tmp_path)
    first = keeper.run("node", "worker1", "--founders", "a,b")
    assert first.returncode == 0 and "changed:" in first.stderr
    again = keeper.run("node", "worker1", "--founders", "c")
    assert again.returncode == 0 and again.stdout == first.stdout and "changed:" not in again.stderr
    secrets = json.loads(first.stdout)
    assert secrets["founders"] == ["a", "b"] and {"consul-agent", "nomad", "pipecat-app", "expert", "health"} <= set(secrets["tokens"])
    assert oct(keeper.store.stat().st_mode & 0o777) == "0o600"
    other = json.loads(keeper.run("node", "worker2").stdout)
    assert other["gossip_key"] == secrets["gossip_key"] and other["tokens"]["nomad"] != secrets["tokens"]["nomad"]


def test_keeper_refuses_in_a_sentence(tmp_path):
    keeper = Keeper(tmp_path)
    assert keeper.run("node", "a;b").returncode == 2
    assert keeper.run("sync", "vault").returncode == 2
    silent = keeper.run("sync", "consul")
    assert silent.returncode == 1 and "no leader" in silent.stderr and "Traceback" not in silent.stderr
    unknown = keeper.run("forget", "worker9")
    assert unknown.returncode == 1 and "there is no node worker9" in unknown.stderr
    keeper.store.write_text("{broken")
    damaged = keeper.run("node", "worker1")
    assert damaged.returncode == 1 and "is damaged" in damaged.stderr and keeper.store.read_text() == "{broken"


def ansible(*words):
    env = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run([ANSIBLE, *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, env=env)


def test_tags_are_the_roles_and_workers_is_a_group(tmp_path):
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("all: {children: {controller_nodes: {hosts: {boss: {}}}, workers: {hosts: {helper: {}}}}}\n")
    listed = ansible("-i", inventory, "playbook.yaml", "--list-tags", "--list-hosts")
    assert listed.returncode == 0, listed.stderr
    assert {"preflight", "common", "security", "consul", "nomad"} <= {t.strip(" ,]") for t in listed.stdout.replace("[", " ").split()}
    last = listed.stdout[listed.stdout.index("Workers"):]
    assert "helper" in last and "boss" not in last.split("TASK TAGS")[0].split("hosts")[-1]


@pytest.mark.parametrize("playbook", ["playbook.yaml", "uninstall.yaml", "status-check.yaml"])
def test_playbooks_parse(playbook):
    done = ansible("--syntax-check", playbook)
    assert done.returncode == 0, done.stdout + done.stderr


# --- a small cluster of its own, harmed in many ways

ODD = "lan-0.7"  # a name that no rule for interfaces' names expects


@pytest.fixture(scope="module")
def pair(roots, report):  # pylint: disable=unused-argument
    name, stays = lab_name("r")
    lab = TestLab(name)
    made = House(lab, report)
    try:
        lab.up("controller", "--memory", "1500")
        lab.up("worker1", "--memory", "1500", "--interface", ODD)
        made.write_inventory()
        yield made
    finally:
        if not stays:
            lab.down()
            assert lab.left_over() == []


def said(house, *options, fails=True, playbook="playbook.yaml", variables=None):
    recap, output = house.play(playbook, *options, variables=variables)
    failed = any(f["failed"] or f["unreachable"] for f in recap.values())
    assert failed == fails, output[-4000:]
    return recap, output


@full
def test_a_wrong_clock_is_refused(pair):
    clock = "/usr/lib/python3/dist-packages/clock.pth"  # the node's clock as its Python sees it; Debian has a sitecustomize of its own
    pair.lab.sh("worker1", f"echo 'import time; time.time = lambda now=time.time: now() + 7200' > {clock}")
    try:
        _, output = said(pair, "--tags", "preflight")
        assert "worker1 is not ready" in output and "timedatectl" in output
        said(pair, "--tags", "preflight", variables={"preflight_ignore": ["clock"]}, fails=False)
    finally:
        pair.lab.sh("worker1", f"rm {clock}")


@full
def test_a_full_disk_is_refused_and_nothing_changed(pair):
    pair.lab.sh("worker1", "mount -t tmpfs -o size=60m tmpfs /opt")
    try:
        _, output = said(pair)
        assert "worker1 is not ready" in output and "free on /opt" in output
    finally:
        pair.lab.sh("worker1", "umount /opt")
    for node in ("controller", "worker1"):
        assert pair.lab.sh(node, "ls -d /etc/choir /usr/local/lib/choir /etc/consul.d 2> /dev/null", check=False) == ""


@full
def test_two_small_nodes_become_a_cluster(pair):
    """1.5 GB each: warned about, and it works; so does an interface of another name."""
    _, output = said(pair, "--tags", "preflight", fails=False)
    assert output.count("enough for the smallest model only") >= 2
    assert f"10.88.0.11 on {ODD}" in output
    said(pair, "--tags", "common,security,consul,nomad", fails=False)
    recap, output = said(pair, "--tags", "common,security,consul,nomad", fails=False)
    assert all(f["changed"] == 0 for f in recap.values()), output[-4000:]
    assert {n["Name"] for n in pair.nomad("/v1/nodes") if n["Status"] == "ready"} == {"controller", "worker1"}


@full
def test_a_wrong_token_is_told_and_harms_nothing(pair):
    pair.lab.sh("controller", "cp -p /etc/consul.d/management_token /root/kept; echo 00000000-0000-0000-0000-000000000000 > /etc/consul.d/management_token")
    try:
        _, output = said(pair, "--tags", "consul")
        assert "Consul does not know the token in /etc/consul.d/management_token" in output
    finally:
        pair.lab.sh("controller", "mv /root/kept /etc/consul.d/management_token")
    pair.lab.sh("controller", "rm /var/lib/choir/cluster/secrets.json")  # rebuilt from Consul and the configuration
    recap, output = said(pair, "--tags", "consul,nomad", fails=False)
    assert recap["worker1"]["changed"] == 0, output[-4000:]


@full
def test_a_lost_token_of_a_node_is_made_again(pair):
    agent = pair.lab.sh("worker1", "cat /etc/choir/tokens/consul-agent.token")
    accessor = pair.http("controller", 8500, "/v1/acl/token/self", token=agent)["AccessorID"]
    pair.consul(f"/v1/acl/token/{accessor}", method="DELETE")
    said(pair, "--tags", "consul", fails=False)
    assert pair.lab.sh("worker1", "cat /etc/choir/tokens/consul-agent.token") == agent
    assert pair.http("controller", 8500, "/v1/acl/token/self", token=agent)["AccessorID"] == accessor


@full
def test_sudo_without_a_password_is_refused(pair):
    pair.lab.sh("worker1", "echo 'pipecatapp ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/evil")
    try:
        _, output = said(pair, "--tags", "security")
        assert "may do everything as root without a password" in output
    finally:
        pair.lab.sh("worker1", "rm /etc/sudoers.d/evil")


@full
def test_status_check_is_green_and_red(pair):
    _, output = said(pair, playbook="status-check.yaml", fails=False)
    assert "consul active" in output and "worker1" in output
    pair.lab.sh("worker1", "systemctl stop consul")
    try:
        _, output = said(pair, playbook="status-check.yaml")
        assert "worker1: consul is inactive" in output
    finally:
        pair.lab.sh("worker1", "systemctl start consul")
    pair.lab.call("cut", "worker1", check=True)
    try:
        _, output = said(pair, playbook="status-check.yaml")
        assert "worker1 does not answer" in output
    finally:
        pair.lab.call("mend", "worker1", check=True)


@full
def test_uninstall_leaves_no_trace(pair):
    _, output = said(pair, playbook="uninstall.yaml")
    assert "Nothing was removed" in output
    pair.lab.sh("worker1", "echo weights > /opt/nomad/models/llm/kept.gguf; mkdir -p /home/debian/.ssh; cp /home/debian/.ssh/authorized_keys /root/keys")
    said(pair, playbook="uninstall.yaml", variables={"uninstall": "yes"}, fails=False)
    for node in ("controller", "worker1"):
        left = [l for l in pair.lab.sh(node, TRACE, check=False).splitlines() if l and not l.startswith("/opt/nomad")]
        assert not left, f"on {node}: {left}"
    assert pair.lab.sh("worker1", "cat /opt/nomad/models/llm/kept.gguf") == "weights"
    assert pair.lab.sh("worker1", "cmp /root/keys /home/debian/.ssh/authorized_keys && echo same") == "same"
    recap, output = said(pair, playbook="uninstall.yaml", variables={"uninstall": "yes", "purge_models": True}, fails=False)
    assert pair.lab.sh("worker1", "ls -d /opt/nomad", check=False) == "", output[-2000:]
    assert VARIABLES["hashicorp_install_method"] == "present" and recap  # the programs themselves are not ours to remove
