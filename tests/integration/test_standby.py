"""The agent's state on other nodes: two daemons with `choir standby` between them, all on loopback. The language model is a
stand-in that answers at once: what is tested is what survives the first daemon."""
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.request

import pytest
from conftest import BUILD, Daemon
from waiting import wait_for

KEY = "0123456789abcdef0123456789abcdef0123456789"
QUIET = ("--set", "wyoming.stt_port=0", "--set", "wyoming.tts_port=0", "--set", "stt.service=pocketsphinx", "--set", "tts.service=flite")


class Model(http.server.BaseHTTPRequestHandler):
    """An OpenAI-compatible server that says one sentence."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer("application/json", json.dumps({"data": [{"id": "stand-in"}]}))

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        delta = {"choices": [{"index": 0, "delta": {"content": "Understood."}, "finish_reason": None}]}
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        self.answer("text/event-stream", "".join(f"data: {part}\n\n" for part in (json.dumps(delta), json.dumps(last), "[DONE]")))

    def answer(self, kind, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def model():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Standby:
    def __init__(self, folder, key, name="other"):
        self.folder, self.key, self.name = folder, key, name
        self.process = self.url = None
        self.port = 0

    def start(self):
        self.process = subprocess.Popen([BUILD / "choir", "standby", "--dir", self.folder, "--key-file", self.key, "--address", "127.0.0.1",
                                         "--port", str(self.port), "--node", self.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        line = self.process.stdout.readline().decode()
        assert "keeping copies" in line, line
        self.port = int(line.split()[-1])
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def newest(self):
        """The manifest of the newest copy on its disk."""
        found = [json.loads(p.read_text()) for p in pathlib.Path(self.folder).glob("g-*-*[0-9]/manifest.json")]
        return max(found, key=lambda m: (m["epoch"], m["generation"]), default=None)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def house(tmp_path, model):
    """Makes daemons and standbys with one key."""
    key = tmp_path / "state.key"
    key.write_text(KEY + "\n")
    key.chmod(0o640)
    made = []

    class House:
        key_file = key

        @staticmethod
        def standby(name="other", folder=None, key_file=key):
            made.append(Standby(folder or tmp_path / f"copies-{name}", key_file, name))
            return made[-1].start()

        @staticmethod
        def daemon(name, *peers, options=()):
            daemon = Daemon(tmp_path / name, "--set", f"llm.base_url={model}/v1", "--set", "llm.model=stand-in", "--set", f"standby.key_file={key}",
                            "--set", f"standby.peers={','.join(getattr(p, 'url', p) for p in peers)}", *QUIET, *options)
            made.append(daemon)
            return daemon

    yield House
    for one in made:
        if isinstance(one, Standby):
            one.stop()
        elif one.process and one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)


def say(daemon, text):
    status, answer = daemon.post("/internal/chat/sync", {"text": text})
    assert status == 200, answer
    return answer["content"]


def status(daemon):
    return daemon.get("/api/status")[1]["standby"]


def kept(daemon, turns):
    def is_kept():
        now = status(daemon)
        if now["behind"] != 0 or now["turns"] != turns:
            raise ValueError(now)
        return now

    return wait_for(f"{turns} turns on another node", 20, is_kept)


def said(daemon):
    current = daemon.get("/api/conversations")[1]["current"]
    return [e["text"] for e in daemon.get(f"/api/conversations/{current}")[1]["entries"]]


def test_a_killed_agent_is_back_elsewhere_with_what_was_said(house):
    other = house.standby()
    first = house.daemon("first", other).start()
    assert say(first, "My boat is called Aurora.") == "Understood."
    first.post("/api/memory", {"text": "The lighthouse keeper is Nils."})
    say(first, "Second sentence.")
    now = kept(first, 2)
    assert now["copies"][0]["node"] == "other" and now["problem"] is None
    wait_for("the fact too", 20, lambda: "lighthouse" in (other.folder / f"g-{other.newest()['epoch']}-{other.newest()['generation']}/files/facts.db")
             .read_bytes().decode(errors="ignore"))
    first.stop(signal.SIGKILL)

    second = house.daemon("second", other).start()
    taken = status(second)["taken"]
    assert taken["turns"] == 2 and taken["lost"] is None and status(second)["epoch"] == now["epoch"] + 1
    assert said(second) == ["My boat is called Aurora.", "Understood.", "Second sentence.", "Understood."]
    facts = second.get("/api/memory?q=lighthouse")[1]["facts"]
    assert any("Nils" in f["text"] for f in facts), facts
    say(second, "Third sentence.")
    kept(second, 3)

    # The first one returns: what it has is older now, is replaced, and kept.
    first.start()
    assert len(said(first)) == 6 and status(first)["taken"]["turns"] == 3
    replaced = list((first.state / "standby").glob("replaced-*/history.db"))
    assert len(replaced) == 1
    with contextlib.closing(sqlite3.connect(replaced[0])) as db:
        assert db.execute("SELECT count(*) FROM entries").fetchone()[0] == 4
    # The second one still runs, and must notice that it is not the agent any more.
    say(second, "Said to nobody.")
    wait_for("the second sees that it was overtaken", 20, lambda: status(second)["superseded"])
    assert "taken over" in status(second)["problem"]
    assert other.newest()["epoch"] == status(first)["epoch"]


def test_lost_turns_are_counted_by_what_the_page_saw(house):
    from websockets.sync.client import connect  # pylint: disable=import-outside-toplevel
    other = house.standby()
    first = house.daemon("first", other).start()
    say(first, "One.")
    kept(first, 1)
    os.kill(other.process.pid, signal.SIGSTOP)  # it takes nothing any more, and does not say so
    with connect(first.url.replace("http", "ws") + "/ws") as socket_:
        hello = json.loads(socket_.recv())
        assert hello["turns"] == 1 and "epoch" in hello
        say(first, "Two.")
        say(first, "Three.")
        seen = wait_for("the page sees both", 10, lambda: (m := json.loads(socket_.recv(timeout=5)))["type"] == "saved" and m["turns"] == 3 and m)
    assert status(first)["behind"] == 2
    first.stop(signal.SIGKILL)
    os.kill(other.process.pid, signal.SIGCONT)
    second = house.daemon("second", other).start()
    with connect(second.url.replace("http", "ws") + "/ws") as socket_:
        hello = json.loads(socket_.recv())
        had = status(second)["taken"]["turns"]
        assert hello["taken_turns"] == had and hello["epoch"] == seen["epoch"] + 1
        socket_.send(json.dumps({"type": "seen", "epoch": seen["epoch"] - 5, "turns": 900}))  # of another life: does not count
        socket_.send(json.dumps({"type": "seen", "epoch": seen["epoch"], "turns": seen["turns"]}))
        wait_for("the count", 10, lambda: status(second)["taken"]["lost"] == 3 - had)
    with urllib.request.urlopen(second.url + "/metrics") as answer:
        assert f"choir_state_turns_lost {3 - had}" in answer.read().decode()
    kept(second, had)
    done = subprocess.run([BUILD / "choir", "status", "--url", second.url], capture_output=True, text=True, check=False, timeout=20)
    assert f"turns lost: {3 - had}" in done.stdout and "other" in done.stdout


def test_a_stalled_receiver_delays_no_turn_and_the_other_node_gets_it(house):
    dead = socket.socket()  # takes the connection and never answers
    dead.bind(("127.0.0.1", 0))
    dead.listen()
    good = house.standby()
    daemon = house.daemon("agent", f"http://127.0.0.1:{dead.getsockname()[1]}", good).start()
    begun = time.monotonic()
    for i in range(5):
        say(daemon, f"Sentence {i}.")
    assert time.monotonic() - begun < 10
    kept(daemon, 5)
    assert good.newest()["turns"] == 5
    dead.close()


def test_wrong_key_and_damaged_copies_are_refused(house, tmp_path):
    wrong = tmp_path / "wrong.key"
    wrong.write_text("another key, of the right length, not ours".replace(" ", "-") + "\n")
    wrong.chmod(0o600)
    stranger = house.standby("stranger", key_file=wrong)
    first = house.daemon("first", stranger).start()
    say(first, "One.")
    problem = wait_for("a sentence", 20, lambda: status(first)["problem"])
    assert "another one than yours" in problem and stranger.newest() is None
    assert any(m["what"] == "copy on another node" for m in first.get("/api/status")[1]["missing"])
    first.stop()

    good, rotten = house.standby("good"), house.standby("rotten")
    first = house.daemon("first", good, rotten).start()
    say(first, "Two.")
    wait_for("two copies", 20, lambda: all(c.newest() and c.newest()["turns"] == 2 for c in (good, rotten)))
    first.stop(signal.SIGKILL)
    for path in rotten.folder.glob("g-*/files/history.db"):
        data = bytearray(path.read_bytes())
        data[5000] ^= 255
        path.write_bytes(data)
    second = house.daemon("second", rotten, good).start()
    assert said(second)[0] == "One." and status(second)["taken"]["turns"] == 2
    # A key that everybody may read is not used, and that is said.
    second.stop()
    house.key_file.chmod(0o644)
    second.start()
    assert status(second) is None
    assert "chmod 0640" in str(second.get("/api/status")[1]["missing"])


def test_a_full_disk_of_the_receiver_is_said_and_ends(house, tmp_path):
    if os.geteuid():
        pytest.skip("needs root for a small disk")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1600k", "tmpfs", small], check=False).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        other = house.standby(folder=small / "copies")
        filler = small / "filler"
        filler.write_bytes(b"x" * 500_000)
        daemon = house.daemon("agent", other).start()
        say(daemon, "One.")
        problem = wait_for("a sentence", 20, lambda: status(daemon)["problem"])
        assert "too little space" in problem or "free some" in problem, problem
        filler.unlink()
        kept(daemon, 1)
        other.stop()
    finally:
        subprocess.run(["umount", small], check=True)


def test_an_older_copy_never_replaces_what_is_here(house, tmp_path):
    other = house.standby()
    first = house.daemon("first", other).start()
    say(first, "One.")
    kept(first, 1)
    first.stop()
    old = tmp_path / "old-copies"
    other.stop()
    shutil.copytree(other.folder, old)
    other.start()
    first.start()
    say(first, "Two.")
    kept(first, 2)
    first.stop(signal.SIGKILL)
    other.stop()
    stale = house.standby("stale", folder=old)
    first = house.daemon("first", stale).start()
    assert [t for t in said(first) if t != "Understood."] == ["One.", "Two."] and status(first)["taken"] is None
    kept(first, 2)  # and it brings the old copy up to date
    assert stale.newest()["turns"] == 2


def test_short_writes_and_strangers_change_nothing(house):
    other = house.standby()
    first = house.daemon("first", other).start()
    say(first, "One.")
    kept(first, 1)
    before = other.newest()
    for body in (b"", b"CHS1", b"CHS1" + bytes(200), b"x" * 9_000_000):
        request = urllib.request.Request(other.url + "/standby/1", body, {"Content-Type": "application/octet-stream"})
        with pytest.raises((urllib.error.HTTPError, urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(request, timeout=10)
    with socket.create_connection(("127.0.0.1", other.port), 5) as half:  # breaks off in the middle
        half.sendall(b"POST /standby/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nCHS1")
    assert other.newest() == before

    def healthy():  # 503 while the strangers' connections are still going away
        with urllib.request.urlopen(other.url + "/health", timeout=10) as answer:
            return json.loads(answer.read())["keeps"] is True

    wait_for("a healthy standby", 20, healthy)
    say(first, "Two.")
    kept(first, 2)


def test_what_a_person_restores_stays(house, tmp_path):
    other = house.standby()
    first = house.daemon("first", other).start()
    say(first, "One.")
    epoch = kept(first, 1)["epoch"]
    archive = tmp_path / "choir.tar"
    subprocess.run([BUILD / "choir", "backup", "--state", first.state, archive], check=True, timeout=60, capture_output=True)
    say(first, "Two.")
    kept(first, 2)
    first.stop()
    subprocess.run([BUILD / "choir", "restore", "--state", first.state, archive], check=True, timeout=60, capture_output=True)
    first.start()
    assert said(first) == ["One.", "Understood."] and status(first)["taken"] is None
    kept(first, 1)
    assert (other.newest()["epoch"], other.newest()["turns"]) == (epoch + 1, 1)
