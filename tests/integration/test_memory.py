"""The long-term memory of the real daemon with the real models: learned, kept over a restart, recalled, shown, saved."""
import json
import os
import pathlib
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from conftest import BUILD

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir"
MODEL = CACHE / "models" / "all-MiniLM-L6-v2.Q8_0.gguf"
pytestmark = pytest.mark.skipif(not MODEL.exists(), reason=f"{MODEL} is missing; run ./run --setup-only")
RSS_EMPTY_KB = 25 * 1024


def say(daemon, text):
    status, answer = daemon.post("/internal/chat/sync", {"text": text})
    assert status == 200, answer
    return answer["content"]


def facts(daemon, query=""):
    return daemon.get("/api/memory?n=100" + query)[1]["facts"]


def wait_facts(daemon, n, timeout=60):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = facts(daemon)
        if len(found) >= n:
            return found
        time.sleep(0.2)
    pytest.fail(f"not {n} facts but {facts(daemon)}\n" + daemon.log()[-3000:])


def new_conversation(daemon):
    """Nothing of what was said before is in the prompt."""
    status, made = daemon.post("/api/conversations", {})
    assert status == 201 or status == 200, made
    listed = daemon.get("/api/conversations")[1]["conversations"]
    newest = max(c["id"] for c in listed)
    daemon.post(f"/api/conversations/{newest}/open", {})


def metric(daemon, name):
    with urllib.request.urlopen(daemon.url + "/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
    return None


def choir(daemon, *args, code=0):
    run = subprocess.run(
        [str(BUILD / "choir"), "memory", *args, "--state", str(daemon.state)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == code, run
    return run.stdout + run.stderr


def test_what_the_person_says_is_known_after_a_restart(new_daemon):
    daemon = new_daemon()
    daemon.wait_warm()
    assert daemon.get("/api/status")[1]["memory_kb"] <= RSS_EMPTY_KB
    say(daemon, "remember that my server is called atlas")
    say(daemon, "My sister Vera lives in Porto. How high is the Eiffel tower?")
    say(daemon, "Tell me a joke.")
    texts = {f["text"] for f in wait_facts(daemon, 2)}
    assert texts == {"My server is called atlas", "My sister Vera lives in Porto."}
    assert daemon.stop() == 0
    daemon.start()
    daemon.wait_warm()
    new_conversation(daemon)
    assert "atlas" in say(daemon, "what is my server called?").lower()
    assert "porto" in say(daemon, "In which city does my sister live?").lower()
    assert metric(daemon, "choir_memory_recalls_total") == 2
    assert all(f["uses"] == 1 for f in facts(daemon))
    # What was recalled or answered is not learned again.
    time.sleep(1)
    assert len(facts(daemon)) == 2
    # The control: without recalling nobody knows.
    assert daemon.stop() == 0
    daemon.args = (*daemon.args, "--set", "memory.recall=false")
    daemon.start()
    daemon.wait_warm()
    new_conversation(daemon)
    assert "atlas" not in say(daemon, "what is my server called?").lower()


def test_command_and_routes(new_daemon, tmp_path):
    daemon = new_daemon()
    assert "added as 1" in choir(daemon, "add", "The garage code is 9051")
    assert "merged as 1" in choir(daemon, "add", "The garage code is 9051")
    assert "superseded as 2" in choir(daemon, "add", "The garage code is 7717")
    assert "7717" in choir(daemon, "search", "which code opens the garage")
    assert "superseded by 2" in choir(daemon, "list", "--history")
    exported = choir(daemon, "export")
    assert [json.loads(line)["text"] for line in exported.splitlines()] == ["The garage code is 9051", "The garage code is 7717"]
    status, _ = daemon.post("/api/memory/edit", {"id": 2, "text": "The garage code is 1234"})
    assert status == 200
    assert "1234" in choir(daemon, "list")
    assert "forgotten" in choir(daemon, "forget", "2")
    assert facts(daemon, "&history=1") == []
    assert "there is no fact 2" in choir(daemon, "forget", "2", code=1)
    file = tmp_path / "memory.jsonl"
    file.write_text(exported)
    assert "1 added" in choir(daemon, "import", str(file))
    file.write_text("{}\n")
    assert "line 1" in choir(daemon, "import", str(file), code=1)
    for body in ({}, {"text": ""}, {"text": "x" * 1001}):
        assert daemon.post("/api/memory", body)[0] == 400
    assert daemon.post("/api/memory/forget", {"id": "one"})[0] == 400


def test_states(new_daemon):
    daemon = new_daemon()
    choir(daemon, "add", "My boat is called Gull")
    post = daemon.post
    assert post("/api/state/save", {}) == (400, post("/api/state/save", {})[1])
    assert "save_name is required" in post("/api/state/save", {})[1]["error"]["message"]
    for bad in ("../x", ".hidden", "a/b", "x" * 65):
        assert post("/api/state/save", {"save_name": bad})[0] == 400
    assert post("/api/state/save", {"save_name": "x"}) == (200, {"message": "Successfully saved state to 'x'"})
    folder = daemon.state / "saved_states" / "x"
    assert json.loads((folder / "long_term_memory.json").read_text()) == {"0": "My boat is called Gull"}
    assert (folder / "short_term_memory.json").exists() and (folder / "long_term_memory.faiss").exists()
    choir(daemon, "add", "I own a tent")
    assert post("/api/state/load", {"save_name": "x"}) == (200, {"message": "Successfully loaded state from 'x'"})
    assert [f["text"] for f in facts(daemon)] == ["My boat is called Gull"]
    status, answer = post("/api/state/load", {"save_name": "nope"})
    assert status == 404 and answer["error"]["message"] == "Error: Save state 'nope' not found."
    # A damaged state changes nothing.
    (folder / "facts.jsonl").write_text('{"text":"swapped"}\n')
    assert post("/api/state/load", {"save_name": "x"})[0] == 500
    assert [f["text"] for f in facts(daemon)] == ["My boat is called Gull"]
    # The original's own folder.
    old = daemon.state / "saved_states" / "old"
    old.mkdir()
    (old / "long_term_memory.json").write_text(json.dumps({"0": "The pump is in the yard", "1": "Tom has a key"}))
    (old / "short_term_memory.json").write_text(json.dumps(["User: hello", "Assistant: hi"]))
    assert post("/api/state/load", {"save_name": "old"})[0] == 200
    found = facts(daemon)
    assert {f["text"] for f in found} == {"The pump is in the yard", "Tom has a key"} and all(f["tainted"] for f in found)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        listed = daemon.get("/api/conversations")[1]
        if any(c["title"] == "old" and c["turns"] == 1 for c in listed["conversations"]):
            break
        time.sleep(0.1)
    else:
        pytest.fail(str(listed))


def test_python_faiss_reads_the_index(new_daemon):
    faiss = pytest.importorskip("faiss")
    numpy = pytest.importorskip("numpy")
    import sqlite3

    daemon = new_daemon()
    for i in range(30):
        daemon.post("/api/memory", {"text": f"Box {i} holds the {['red', 'blue', 'old'][i % 3]} {['cups', 'maps', 'nails'][i // 10]}"})
    added = {f["id"]: f["text"] for f in wait_facts(daemon, 30)}
    # What Choir itself finds nearest to the texts of three facts.
    ours = {}
    for row in (0, 7, 29):
        text = added[sorted(added)[row]]
        found = daemon.get("/api/memory?n=30&q=" + urllib.parse.quote(text))[1]["facts"]
        ours[row] = sorted((f["similarity"] for f in found if "similarity" in f), reverse=True)[:5]
    assert daemon.stop() == 0
    index = faiss.read_index(str(daemon.state / "long_term_memory.faiss"))
    assert index.ntotal == 30 and index.d == 384
    with sqlite3.connect(daemon.state / "facts.db") as db:
        rows = db.execute("SELECT id, embedding FROM facts WHERE superseded_by IS NULL ORDER BY id").fetchall()
    ids = numpy.array([r[0] for r in rows])
    vectors = numpy.array([numpy.frombuffer(r[1], "float32") for r in rows])
    for row in (0, 7, 29):
        scores, found = index.search(vectors[row : row + 1], 5)
        expected = vectors @ vectors[row]
        order = numpy.sort(expected)[::-1][:5]
        assert found[0][0] == ids[row]
        assert numpy.allclose(scores[0], order, atol=1e-5)
        assert numpy.allclose(scores[0], ours[row], atol=5e-3), "Choir finds the same as Python's faiss"
