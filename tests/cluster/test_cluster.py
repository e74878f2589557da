"""Every warm run: from three Debian nodes to a cluster with an agent and an expert, through its faults, and back to
nothing changed. The tests of this file build on one another."""
import json
import os
import re

import pytest

from conftest import wait_for
from house import NODES

# The first one waits for the playbook, which may take long on a busy machine.
pytestmark = pytest.mark.timeout(2700)

EXPERT = "llama-api-main"
JOB, GROUP = "llama-expert", "expert"


def healthy(house, count):
    """The expert's nodes once exactly so many of it pass their check."""
    nodes = [n for n, _, _ in house.passing(EXPERT)]
    return sorted(nodes) if len(nodes) == count else None


def answers(house, query="In one word, what colour is the sky?"):
    """The expert itself answers, not the light model that steps in for it."""
    code, said, problem = house.ask_expert("main", query)
    assert code == 0, f"{said}\n{problem}"
    assert "light local model" not in said, said
    assert re.search(r"[A-Za-z]{3}", said), said
    return said


def server_pid(house, node):
    return house.lab.sh(node, "pgrep -u llama -f llama-server | head -1", check=False)


def test_playbook_makes_a_cluster(house):
    nodes = wait_for("three nodes are ready", 120, lambda: (n := [x for x in house.nomad("/v1/nodes") if x["Status"] == "ready"]) and len(n) == 3 and n)
    assert sorted(n["Name"] for n in nodes) == sorted(NODES)
    for node in nodes:
        assert node["Drivers"]["raw_exec"]["Healthy"], node["Name"]
    assert {m["Name"]: m["Status"] for m in house.consul("/v1/agent/members")} == dict.fromkeys(NODES, 1)
    for name in NODES:
        assert house.lab.sh(name, "systemctl list-units --failed --plain --no-legend", check=False) == ""
        assert house.lab.sh(name, "stat -c %a:%U /etc/consul.d/management_token", check=False) == ("600:root" if name == "controller" else "")


def test_strangers_may_not_change_it(house):
    """Reading is allowed; writing needs the token. Without one Consul names no service."""
    assert house.http("controller", 4646, "/v1/jobs")
    with pytest.raises(OSError, match="403"):
        house.http("controller", 4646, f"/v1/job/{JOB}", method="DELETE")
    assert house.http("controller", 8500, "/v1/catalog/services") == {}
    shown = json.loads(house.lab.sh("controller", "choir token cluster --json"))
    assert shown == {"nomad": house.token("nomad"), "consul": house.token("consul")}
    for node, words in (("worker1", []), ("controller", ["runuser", "-u", "pipecatapp", "--"])):
        refused = house.lab.call("exec", node, *words, "choir", "token", "cluster")
        assert refused.returncode == 1 and "only root reads them" in refused.stderr and not refused.stdout, refused.stderr


def test_rendered_jobs_are_valid(house):
    listed = house.lab.sh("controller", "ls /opt/nomad/jobs/*.nomad").split()
    assert {"llama-expert.nomad", "pipecatapp.nomad", "health-check.nomad"} <= {p.rsplit("/", 1)[1] for p in listed}
    for path in listed:
        said = house.lab.call("exec", "controller", "bash", "-c",
                              f"NOMAD_TOKEN=$(cat /etc/nomad.d/management_token) /srv/choir/bin/nomad job validate {path} && "
                              f"/srv/choir/bin/nomad fmt -check {path}")
        assert said.returncode == 0, f"{path}: {said.stdout}{said.stderr}"


def test_an_expert_answers_through_the_agent(house):
    with house.report.phase("until the expert passes its check after the playbook"):
        wait_for("one healthy expert", 240, lambda: healthy(house, 1))
    wait_for("the agent is healthy", 240, lambda: house.passing("pipecat-app"))
    with house.report.phase("an answer of the expert through the agent"):
        print(answers(house))
    model = house.consul(f"/v1/health/service/{EXPERT}?passing")[0]["Service"]["Tags"]
    assert any(t.startswith("model=") for t in model), model


def test_each_node_leads_to_the_agent(house):
    """Port 8000 of every node: the same agent."""
    for name in NODES:
        said = house.lab.sh(name, "curl -sS --max-time 20 http://127.0.0.1:8000/health")
        assert json.loads(said)["status"] == "ok", (name, said)


def test_a_killed_expert_comes_back(house):
    node, = healthy(house, 1)
    old = server_pid(house, node)
    assert old
    house.lab.sh(node, f"kill -9 {old}")
    with house.report.phase("kill -9 of the only expert, until one passes again"):
        wait_for("another process serves", 120, lambda: (n := healthy(house, 1)) and server_pid(house, n[0]) not in ("", old))
    answers(house)


def test_a_replica_answers_while_the_other_is_killed(house):
    house.scale(JOB, GROUP, 2)
    with house.report.phase("scaled from 1 to 2, until both pass"):
        first = wait_for("two healthy experts", 180, lambda: healthy(house, 2))
    assert len(set(first)) == 2, first
    victim = first[0]
    house.lab.sh(victim, f"kill -9 {server_pid(house, victim)}")
    with house.report.phase("an answer straight after a replica was killed"):
        answers(house)
    wait_for("two healthy experts again", 120, lambda: healthy(house, 2))


def worker_of_an_expert_alone(house):
    """A worker that has one of the two experts, and not the agent; where there is none an expert moves."""
    agent = house.agent_node()
    both = wait_for("two healthy experts", 60, lambda: healthy(house, 2))
    wanted = [n for n in NODES if n not in (agent, "controller")]
    if not set(wanted) & set(both):  # then they are on the controller and beside the agent
        nodes = {n["Name"]: n["ID"] for n in house.nomad("/v1/nodes")}
        house.nomad(f"/v1/node/{nodes['controller']}/eligibility", {"Eligibility": "ineligible"})
        house.nomad(f"/v1/allocation/{house.allocations(JOB)['controller']}/stop", {}, method="PUT")
        both = wait_for("the expert moves", 180, lambda: (n := healthy(house, 2)) and "controller" not in n and n)
        house.nomad(f"/v1/node/{nodes['controller']}/eligibility", {"Eligibility": "eligible"})
    return next(n for n in wanted if n in both)


def test_a_cut_node_is_replaced_and_comes_back(house):
    victim = worker_of_an_expert_alone(house)
    house.lab.call("cut", victim, check=True)
    try:
        with house.report.phase("an answer straight after a node was cut"):
            answers(house)
        with house.report.phase("cut node, until another holds its expert"):
            wait_for("two healthy experts elsewhere", 180, lambda: (n := healthy(house, 2)) and victim not in n and n)
        assert next(n["Status"] for n in house.nomad("/v1/nodes") if n["Name"] == victim) in ("down", "disconnected")
        answers(house)
    finally:
        house.lab.call("mend", victim, check=True)
    with house.report.phase("cable in again, until the node is ready and two experts pass"):
        wait_for("the node is ready", 120, lambda: all(n["Status"] == "ready" for n in house.nomad("/v1/nodes")))
        wait_for("two experts", 120, lambda: healthy(house, 2) and len(house.allocations(JOB)) == 2)


def test_scaled_to_nothing_and_back(house):
    house.scale(JOB, GROUP, 0)
    with house.report.phase("scaled to 0, until it is out of Consul"):
        wait_for("no expert", 60, lambda: house.consul(f"/v1/health/service/{EXPERT}") == [])
    code, said, problem = house.ask_expert("main", "Say yes.")
    assert code != 0 or "light local model" in said, said  # and the person is told
    print(said, problem)
    house.scale(JOB, GROUP, 1)
    with house.report.phase("scaled to 1, until it passes"):
        wait_for("one healthy expert", 180, lambda: healthy(house, 1))
    def expert_itself():
        code, said, _ = house.ask_expert("main", "Say yes.")
        return code == 0 and "light local model" not in said

    wait_for("the agent sees it again", 60, expert_itself)


def test_memory_of_the_control_plane(house):
    for name in NODES:
        found = house.memory(name)
        house.report.add(f"memory of {name}", ", ".join(f"{k} {v} MB" for k, v in sorted(found.items())))
        assert {"consul", "nomad agent"} <= set(found)
        assert found["consul"] + found["nomad agent"] < 700, found


def test_processes_run_as_their_own_users(house):
    allowed = {"consul": {"consul"}, "nomad": {"root"}, "llama-server": {"llama", "pipecatapp"}, "choir": {"llama", "pipecatapp"},
               "choir-stt": {"pipecatapp"}, "choir-tts": {"pipecatapp"}, "choir-ear": {"pipecatapp"}}
    for name in NODES:
        seen = {}
        for row in house.lab.sh(name, "ps -eo user:32=,comm=").splitlines():
            user, comm = row.split(None, 1)
            seen.setdefault(comm.strip(), set()).add(user)
        assert seen.get("consul") and seen.get("nomad"), seen
        for comm, users in allowed.items():
            assert seen.get(comm, users) <= users, (name, comm, seen[comm])


@pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="only with --full")
def test_a_persons_day(house):
    """e2e-tests.yaml is green; and red, with the reason, where an expert is missing."""
    recap, output = house.play("e2e-tests.yaml")
    assert recap and not any(f["failed"] or f["unreachable"] for f in recap.values()), output[-4000:]
    assert output.count("ok      ") == 7, output[-4000:]
    recap, output = house.play("e2e-tests.yaml", variables={"e2e_expert": "nobody"})
    assert sum(f["failed"] for f in recap.values()) == 1 and "FAILED  expert nobody" in output, output[-4000:]


def test_the_playbook_again_changes_nothing(house):
    with house.report.phase("playbook, second time"):
        recap, output = house.play("playbook.yaml")
    assert sorted(recap) == sorted(NODES), output[-3000:]
    for name, figures in recap.items():
        told = [t.split("]", 1)[0] for t in output.split("\nTASK [")[1:] if f"\nchanged: [{name}" in t]
        assert figures["failed"] == figures["unreachable"] == 0 and figures["changed"] == 0, (name, figures, told)


def test_nodes_shut_down(house):
    with house.report.phase("three orderly shutdowns, one after the other"):
        for name in ("worker2", "worker1", "controller"):
            house.lab.call("stop", name, check=True, timeout=150)
    states = [line.split()[2] for line in house.lab.call("status", check=True).stdout.splitlines()]
    assert states == ["off"] * 3
