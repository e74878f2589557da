"""A bare trixie machine joins and gets a job; two more servers, then the leader dies. ./test --full."""
import json
import os
import shlex

import pytest

from checkout import HOME, bootstrap, send
from conftest import TestLab, wait_for

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


@pytest.fixture(scope="module")
def lab(roots):  # pylint: disable=unused-argument
    made = TestLab(f"j{os.getpid()}")
    try:
        made.up("boss", "node1", "node2", "--bare")
        for node in ("boss", "node1", "node2"):
            send(made, node)
        bootstrap(made, "boss", "--role", "controller")
        yield made
    finally:
        made.down()


def nomad(lab, node, command, **options):
    return lab.call("exec", node, "bash", "-lc", f"PATH=/srv/choir/bin:$PATH; {command}", **options).stdout


def nodes(lab, server="boss"):
    try:
        return {n["Name"]: n["Status"] for n in json.loads(nomad(lab, server, "nomad node status -json"))}
    except ValueError:
        return {}


def worker(lab, node, token, timeout=1500):
    command = f"cd {HOME} && ./bootstrap.sh --role worker --controller-ip 10.88.0.10 --token {token}"
    return lab.start("exec", node, "runuser", "-l", "debian", "-c", command, stdout=open(f"/tmp/{lab.name}-{node}.log", "w", encoding="utf-8")), timeout


def test_from_bare_trixie_to_a_job(lab):
    token = lab.sh("boss", "choir nodes token 2> /dev/null")
    assert lab.sh("node1", "command -v python3 || echo none") == "none"  # it is bare
    wrong = token.rsplit(".", 1)[0] + "." + "0" * 64
    refused = bootstrap(lab, "node1", "--role", "worker", "--controller-ip", "10.88.0.10", "--token", wrong, check=False)
    assert refused.returncode == 1 and "not the controller that made this token" in refused.stdout
    process, timeout = worker(lab, "node1", token)
    wait_for("node1 asks", 600, lambda: "node1" in lab.sh("boss", "choir nodes pending"))
    assert "node1" not in lab.sh("boss", f"{HOME}/tools/inventory list")
    lab.sh("boss", "choir nodes approve node1")
    assert process.wait(timeout) == 0, open(f"/tmp/{lab.name}-node1.log", encoding="utf-8").read()
    assert "node1\tworker_nodes\t10.88.0.11" in lab.sh("boss", f"{HOME}/tools/inventory list")
    assert nodes(lab)["node1"] == "ready" and "joined" in lab.sh("boss", "choir nodes requests")
    assert lab.sh("node1", "ls /var/lib/choir/join 2> /dev/null || echo gone") == "gone"
    assert lab.sh("node1", "cat /root/.ssh/authorized_keys /etc/sudoers.d/choir* 2> /dev/null || echo none") == "none"
    lab.sh("boss", f"cat > /root/probe.nomad <<'J'\n{JOB % 'node1'}J")
    nomad(lab, "boss", "nomad job run -detach /root/probe.nomad")
    wait_for("the job on node1", 120, lambda: lab.sh("node1", "pgrep -u nobody -f 'sleep 3600' || true"))


def test_the_worker_again_changes_nothing_and_a_new_address_is_told(lab):
    before = lab.sh("boss", f"stat -c %Y {HOME}/inventory.yaml")
    assert bootstrap(lab, "node1", "--role", "worker", "--controller-ip", "10.88.0.10").returncode == 0
    assert lab.sh("boss", f"stat -c %Y {HOME}/inventory.yaml") == before


def test_promotion_refuses_and_then_three_servers_lose_their_leader(lab):
    token = lab.sh("boss", "choir nodes token --auto 2> /dev/null")
    process, timeout = worker(lab, "node2", token)
    assert process.wait(timeout) == 0, open(f"/tmp/{lab.name}-node2.log", encoding="utf-8").read()
    book = lab.sh("boss", f"cat {HOME}/inventory.yaml")
    # whoever wants to reach in must be let in: here by a key of the controller's root
    key = lab.sh("boss", "[ -f /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519; cat /root/.ssh/id_ed25519.pub")

    def promote(host):
        return lab.call("exec", "boss", "bash", "-c", f"cd {HOME} && ansible-playbook promote_controller.yaml -e target_hostname={shlex.quote(host)}", timeout=1500)

    for host, why in (("nobody", "There is no worker"), ("boss", "only controller"), ("node1", "cannot log in")):
        done = promote(host)
        assert done.returncode != 0 and why in done.stdout, done.stdout[-3000:]
    assert lab.sh("boss", f"cat {HOME}/inventory.yaml") == book
    for node in ("node1", "node2"):
        lab.sh(node, f"mkdir -p /home/debian/.ssh; echo {shlex.quote(key)} >> /home/debian/.ssh/authorized_keys; chown -R debian: /home/debian/.ssh; "
                     "mkdir -p /opt/nomad/models/llm; echo mine > /opt/nomad/models/llm/mine.gguf")
        lab.sh("boss", f"{HOME}/tools/inventory set {node} ansible_user=debian")
    lab.call("stop", "node2", check=True)
    wait_for("node2 is down", 120, lambda: nodes(lab)["node2"] == "down")
    done = promote("node2")
    assert done.returncode != 0 and "not a ready worker" in done.stdout
    lab.up("node2")
    wait_for("node2 is back", 180, lambda: nodes(lab)["node2"] == "ready")
    done = promote("node1")
    assert done.returncode == 0 and "WARNING: the cluster has 2 servers" in done.stdout, done.stdout[-4000:]
    done = promote("node2")
    assert done.returncode == 0 and "WARNING" not in done.stdout, done.stdout[-4000:]
    assert lab.sh("node1", "cat /opt/nomad/models/llm/mine.gguf") == "mine"
    assert "node1\tcontroller_nodes\t10.88.0.11" in lab.sh("boss", f"{HOME}/tools/inventory list")
    assert lab.sh("node1", "pgrep -u nobody -f 'sleep 3600' || true")  # its job ran on
    peers = wait_for("three servers", 60, lambda: [p for p in json.loads(lab.sh("boss", "curl -s http://127.0.0.1:8500/v1/status/peers")) if p])
    assert len(peers) == 3
    leader = json.loads(lab.sh("boss", "curl -s http://127.0.0.1:4646/v1/status/leader")).split(":")[0]
    names = {"10.88.0.10": "boss", "10.88.0.11": "node1", "10.88.0.12": "node2"}
    left = next(n for a, n in names.items() if a != leader)
    lab.call("kill", names[leader], check=True)
    wait_for("another leader", 120, lambda: leader not in (lab.sh(left, "curl -s http://127.0.0.1:4646/v1/status/leader || true") or leader))
    wait_for("and it decides", 60, lambda: nodes(lab, left).get(names[leader]) in ("down", "disconnected"))
