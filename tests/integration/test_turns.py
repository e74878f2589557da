"""Typed turns through the original's routes, one conversation for all, and the kill test of the history."""
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from conftest import BUILD
from websockets.sync.client import connect


def test_sync_chat_answers(warm_daemon):
    code, answer = warm_daemon.post("/internal/chat/sync", {"text": "What is the capital of France?", "request_id": "r1"})
    assert code == 200
    assert answer["request_id"] == "r1"
    assert "Paris" in answer["content"]


def test_data_is_accepted_for_text(warm_daemon):
    code, answer = warm_daemon.post("/internal/chat/sync", {"data": "What is the capital of Italy?"})
    assert code == 200
    assert "Rome" in answer["content"]


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": 5}, {"text": "x" * 20000}])
def test_bad_bodies_are_refused(warm_daemon, body):
    code, answer = warm_daemon.post("/internal/chat/sync", body)
    assert code in (400, 413)
    assert set(answer["error"]) >= {"type", "code", "message"}


def test_answer_is_posted_to_the_response_url(warm_daemon):
    got, done = [], threading.Event()

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        code, answer = warm_daemon.post(
            "/internal/chat",
            {"text": "Say hello.", "request_id": "abc", "response_url": f"http://127.0.0.1:{server.server_port}/r"},
        )
        assert (code, answer) == (202, {"message": "Request accepted"})
        assert done.wait(60)
    finally:
        server.shutdown()
    assert got[0]["request_id"] == "abc" and got[0]["content"].strip()


def test_response_url_outside_the_list_is_refused(warm_daemon):
    code, answer = warm_daemon.post("/internal/chat", {"text": "hi", "response_url": "http://192.0.2.1/x"})
    assert code == 403 or code == 400
    assert "response_url" in answer["error"]["message"]


def test_every_way_in_appears_on_an_open_page(warm_daemon):
    """/ws, /internal/chat/sync, Realtime, the API and the command line: one conversation, seen live by a page."""
    base = warm_daemon.url.replace("http:", "ws:")

    def by_ws(text):
        with connect(base + "/ws") as other:
            other.send(json.dumps({"type": "user_message", "data": text}))

    def by_realtime(text):
        with connect(base + "/v1/realtime") as client:
            client.send(json.dumps({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}}))
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
            client.send(json.dumps({"type": "conversation.item.create", "item": item}))
            client.send(json.dumps({"type": "response.create"}))
            while json.loads(client.recv(60))["type"] != "response.done":
                pass

    def by_api(text, **headers):
        body = {"model": "any", "messages": [{"role": "user", "content": text}], "max_tokens": 8}
        assert warm_daemon.post("/v1/chat/completions", body, headers=headers)[0] == 200

    def by_cli(text):
        subprocess.run([str(BUILD / "choir"), "chat", "--url", warm_daemon.url, "--once", text], check=True, timeout=60, capture_output=True)

    ways = {
        "ws": by_ws,
        "internal": lambda text: warm_daemon.post("/internal/chat/sync", {"text": text}),
        "realtime": by_realtime,
        "api": by_api,
        "api, live": lambda text: by_api(text, **{"X-Choir-Conversation": "live"}),
        "cli": by_cli,
    }
    with connect(base + "/ws") as page:
        for number, (way, say) in enumerate(ways.items()):
            text = f"Say the number {number}."
            say(text)
            asked = answered = None
            while not answered:
                event = json.loads(page.recv(60))
                if event["type"] == "user" and event["data"] == text:
                    asked = event
                answered = event["type"] == "agent" and asked and event["turn_id"] == asked["turn_id"] and event
            assert asked["source"] == way.split(",")[0], way
            assert answered["data"].strip(), way


def test_turns_are_listed_and_exported(warm_daemon):
    warm_daemon.post("/internal/chat/sync", {"text": "What is two plus two?"})
    _, listing = warm_daemon.get("/api/conversations")
    current = listing["current"]
    _, conversation = warm_daemon.get(f"/api/conversations/{current}")
    texts = [e["text"] for e in conversation["entries"]]
    assert "What is two plus two?" in texts
    _, export = warm_daemon.get(f"/api/conversations/{current}/export")
    assert export["format"] == "choir-conversation"
    code, _ = warm_daemon.post(f"/api/conversations/{current}/rename", {"title": "Sums"})
    assert code == 200
    code, new = warm_daemon.post("/api/conversations", {})
    assert code in (200, 201) and new["id"] != current
    code, _ = warm_daemon.post(f"/api/conversations/{current}/delete", {})
    assert code == 200
    _, listing = warm_daemon.get("/api/conversations")
    assert current not in [c["id"] for c in listing["conversations"]]


@pytest.mark.timeout(4800)  # 200 starts of the language model in the full run
def test_every_acknowledged_turn_survives_kills(new_daemon):
    """SIGKILL at random moments under traffic: what was answered must be in the history."""
    rounds = 200 if os.environ.get("CHOIR_FULL") == "1" else 20
    seed = int(os.environ.get("CHOIR_SEED", time.time()))
    print(f"seed {seed}, {rounds} kills")
    chance = random.Random(seed)
    # Short replies keep the traffic fast.
    daemon = new_daemon("--set", "llm.max_tokens=8", env={"STT_SERVICE": "pocketsphinx", "TTS_SERVICE": "flite"})
    acknowledged = []
    for turn in range(rounds):
        daemon.wait_warm()
        stop = threading.Event()

        def traffic(turn=turn, stop=stop):
            n = 0
            while not stop.is_set():
                text = f"round {turn} message {n}"
                try:
                    code, answer = daemon.post("/internal/chat/sync", {"text": text}, timeout=30)
                except (OSError, urllib.error.URLError, json.JSONDecodeError, ConnectionError):
                    return
                if code == 200:
                    acknowledged.append((text, answer["content"]))
                n += 1

        thread = threading.Thread(target=traffic)
        thread.start()
        # After some answers, at a moment that falls anywhere in the next turn.
        enough, end = len(acknowledged) + chance.randint(0, 2), time.monotonic() + 60
        while len(acknowledged) < enough and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.5))
        daemon.stop(signal.SIGKILL)
        stop.set()
        thread.join(40)
        daemon.start()
    assert len(acknowledged) >= rounds / 2, "the traffic hardly ran: this proves nothing"
    database = sqlite3.connect(f"file:{daemon.state}/history.db?mode=ro", uri=True)
    assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    stored = {row[0] for row in database.execute("select text from entries")}
    lost = [t for t, reply in acknowledged if t not in stored or reply not in stored]
    assert lost == []
    print(f"{len(acknowledged)} acknowledged turns, none lost")
