"""A bare trixie machine joins and gets a job; two more servers, then the leader dies; a worker that leaves. ./test --full. Each test runs
alone, too; CHOIR_LAB_KEEP=NAME keeps the nodes for the next one."""
import json
import os
import re
import shlex

import pytest

from checkout import CONTROLLER, HOME, bootstrap, nodes, nomad, traces
from conftest import wait_for

pytestmark = pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="part of ./test --full")

JOB = """job "probe" {
  type = "service"
  constraint {
    attribute = "${node.unique.name}"
    value     = "%s"
  }
  group "g" {
    task "t" {
      driver = "raw_exec"
      user   = "nobody"
      config {
        command = "/bin/sleep"
        args    = ["3600"]
      }
      resources {
        memory = 32
      }
    }
  }
}
"""


@pytest.fixture
def lab(town):
    town.controller()
    return town.lab


def versions(lab):
    """{name: choir_version} of Nomad's metadata, of the nodes that are ready."""
    ready = [n for n in json.loads(nomad(lab, "controller", "nomad node status -json")) if n["Status"] == "ready"]
    return {n["Name"]: json.loads(nomad(lab, "controller", f"nomad node status -json {n['ID']}"))["Meta"].get("choir_version") for n in ready}


def kept(lab):
    """What a wrong call must leave alone."""
    return lab.sh("controller", f"cat /var/lib/choir-join/join.json {HOME}/inventory.yaml; ls /var/lib/choir-join/approved /var/lib/choir-join-ready")


def test_without_a_token_nothing_changes(lab):
    lab.sh("controller", "choir nodes token 2> /dev/null")
    before = kept(lab)
    where = f"https://{CONTROLLER}:8002"
    for body in ('{"hostname": "evil", "ip": "10.88.0.99"}', "{}"):
        said = lab.call("ctl", "curl", "-sk", f"{where}/api/ready-for-provisioning", "-H", "Content-Type: application/json", "-d", body).stdout
        assert json.loads(said)["status"] == "pending", said
    for method, path, code in (("POST", "/api/join", "400"), ("GET", "/api/join/status", "401"), ("GET", "/api/join/bundle", "401"), ("GET", "/api/join/nodes", "403"),
                               ("POST", "/api/join/approve", "403"), ("POST", "/api/join/tokens", "403"), ("POST", "/api/join/report", "401")):
        got = lab.call("ctl", "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, where + path, "-H", "Content-Type: application/json",
                       *(["-d", "{}"] if method == "POST" else [])).stdout
        assert got == code, (path, got)
    assert kept(lab) == before


def test_wrong_expired_and_missing_tokens(town, lab):
    if nodes(lab).get("worker1") != "ready" and lab.call("exec", "worker1", "true").returncode != 0:
        town.bare("worker1")
    told = lab.sh("controller", "choir nodes token 2> /dev/null")
    again = lab.sh("controller", "choir nodes token --minutes 1 2> /dev/null")
    # the clock is not waited for: the service finds its own list with an earlier end
    lab.sh("controller", "systemctl stop choir-join-server && python3 - <<'P'\nimport json\np = '/var/lib/choir-join/join.json'\nd = json.load(open(p))\n"
                         "d['tokens'][-1]['expires'] = 1000 + d['tokens'][-1]['expires'] - 10**6\njson.dump(d, open(p, 'w'))\nP\nsystemctl start choir-join-server")
    wait_for("the join service", 30, lambda: lab.call("ctl", "curl", "-fsk", f"https://{CONTROLLER}:8002/health").returncode == 0)
    before, joined = kept(lab), lab.sh("worker1", "ls /etc/choir/join/joined 2> /dev/null", check=False)
    secret, mark = told.split(".")[1:]
    for token, why in ((f"cj1.{secret}.{'0' * 64}", "not the controller that made this token"), (f"cj1.{'0' * 48}.{mark}", "not known here"), (again, "has expired")):
        refused = bootstrap(lab, "worker1", "--role", "worker", "--controller-ip", CONTROLLER, "--token", token, check=False)
        assert refused.returncode == 1 and why in refused.stdout, refused.stdout
    if not joined:
        lab.sh("worker1", "rm -rf /etc/choir/join")
        refused = bootstrap(lab, "worker1", "--role", "worker", "--controller-ip", CONTROLLER, check=False)
        assert refused.returncode == 1 and "sudo choir nodes token" in refused.stdout, refused.stdout
    assert kept(lab) == before


def test_from_bare_trixie_to_a_job(town, lab):
    town.bare("worker1")
    assert lab.sh("worker1", "command -v python3 || echo none") == "none"  # it is bare
    token = lab.sh("controller", "choir nodes token 2> /dev/null")
    process, log = town.joins("worker1", token)
    wait_for("worker1 asks", 600, lambda: "worker1" in lab.sh("controller", "choir nodes pending"))
    assert "worker1" not in lab.sh("controller", f"{HOME}/tools/inventory list")
    lab.sh("controller", "choir nodes approve worker1")
    assert process.wait(1500) == 0, open(log, encoding="utf-8").read()
    assert "worker1\tworker_nodes\t10.88.0.11" in lab.sh("controller", f"{HOME}/tools/inventory list")
    assert nodes(lab)["worker1"] == "ready" and "joined" in lab.sh("controller", "choir nodes requests")
    version = lab.sh("worker1", "dpkg-query -W -f '${Version}' choir-node")
    wait_for("Nomad says which Choir it runs", 30, lambda: versions(lab) == {"controller": version, "worker1": version})
    assert re.search(r"^worker1 +alive +worker +10\.88\.0\.11", lab.sh("controller", "choir nodes"), re.M)
    assert lab.sh("worker1", "ls /var/lib/choir/join 2> /dev/null || echo gone") == "gone"
    assert lab.sh("worker1", "cat /root/.ssh/authorized_keys /etc/sudoers.d/choir* 2> /dev/null || echo none") == "none"
    lab.sh("controller", f"cat > /root/probe.nomad <<'J'\n{JOB % 'worker1'}J")
    nomad(lab, "controller", "nomad job run -detach /root/probe.nomad", check=True)
    wait_for("the job on worker1", 120, lambda: lab.sh("worker1", "pgrep -u nobody -f 'sleep 3600' || true"))


def test_the_worker_again_changes_nothing_and_a_new_address_is_told(town, lab):
    town.worker("worker1")
    before = lab.sh("controller", f"stat -c %Y {HOME}/inventory.yaml")
    assert bootstrap(lab, "worker1", "--role", "worker", "--controller-ip", CONTROLLER).returncode == 0
    assert lab.sh("controller", f"stat -c %Y {HOME}/inventory.yaml") == before
    for new, old in (("10.88.0.61", "10.88.0.11"), ("10.88.0.11", "10.88.0.61")):  # there and back
        lab.sh("worker1", f"d=$(ip -o -4 address | sed -n 's/^[0-9]*: \\([^ ]*\\) *inet 10[.]88.*/\\1/p' | head -1); ip address del {old}/24 dev $d; ip address add {new}/24 dev $d; "
                          "ip route replace default via 10.88.0.1; systemctl restart --no-block choir-join")
        wait_for("the new address in the inventory", 60, lambda a=new: f"worker1\tworker_nodes\t{a}\n" in lab.sh("controller", f"{HOME}/tools/inventory list") + "\n")
        wait_for("its services are set up for it", 900, lambda a=new: lab.sh("worker1", "cat /etc/choir/join/address; systemctl is-active choir-join || true").split() == [a, "inactive"])
        where = "curl -s -H \"X-Consul-Token: $(cat /etc/consul.d/management_token)\" http://127.0.0.1:8500/v1/agent/members"
        wait_for("Consul knows it", 120, lambda a=new: [m["Addr"] for m in json.loads(lab.sh("controller", where)) if m["Name"] == "worker1" and m["Status"] == 1] == [a])
        wait_for("worker1 is ready again", 120, lambda: nodes(lab).get("worker1") == "ready")
    assert lab.sh("controller", f"{HOME}/tools/inventory list worker_nodes").count("worker1") == 1


def test_a_worker_leaves(town, lab):
    """What it was given is taken back, and nothing of it is left on the machine."""
    town.worker("worker1")
    done = bootstrap(lab, "worker1", "--uninstall", "--yes")
    assert lab.sh("worker1", "systemctl is-active consul nomad choir-join || true").split() == ["inactive"] * 3, done.stdout
    assert traces(lab, "worker1") == []
    lab.sh("controller", "choir nodes refuse worker1")
    wait_for("worker1 is out of the inventory", 60, lambda: "worker1" not in lab.sh("controller", f"{HOME}/tools/inventory list"))
    wait_for("its tokens are taken back", 60, lambda: '"worker1"' not in lab.sh("controller", "cat /var/lib/choir/cluster/secrets.json"))


def test_promotion_refuses_and_then_three_servers_lose_their_leader(town, lab):
    town.worker("worker1")
    town.worker("worker2")
    lab.sh("controller", f"cat > /root/probe.nomad <<'J'\n{JOB % 'worker1'}J")
    nomad(lab, "controller", "nomad job run -detach /root/probe.nomad", check=True)
    wait_for("the job on worker1", 120, lambda: lab.sh("worker1", "pgrep -u nobody -f 'sleep 3600' || true"))
    book = lab.sh("controller", f"cat {HOME}/inventory.yaml")
    # whoever wants to reach in must be let in: here by a key of the controller's root
    key = lab.sh("controller", "[ -f /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519; cat /root/.ssh/id_ed25519.pub")

    def promote(host):
        return lab.call("exec", "controller", "bash", "-c", f"cd {HOME} && ansible-playbook promote_controller.yaml -e target_hostname={shlex.quote(host)}", timeout=1500)

    for host, why in (("nobody", "There is no worker"), ("controller", "only controller"), ("worker1", "cannot log in")):
        done = promote(host)
        assert done.returncode != 0 and why in done.stdout, done.stdout[-3000:]
    assert lab.sh("controller", f"cat {HOME}/inventory.yaml") == book
    for node in ("worker1", "worker2"):
        lab.sh(node, f"mkdir -p /home/debian/.ssh; echo {shlex.quote(key)} >> /home/debian/.ssh/authorized_keys; chown -R debian: /home/debian/.ssh; "
                     "mkdir -p /opt/nomad/models/llm; echo mine > /opt/nomad/models/llm/mine.gguf")
        lab.sh("controller", f"{HOME}/tools/inventory set {node} ansible_user=debian")
    lab.call("stop", "worker2", check=True)
    wait_for("worker2 is down", 120, lambda: nodes(lab)["worker2"] == "down")
    done = promote("worker2")
    assert done.returncode != 0 and "not a ready worker" in done.stdout
    lab.up("worker2")
    wait_for("worker2 is back", 180, lambda: nodes(lab)["worker2"] == "ready")
    done = promote("worker1")
    assert done.returncode == 0 and "WARNING: the cluster has 2 servers" in done.stdout, done.stdout[-4000:]
    done = promote("worker2")
    assert done.returncode == 0 and "WARNING" not in done.stdout, done.stdout[-4000:]
    assert lab.sh("worker1", "cat /opt/nomad/models/llm/mine.gguf") == "mine"
    assert "worker1\tcontroller_nodes\t10.88.0.11" in lab.sh("controller", f"{HOME}/tools/inventory list")
    assert lab.sh("worker1", "pgrep -u nobody -f 'sleep 3600' || true")  # its job ran on
    peers = wait_for("three servers", 60, lambda: [p for p in json.loads(lab.sh("controller", "curl -s http://127.0.0.1:8500/v1/status/peers")) if p])
    assert len(peers) == 3
    leader = json.loads(lab.sh("controller", "curl -s http://127.0.0.1:4646/v1/status/leader")).split(":")[0]
    names = {"10.88.0.10": "controller", "10.88.0.11": "worker1", "10.88.0.12": "worker2"}
    left = next(n for a, n in names.items() if a != leader)
    lab.call("kill", names[leader], check=True)
    wait_for("another leader", 120, lambda: leader not in (lab.sh(left, "curl -s http://127.0.0.1:4646/v1/status/leader || true") or leader))
    wait_for("and it decides", 60, lambda: nodes(lab, left).get(names[leader]) in ("down", "disconnected"))
