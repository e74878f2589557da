"""choir tools, choir approve and choir audit against a real daemon, over its own socket."""

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import BUILD, Daemon

CHOIR = BUILD / "choir"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("tools") / "state").start()
    yield daemon
    daemon.stop()


def choir(house, *words, stdin=None, code=0):
    done = subprocess.run([CHOIR, words[0], "--state", house.state, *words[1:]], capture_output=True, text=True, input=stdin,
                          timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_table_is_the_documented_one(house):
    """docs/tools.md is printed by choir tools --markdown: run that when this fails."""
    assert choir(house, "tools", "--markdown") == (ROOT / "docs/tools.md").read_text(encoding="utf-8")


def test_all_tools_are_listed_with_reasons(house):
    tools = json.loads(choir(house, "tools", "--json"))
    assert {t["id"] for t in tools} == {
        "ssh", "mcp", "vision", "desktop_control", "code_runner", "smol_agent_computer", "web_browser", "ansible", "power",
        "term_everything", "rag", "ha", "git", "orchestrator", "llxprt_code", "claude_clone", "final_answer", "shell",
        "prompt_improver", "clock", "route_to_expert"}
    for tool in tools:
        assert tool["available"] or (tool["reason"] and tool["remedy"]), tool
        assert tool["actions"], tool


def test_read_and_local_calls_run_at_once(house):
    assert choir(house, "tools", "call", "clock.get_time").startswith("It is ")
    assert choir(house, "tools", "call", "shell.execute_command", '{"command": "echo $((6*7))"}').strip() == "42"
    assert "lacks" in subprocess.run([CHOIR, "tools", "--state", house.state, "call", "clock.set_timer", "{}"],
                                     capture_output=True, text=True, timeout=60, check=False).stderr


def wait_for_card(house):
    for _ in range(200):
        cards = json.loads(choir(house, "approve", "--json"))
        if cards:
            return cards[0]
        time.sleep(0.1)
    raise AssertionError("no question came")


def call_in_background(house, target):
    result = {}

    def run():
        result["done"] = subprocess.run(
            [CHOIR, "tools", "--state", house.state, "call", "shell.execute_command",
             json.dumps({"command": f"touch {target}", "host": True})], capture_output=True, text=True, timeout=120, check=False)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


@pytest.mark.parametrize("yes", [False, True])
def test_a_change_waits_for_an_answer(house, tmp_path, yes):
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.owner() == tmp_path.owner() and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    target = tmp_path / "made"
    thread, result = call_in_background(house, target)
    card = wait_for_card(house)
    assert card["target"] == "this machine" and "leave the sandbox" in card["reasons"][0]
    # plain HTTP on loopback, which the agent's own tools could reach, may not answer
    refused = house.post("/api/approvals/answer", {"id": card["id"], "digest": card["digest"], "approve": True})
    assert refused[0] == 403
    wrong = house.post("/api/approvals/answer", {"id": card["id"], "digest": "0" * 64, "approve": True})
    assert wrong[0] in (403, 409)
    assert not target.exists()
    choir(house, "approve", "--yes" if yes else "--no", card["id"])
    thread.join(60)
    assert target.exists() == yes
    assert (result["done"].returncode == 0) == yes, result["done"].stderr
    choir(house, "approve", "--yes", card["id"], code=1)  # an answer counts once


def test_everything_is_in_the_log(house):
    assert "is intact" in choir(house, "audit", "verify")
    entries = json.loads(choir(house, "audit", "--json"))
    assert any(e.get("verdict", "").startswith("approved by unix:") for e in entries)
    log = Path(house.state) / "audit.jsonl"
    text = log.read_bytes()
    broken = text.replace(b"approved by", b"approved bY", 1)
    copy = Path(house.state) / "copy"
    copy.mkdir()
    (copy / "audit.jsonl").write_bytes(broken)
    done = subprocess.run([CHOIR, "audit", "verify", "--state", copy], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "was changed" in done.stderr, done.stderr
    # The end: the chain itself is whole, but the daemon knows what it wrote, and so does who noted the head.
    head = next(line.split()[1] for line in choir(house, "audit", "verify").splitlines() if line.startswith("head "))
    last = text.rstrip(b"\n").rfind(b"\n") + 1
    try:
        for changed in (text[:last], text[:last] + text[last:].replace(b'"kind"', b'"kinD"', 1)):
            log.write_bytes(changed)
            (copy / "audit.jsonl").write_bytes(changed)
            choir(house, "audit", "verify", code=1)
            assert house.get("/api/audit?verify=1")[1]["chain"]["good"] is False
            for words, code in (([], 0), (["--head", head], 1)):
                done = subprocess.run([CHOIR, "audit", "verify", "--state", copy, *words], capture_output=True, text=True, timeout=60, check=False)
                assert done.returncode == code, done
    finally:
        log.write_bytes(text)
    choir(house, "audit", "verify", "--head", head)
