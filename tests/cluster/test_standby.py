"""The agent's own node is lost: what was said is on another node after each turn, the agent is back there with all of it,
and the lost turns are a count. Only with --full."""
import json
import os
import shlex
import time

import pytest

from conftest import wait_for
from house import NODES

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


def test_the_agent_is_back_elsewhere_with_what_was_said(house, on_a_worker):
    first = house.agent_node()
    say(house, first, "Good morning.")
    agent(house, first, "/api/memory", {"text": "The boat is called Aurora."})
    begun = time.monotonic()
    before = kept(house, first)
    house.report.add("a turn, until it is on another node", f"at most {time.monotonic() - begun:.1f} s")
    time.sleep(6)  # what is no turn (the fact) goes out with the next look
    before = kept(house, first)
    house.lab.call("cut", first, check=True)
    cut = time.monotonic()
    try:
        second = wait_for("the agent answers elsewhere", 300, lambda: next((n for n, _, _ in house.passing("pipecat-app") if n != first), None))
        wait_for("its socket", 60, lambda: standby(house, second))
        took = time.monotonic() - cut
        house.report.add("the agent's node cut, until it is back elsewhere (limit 60 s)", f"{took:.1f} s")
        now = standby(house, second)
        house.report.add("turns lost", before["turns"] - now["taken"]["turns"])
        assert now["taken"]["turns"] == before["turns"] and now["epoch"] > before["epoch"]
        current = agent(house, second, "/api/conversations")["current"]
        assert any(e["text"] == "Good morning." for e in agent(house, second, f"/api/conversations/{current}")["entries"])
        assert any("Aurora" in f["text"] for f in agent(house, second, "/api/memory?q=boat")["facts"])
        assert say(house, second, "Are you still there?")
        assert took < 300
    finally:
        house.lab.call("mend", first, check=True)
    wait_for("the node is ready again", 180, lambda: all(n["Status"] == "ready" for n in house.nomad("/v1/nodes")))
    wait_for("there is one agent, the new one", 120, lambda: list(house.allocations("pipecat-app")) == [second])
    assert standby(house, second)["superseded"] is False
    kept(house, second)
