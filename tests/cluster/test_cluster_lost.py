"""The agent's own node is lost: what was said is on another node after each turn, the agent is back there with all of it,
and the lost turns are a count; then each fault of `tests/cluster/faults` during a conversation. Only with --full, on the nodes of
test_cluster.py."""
import json
import os
import pathlib
import re
import shlex
import subprocess
import time

import pytest

from house import NODES
from person import Person
from waiting import wait_for

pytestmark = [pytest.mark.timeout(2700), pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="part of ./test --full")]


def agent(house, node, path, body=None):
    """As a terminal of that node: the daemon's own socket."""
    data = f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}" if body is not None else ""
    return json.loads(house.lab.sh(node, f"curl -sS --fail-with-body -m 240 --unix-socket /opt/pipecatapp/choir.sock {data} http://localhost{path}", timeout=260))


def say(house, node, text):
    return agent(house, node, "/internal/chat/sync", {"text": text})["content"]


def standby(house, node):
    return agent(house, node, "/api/status")["standby"]


def kept(house, node):
    """What is known of the copies once every acknowledged turn is on another node."""
    return wait_for("all turns on another node", 120, lambda: (s := standby(house, node)) and s["behind"] == 0 and s["copies"] and s)


@pytest.fixture(scope="module")
def on_a_worker(house):
    """The agent runs on a worker: with the only controller the one who decides would be lost, too."""
    house.boot()  # test_cluster.py has switched them off
    wait_for("three nodes are ready", 180, lambda: [n["Status"] for n in house.nomad("/v1/nodes")].count("ready") == 3)
    wait_for("the agent is healthy", 300, lambda: house.passing("pipecat-app"))
    controller = next(n["ID"] for n in house.nomad("/v1/nodes") if n["Name"] == "controller")
    house.nomad(f"/v1/node/{controller}/eligibility", {"Eligibility": "ineligible"})
    if house.agent_node() == "controller":
        house.nomad(f"/v1/allocation/{house.allocations('pipecat-app')['controller']}/stop", {}, method="PUT")
    try:
        yield wait_for("the agent answers from a worker", 300, lambda: (n := house.agent_node()) not in (None, "controller") and n)
    finally:
        house.nomad(f"/v1/node/{controller}/eligibility", {"Eligibility": "eligible"})


def test_every_node_keeps_copies_and_nobody_else_may_ask(house, on_a_worker):
    wait_for("three standbys", 120, lambda: sorted(n for n, _, _ in house.passing("choir-standby")) == sorted(NODES))
    for node in NODES:
        mode, owner = house.lab.sh(node, "stat -c '%a %U:%G' /etc/choir/state.key").split()
        assert (mode, owner) == ("640", "root:pipecatapp")
        assert house.lab.call("exec", node, "runuser", "-u", "llama", "--", "cat", "/etc/choir/state.key").returncode != 0
    refused = house.lab.sh(on_a_worker, "curl -sS -m 10 -o /dev/null -w '%{http_code}' --data-binary nonsense http://$(hostname -I | cut -d' ' -f1):8011/standby/1")
    assert refused == "403"


def person(house, node, text):
    """Somebody on the controller, which stays."""
    token = agent(house, node, "/api/tokens", {"name": f"standby-{time.time():.0f}", "role": "operator"})["token"]
    kept(house, node)
    return Person("controller", token, text, house.lab.env)


def elsewhere(house, first):
    """The other node's name once the agent answers there, and the seconds that it took."""
    begun = time.monotonic()
    second = wait_for("the agent answers elsewhere", 300, lambda: next((n for n, _, _ in house.passing("pipecat-app") if n != first), None))
    wait_for("its socket", 60, lambda: standby(house, second))
    return second, time.monotonic() - begun


def settled(house, second):
    wait_for("the node is ready again", 180, lambda: all(n["Status"] == "ready" for n in house.nomad("/v1/nodes")))
    wait_for("there is one agent, the new one", 120, lambda: list(house.allocations("pipecat-app")) == [second])
    assert standby(house, second)["superseded"] is False
    kept(house, second)


def test_the_agent_is_back_elsewhere_with_what_was_said(house, on_a_worker):
    first = house.agent_node()
    say(house, first, "Good morning.")
    agent(house, first, "/api/memory", {"text": "The boat is called Aurora."})
    begun = time.monotonic()
    kept(house, first)
    house.report.add("a turn, until it is on another node", f"at most {time.monotonic() - begun:.1f} s")
    who = person(house, first, "Tell me a long story about a lighthouse and its keeper.")
    time.sleep(6)  # what is no turn (the fact, the token) goes out with the next look
    before = kept(house, first)
    assert who.reaches("SPEAKING")
    house.lab.call("cut", first, check=True)
    try:
        second, took = elsewhere(house, first)
        house.report.add("the agent's node cut, until it is back elsewhere", f"{took:.1f} s")
        found = who.result()
        house.report.add("the same, until the person is connected again", f"{found['away_s']:.1f} s")
        assert found["answered"] and not found["errors"] and found["reconnects"] >= 1 and found["lost"] == 0, found
        now = standby(house, second)
        assert now["taken"]["turns"] == before["turns"] and now["epoch"] > before["epoch"] and now["taken"]["lost"] == 0
        current = agent(house, second, "/api/conversations")["current"]
        assert any(e["text"] == "Good morning." for e in agent(house, second, f"/api/conversations/{current}")["entries"])
        assert any("Aurora" in f["text"] for f in agent(house, second, "/api/memory?q=boat")["facts"])
        assert found["away_s"] < 60, (took, found)  # what a person notices; `took` also holds the loading of the model
    finally:
        house.lab.call("mend", first, check=True)
    settled(house, second)


def test_a_turn_that_no_other_node_has_is_counted_as_lost(house, on_a_worker):
    first = house.agent_node()
    others = [n for n in NODES if n != first]
    who = person(house, first, "Say yes.")
    before = kept(house, first)
    for node in others:
        house.lab.sh(node, "systemctl kill --signal=STOP choir-standby")
    try:
        assert who.reaches("SAID"), who.result()
        house.lab.call("cut", first, check=True)
    finally:
        for node in others:
            house.lab.sh(node, "systemctl kill --signal=CONT choir-standby")
    try:
        second, _ = elsewhere(house, first)
        found = who.result()
        taken = standby(house, second)["taken"]
        house.report.add("turns lost, as the page and the agent count them", f"{found['lost']}, {taken['lost']}")
        assert found["answered"] and found["lost"] == taken["lost"] == 1, (found, taken)
        assert taken["turns"] == before["turns"]
    finally:
        house.lab.call("mend", first, check=True)
    settled(house, second)


def test_conversations_outlive_each_fault(house, on_a_worker, tmp_path):
    """Twice each here; docs/faults.md has the long run."""
    report = pathlib.Path(os.environ["CHOIR_REPORT"]).with_name("faults.md") if os.environ.get("CHOIR_REPORT") else tmp_path / "faults.md"
    done = subprocess.run([pathlib.Path(__file__).with_name("faults"), "--times", "2", "--report", report], env=house.lab.env, capture_output=True,
                          text=True, timeout=2400, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    rows = re.findall(r"^\| ([^|]+) \| 2 \| 0 \|", report.read_text(encoding="utf-8"), re.M)
    assert len(rows) == 6, report.read_text(encoding="utf-8")
