"""./test --full: every playbook a person runs, on the three nodes of test_cluster.py, which switched them off. In the order
that costs least; the tests of this file build on one another, and the last one takes everything away."""
import json
import os
import re
import subprocess
import time

import pytest

from checkout import TRACE
from conftest import wait_for
from house import BIN, NODES, ROOT
from test_cluster import EXPERT, JOB, answers, healthy
from test_packages import STORE, derive, publish

pytestmark = [pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="part of ./test --full"), pytest.mark.timeout(2700)]

CREATIVE, CREATIVE_JOB = "llama-api-creative", "creative-expert"
DEPLOY = ("job_name=creative-expert service_name=llama-api-creative namespace=experts model_list={{ creative_writing_models }} worker_count=2")
LIGHT = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEAD = """job "dead" {
  type = "service"
  update {
    max_parallel = 0
  }
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts       = 1
      interval       = "24h"
      delay          = "5s"
      delay_function = "constant"
      unlimited      = false
    }
    task "t" {
      driver = "raw_exec"
      user   = "nobody"
      config {
        command = "/bin/sh"
        args    = ["-c", "test -e /tmp/flag && exec sleep 7200; exit 3"]
      }
      resources {
        memory = 32
      }
    }
  }
}
"""


def choir(house, *words, check=True, node="controller", timeout=300):
    quoted = " ".join("'" + str(w).replace("'", "'\\''") + "'" for w in words)
    return house.lab.sh(node, f". /etc/profile.d/choir-cluster.sh; choir {quoted}", check=check, timeout=timeout)


def well(recap, output):
    assert recap and not any(f["failed"] or f["unreachable"] for f in recap.values()), output[-5000:]


def running(house):
    """Every allocation that runs: {id: job}."""
    return {a["ID"]: a["JobID"] for a in house.nomad("/v1/allocations?namespace=*") if a["ClientStatus"] == "running"}


def passing(house, service, count):
    nodes = [n for n, _, _ in house.passing(service)]
    return sorted(nodes) if len(nodes) == count else None


def hang(house, service):
    """Stops, but does not end, the server of one instance, and first its keeper, which would replace it."""
    node, _, port = house.passing(service)[0]
    house.lab.sh(node, f"pid=$(ss -Hltnp sport = :{port} | grep -o 'pid=[0-9]*' | head -1 | cut -d= -f2); kill -STOP $(ps -o ppid= -p $pid) $pid")


def test_all_nodes_were_off_and_come_back(house):
    with house.report.phase("three nodes that were off, until expert and agent pass again"):
        house.boot()
        wait_for("three nodes are ready", 180, lambda: [n["Status"] for n in house.nomad("/v1/nodes")].count("ready") == 3)
        wait_for("the expert", 240, lambda: healthy(house, 1))
        wait_for("the agent", 240, lambda: passing(house, "pipecat-app", 1))
    answers(house)


def test_deploy_expert_as_documented(house):
    with house.report.phase("deploy_expert.yaml, two replicas in a namespace of their own"):
        recap, output = house.play("deploy_expert.yaml", "-e", DEPLOY)
    well(recap, output)
    assert "experts" in [n["Name"] for n in house.nomad("/v1/namespaces")]
    assert len(set(wait_for("two replicas", 120, lambda: passing(house, CREATIVE, 2)))) == 2
    wait_for("the agent knows it", 60, lambda: house.ask_expert("creative", "Write three words about rain.")[0] == 0)
    before = house.nomad(f"/v1/job/{CREATIVE_JOB}?namespace=experts")["JobModifyIndex"]
    with house.report.phase("the same deploy_expert.yaml again"):
        recap, output = house.play("deploy_expert.yaml", "-e", DEPLOY)
    well(recap, output)
    assert all(f["changed"] == 0 for f in recap.values()), output[-5000:]
    assert house.nomad(f"/v1/job/{CREATIVE_JOB}?namespace=experts")["JobModifyIndex"] == before
    recap, output = house.play("deploy_expert.yaml", "-e", "service_name=llama-api-x worker_count=0")
    assert any(f["failed"] for f in recap.values()) and "worker_count of at least 1" in " ".join(output.split())


def test_health_check_is_green(house):
    with house.report.phase("run_health_check.yaml, two experts"):
        recap, output = house.play("run_health_check.yaml")
    well(recap, output)
    assert f"PASSED for {EXPERT}" in output and f"PASSED for {CREATIVE}" in output, output[-4000:]


def test_three_broken_things_are_red_and_healed(house):
    """A server that hangs, a job that Nomad lost, one that gave up; everything else keeps its process."""
    house.lab.sh("controller", f"cat > /root/dead.nomad <<'J'\n{DEAD}J")
    choir(house, "jobs", "submit", "/root/dead.nomad", "--wait", "0")
    wait_for("it gave up", 90, lambda: [a["ClientStatus"] for a in house.nomad("/v1/job/dead/allocations")] == ["failed"] * 2)
    for name in NODES:
        house.lab.sh(name, "touch /tmp/flag")
    hang(house, CREATIVE)
    wait_for("its check fails", 90, lambda: passing(house, CREATIVE, 1))
    recap, output = house.play("run_health_check.yaml")
    assert any(f["failed"] for f in recap.values()) and f"FAILED for {CREATIVE}" in output, output[-4000:]
    house.nomad(f"/v1/job/{JOB}?purge=true", method="DELETE")
    wait_for("the expert is gone", 60, lambda: house.passing(EXPERT) == [])
    before = running(house)
    _, said = house.play("heal_cluster.yaml", "--check")
    assert re.search(r"creative-expert +would be healed", said) and re.search(r"llama-expert +would be submitted", said), said[-3000:]
    assert running(house).keys() == before.keys()
    begun = time.monotonic()
    recap, output = house.play("heal_cluster.yaml")
    house.report.add("heal_cluster.yaml with three broken things", f"{time.monotonic() - begun:.1f} s")
    well(recap, output)
    assert re.search(r"creative-expert +healed", output) and re.search(r"dead +healed", output) and re.search(r"llama-expert +submitted", output), output[-3000:]
    after = running(house)
    sick = {i for i, job in before.items() if job == CREATIVE_JOB}
    assert set(before) - sick <= set(after), "what was well was touched"
    assert passing(house, CREATIVE, 2) and passing(house, EXPERT, 1)
    begun = time.monotonic()
    recap, output = house.play("heal_cluster.yaml")
    house.report.add("heal_cluster.yaml with nothing to do", f"{time.monotonic() - begun:.1f} s")
    well(recap, output)
    assert sum(f["changed"] for f in recap.values()) == 0 and running(house).keys() == after.keys()
    house.nomad("/v1/job/dead?purge=true", method="DELETE")
    answers(house)


def greedy(house, service):
    """64 tokens of the service's server, always the most likely one."""
    node, address, port = house.passing(service)[0]
    body = json.dumps({"prompt": "Once upon a time in a small house by the sea", "n_predict": 64, "temperature": 0, "cache_prompt": False,
                       "return_tokens": True, "ignore_eos": True})
    said = house.lab.sh(node, f"curl -sS -m 240 -H \"Authorization: Bearer $(cat /etc/choir/expert.key)\" http://{address}:{port}/completion -d '{body}'",
                        timeout=300)
    return json.loads(said)["tokens"]


def test_two_workers_write_what_one_node_writes(house):
    whole = greedy(house, EXPERT)
    assert len(whole) == 64
    file = "/opt/nomad/jobs/llamacpp-rpc.nomad"
    choir(house, "jobs", "submit", file, "--reset-counts", "--var", "worker_count=2", "--var", "head_count=1", "--var", "service_name=llama-api-large",
          "--var", f'models=[{{"filename":"{LIGHT}"}}]', "--wait", "0")
    try:
        with house.report.phase("one model over two nodes by RPC, until it passes"):
            wait_for("the head", 240, lambda: passing(house, "llama-api-large", 1))
        wait_for("both that hold its layers", 60, lambda: passing(house, "llamacpp-rpc-provider", 2))
        begun = time.monotonic()
        spread = greedy(house, "llama-api-large")
        house.report.add("64 tokens over two nodes", f"{time.monotonic() - begun:.1f} s")
        assert spread == whole
        worker = house.passing("llamacpp-rpc-provider")[0][0]
        house.lab.sh(worker, "pkill -9 -u llama -x rpc-server")
        with house.report.phase("one of the two killed, until all of it serves again"):
            wait_for("the head dies with its worker", 120, lambda: house.passing("llama-api-large") == [])
            wait_for("all of it is back", 240, lambda: passing(house, "llamacpp-rpc-provider", 2) and passing(house, "llama-api-large", 1))
        assert greedy(house, "llama-api-large") == whole
    finally:
        choir(house, "jobs", "submit", file, "--reset-counts", "--wait", "0", check=False)
    wait_for("it sleeps again", 90, lambda: house.passing("llama-api-large") == [] and house.passing("llamacpp-rpc-provider") == [])


def versions(house):
    return {n: house.lab.sh(n, "choir --version").split()[-1] for n in NODES}


def test_upgrade_and_back_when_a_new_version_fails(house, tmp_path):
    old = set(versions(house).values())
    assert len(old) == 1
    good = derive(STORE, tmp_path / "good", "+8")
    publish(tmp_path / "good", house.packages)
    with house.report.phase("upgrade.yaml, three nodes one after the other"):
        recap, output = house.play("upgrade.yaml")
    well(recap, output)
    assert set(versions(house).values()) == {good}
    assert passing(house, EXPERT, 1) and passing(house, CREATIVE, 2), "what ran before must run"
    bad = derive(STORE, tmp_path / "bad", "+9", broken=True)
    publish(tmp_path / "bad", house.packages)
    with house.report.phase("upgrade.yaml with a version that does not run, rolled back"):
        recap, output = house.play("upgrade.yaml")
    assert any(f["failed"] for f in recap.values()) and "as it was before the upgrade" in " ".join(output.split()), output[-4000:]
    assert set(versions(house).values()) == {good} and bad not in house.lab.sh("worker1", "dpkg -l | cat")
    assert all(n["SchedulingEligibility"] == "eligible" for n in house.nomad("/v1/nodes"))
    wait_for("all of it runs", 120, lambda: passing(house, EXPERT, 1) and passing(house, CREATIVE, 2) and passing(house, "pipecat-app", 1))


def leader(house, port, node):
    return house.http(node, port, "/v1/status/leader").split(":")[0].strip('"')


def refused(house, playbook, *options, why):
    recap, output = house.play(playbook, *options)
    assert any(f["failed"] for f in recap.values()) and why in " ".join(output.split()), output[-3000:]


def inventory(house, *words):
    subprocess.run([ROOT / "tools/inventory", "--file", house.inventory, *words], check=True, capture_output=True)


def test_two_promotions_and_the_death_of_the_leader(house):
    refused(house, "promote_controller.yaml", "-e", "target_hostname=nobody", why="There is no worker 'nobody'")
    refused(house, "promote_controller.yaml", "-e", "target_hostname=controller", why="controller is the only controller")
    for name, warned in (("worker1", True), ("worker2", False)):
        with house.report.phase(f"promote_controller.yaml of {name}"):
            recap, output = house.play("promote_controller.yaml", "-e", f"target_hostname={name}")
        well(recap, output)
        assert ("WARNING: the cluster has 2 servers" in " ".join(output.split())) == warned
    for port in (8500, 4646):
        assert len(house.http("controller", port, "/v1/status/peers")) == 3
    # a server is not made a worker by its place in the inventory, and does not leave a cluster that stays
    inventory(house, "move", "worker2", "worker_nodes")
    refused(house, "playbook.yaml", "--limit", "worker2", why="a server cannot be made a worker")
    inventory(house, "move", "worker2", "controller_nodes")
    refused(house, "uninstall.yaml", "--limit", "worker2", "-e", "uninstall=yes", why="worker2 is a controller of a cluster that would stay")
    by_address = {a: n for n, a in NODES.items()}
    dead = by_address[leader(house, 4646, "worker1")]
    left = next(n for n in NODES if n != dead)
    house.lab.call("kill", dead, check=True)
    with house.report.phase(f"power cut of the leader ({dead}), until Nomad has another"):
        wait_for("another leader of Nomad", 120, lambda: leader(house, 4646, left) not in ("", NODES[dead]))
    with house.report.phase("the same, until Consul has another"):
        wait_for("another leader of Consul", 120, lambda: leader(house, 8500, left) not in ("", NODES[dead]))
    with house.report.phase("the same, until expert and agent pass elsewhere"):
        wait_for("the expert lives", 180, lambda: [n for n, _, _ in house.passing_from(left, EXPERT) if n != dead])
        wait_for("the agent lives", 180, lambda: [n for n, _, _ in house.passing_from(left, "pipecat-app") if n != dead])
    house.boot()
    wait_for("all three are ready", 180, lambda: [n["Status"] for n in house.nomad("/v1/nodes", node=left)].count("ready") == 3)
    wait_for("three servers again", 120, lambda: len(house.http(left, 4646, "/v1/status/peers")) == 3)
    wait_for("one agent", 120, lambda: passing(house, "pipecat-app", 1))
    wait_for("one expert", 120, lambda: healthy(house, 1))
    answers(house)


def test_status_check_names_them_all(house):
    recap, output = house.play("status-check.yaml")
    well(recap, output)
    assert all(name in output for name in NODES)


def test_uninstall_leaves_no_trace(house):
    _, output = house.play("uninstall.yaml")
    assert "Nothing was removed" in output
    house.lab.sh("worker1", "echo weights > /opt/nomad/models/llm/kept.gguf; cp /home/debian/.ssh/authorized_keys /root/keys; rm -f /root/dead.nomad")
    house.lab.sh("controller", "rm -f /root/dead.nomad")
    with house.report.phase("uninstall.yaml"):
        recap, output = house.play("uninstall.yaml", variables={"uninstall": "yes"})
    well(recap, output)
    for node in NODES:
        left = [l for l in house.lab.sh(node, TRACE, check=False).splitlines() if l and not l.startswith("/opt/nomad")]
        assert not left, f"on {node}: {left}"
    assert house.lab.sh("worker1", "cat /opt/nomad/models/llm/kept.gguf") == "weights"
    assert house.lab.sh("worker1", "cmp /root/keys /home/debian/.ssh/authorized_keys && echo same") == "same"
    recap, output = house.play("uninstall.yaml", variables={"uninstall": "yes", "purge_models": True})
    well(recap, output)
    assert house.lab.sh("worker1", "ls -d /opt/nomad", check=False) == "" and (BIN / "nomad").exists()
