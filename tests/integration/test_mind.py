"""The agent's mind with its real model, as a person meets it: an order in words, the question, what is shown and said; and the tools
that are about the running agent itself."""

import json
import os
import socket
import subprocess
import threading
import time

import pytest
from conftest import BUILD, Daemon

CHOIR = BUILD / "choir"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("mind") / "state", env={"USE_SUMMARIZER": "true"}).start()
    daemon.wait_warm()
    yield daemon
    daemon.stop()


def choir(house, *words):
    done = subprocess.run([CHOIR, words[0], "--state", house.state, *words[1:]], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def call(house, name, **arguments):
    return choir(house, "tools", "call", name, json.dumps(arguments))


class SlowPages:
    """A way to the daemon on which all that /ws says comes late: what the answer's own connection says must wait for it."""

    def __init__(self, port, delay):
        self.port, self.delay = port, delay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.port))
            head = near.recv(65536)  # who is called by another name does not answer
            far.sendall(head.replace(self.url.removeprefix("http://").encode(), f"127.0.0.1:{self.port}".encode()))
            threading.Thread(target=self.copy, args=(near, far, 0), daemon=True).start()
            threading.Thread(target=self.copy, args=(far, near, self.delay if head.startswith(b"GET /ws ") else 0), daemon=True).start()

    def copy(self, source, sink, delay):
        try:
            while data := source.recv(65536):
                time.sleep(delay)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def order(house, text, yes, tries=4, url=None):
    """What choir chat prints, with the question it led to answered, and that question. A machine that was too busy to find out what
    is wanted says so; then it is said again."""
    chat = subprocess.Popen([CHOIR, "chat", "--url", url or house.url, "--once", text], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    cards, end = [], time.monotonic() + 200
    while not cards and chat.poll() is None and time.monotonic() < end:
        cards = json.loads(choir(house, "approve", "--json"))
        time.sleep(0.1)
    if cards:
        choir(house, "approve", "--yes" if yes else "--no", cards[0]["id"])
    out, _ = chat.communicate(timeout=200)
    if not cards and tries > 1 and "did not find out in time" in out:
        return order(house, text, yes, tries - 1, url)
    return out, cards


def test_an_order_asks_then_shows(house):
    out, cards = order(house, "list the files in /etc", True)
    assert cards and (cards[0]["tool"], cards[0]["action"]) == ("shell", "execute_command"), (out, cards)
    assert "/etc" in json.dumps(cards[0]["args"])
    for name in ("passwd", "hostname", "fstab"):  # shown as a whole
        assert name in out, out
    said = out.strip().splitlines()[-1]
    assert "put out" in said and "lines; the first are " in said, out  # and said from its own words


def test_the_answer_waits_for_the_output(house):
    pages = SlowPages(int(house.url.rsplit(":", 1)[1]), 0.3)
    out, cards = order(house, "list the files in /etc", True, url=pages.url)
    pages.listener.close()
    assert cards and "put out" in out.strip().splitlines()[-1] and "fstab" in out, out


def test_a_denied_order_does_nothing(house):
    out, cards = order(house, "list the files in /etc", False)
    assert cards, out
    assert "a person said no" in out and "fstab" not in out, out


def test_tools_about_the_agent(house):
    """The summary replaces nothing: what was said stays as it was."""
    said = subprocess.run([CHOIR, "chat", "--url", house.url, "--once", "My brother plays the oboe in a band."], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=200, check=True).stdout
    assert said.strip()
    assert "summarizer" in {t["id"] for t in json.loads(choir(house, "tools", "--json"))}
    _, before = house.get("/api/conversations")
    found = call(house, "summarizer.get_summary", query="my brother's oboe")
    assert "You said: My brother plays the oboe in a band." in found
    assert "Nothing in this conversation" in call(house, "summarizer.get_summary", query="zygomorphic")
    assert house.get("/api/conversations")[1] == before
    assert call(house, "mcp.get_status").startswith("Current pipeline status:")
    assert "conversation" in call(house, "mcp.get_memory_summary")
    assert call(house, "final_answer.submit_task", summary="all is well").strip() == "all is well"
    call(house, "mcp.clear_short_term_memory")
    assert "Nothing in this conversation" in call(house, "summarizer.get_summary", query="my brother's oboe")


def test_a_task_in_parts(house):
    """Each part by a tool of the sub-agent's own, and no further than its budget."""
    done = call(house, "smol_agent_computer.run", task_description="what time is it and then list my timers")
    assert "what time is it: " in done and "list my timers: " in done, done
    assert "clock.get_time" in done or "It is " in done, done
    many = "; ".join(["what time is it"] * 11)
    done = call(house, "smol_agent_computer.run", task_description=many)
    assert done.count("what time is it: ") == 8 and "budget of steps is used up" in done, done


@pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="three long answers of the model: ./test --full")
def test_a_plan_in_three_passes(house):
    plan = call(house, "prompt_improver.create_prompt_plan", user_input="a counter of birds at the feeder")
    parts = [plan.find(f"{title}\n\n") for title in ("One page", "Specification", "Plan")]
    assert -1 not in parts and parts == sorted(parts), plan
    assert all(len(part.strip()) > 20 for part in plan.split("\n\n")[1:2]), plan
