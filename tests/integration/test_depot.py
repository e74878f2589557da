"""What brings packages and models to the nodes, on loopback: the depot, the program that fetches models, the one that drains nodes."""
import hashlib
import http.server
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from conftest import BUILD, ROOT

DEPOT = ROOT / "ansible/roles/packages/files/depot"
DRAIN = ROOT / "ansible/roles/packages/files/drain-node"
NODE = "aaaaaaaa-0000-0000-0000-000000000001"
FETCH = ROOT / "ansible/roles/models/files/fetch-models"


@pytest.fixture
def depot(tmp_path):
    for name in ("packages/previous", "models"):
        (tmp_path / name).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = open(tmp_path / "depot.log", "wb")
    process = subprocess.Popen([DEPOT, "--address", "127.0.0.1", "--port", str(port), "--packages", tmp_path / "packages", "--models", tmp_path / "models"],
                               stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(url + "/version", timeout=5).close()
            break
        except OSError:
            time.sleep(0.05)
    yield url, tmp_path
    process.terminate()
    process.wait(20)
    log.close()


def get(url, headers=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=20) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, b"", error.headers


def test_depot_serves_its_folders_and_nothing_else(depot):
    url, folder = depot
    (folder / "packages/choir_1+2_amd64.deb").write_bytes(b"0123456789")
    (folder / "packages/previous/set.json").write_text("{}")
    (folder / "models/m.gguf").write_bytes(b"abc")
    (folder / "models/.hidden").write_bytes(b"secret")
    (folder / "secret").write_bytes(b"secret")
    assert get(url + "/packages/choir_1%2B2_amd64.deb")[:2] == (200, b"0123456789")
    status, part, headers = get(url + "/packages/choir_1+2_amd64.deb", {"Range": "bytes=4-"})
    assert (status, part, headers["Content-Range"]) == (206, b"456789", "bytes 4-9/10")
    assert get(url + "/packages/choir_1+2_amd64.deb", {"Range": "bytes=10-"})[0] == 416
    assert get(url + "/previous/set.json")[1] == b"{}"
    assert json.loads(get(url + "/models/index.json")[1]) == [{"filename": "m.gguf", "bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}]
    for path in ("/", "/models/", "/models/.hidden", "/models/../secret", "/models/%2e%2e/secret", "/models/..%2fsecret", "/packages/previous", "/packages/previous/set.json",
                 "/etc/passwd", "//etc/passwd", "/secret", "/models/none"):
        assert get(url + path)[0] == 404, path


def fetch(order, code=0):
    done = subprocess.run([FETCH], input=json.dumps(order), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    if code:
        assert len(done.stderr.strip().splitlines()) == 1
    return done.stdout + done.stderr


def model(name, data, **more):
    return {"filename": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), **more}


def test_models_are_fetched_resumed_checked_and_renamed(depot):
    url, folder = depot
    small, large, voice = os.urandom(300000), os.urandom(400000), os.urandom(200000)
    for name, data in (("small.gguf", small), ("large.gguf", large), ("voice.onnx", voice)):
        (folder / "models" / name).write_bytes(data)
    node = folder / "node"
    node.mkdir()
    order = {"folder": str(node), "source": "", "depot": url, "ram_mb": 4000, "reserve_mb": 1536, "record": str(folder / "record.json"),
             "speech": [model("voice.onnx", voice), {"filename": "extra.onnx", "optional": True}],
             "llm": [model("large.gguf", large, memory_mb=3000), model("small.gguf", small, memory_mb=300), model("absent.gguf", b"", memory_mb=100)]}
    (node / ".voice.onnx.part").write_bytes(voice[:150000])
    said = fetch(order)
    assert "changed: voice.onnx" in said and "changed: small.gguf" in said and "left out: large.gguf: it needs 3000 MB" in said
    assert (node / "voice.onnx").read_bytes() == voice and (node / "llm/small.gguf").read_bytes() == small
    assert sorted(p.name for p in node.rglob("*") if p.is_file()) == ["small.gguf", "voice.onnx"]
    assert '"GET /models/voice.onnx HTTP/1.1" 206' in (folder / "depot.log").read_text()
    assert "changed" not in fetch(order)

    # of a part that belongs to another file nothing is kept, and what is damaged is made good
    (node / "llm/small.gguf").write_bytes(b"damaged")
    (node / "llm/.small.gguf.part").write_bytes(b"not of this file" * 100)
    assert "thrown away" in fetch(order, code=1)
    assert not (node / "llm/.small.gguf.part").exists() and (node / "llm/small.gguf").read_bytes() == b"damaged"
    assert "changed: small.gguf" in fetch(order)
    assert (node / "llm/small.gguf").read_bytes() == small

    # what the depot has is not what the list names
    (folder / "models/voice.onnx").write_bytes(os.urandom(200000))
    (node / "voice.onnx").unlink()
    assert "has SHA-256" in fetch(order, code=1) and not (node / "voice.onnx").exists()
    order["depot"] = "http://127.0.0.1:1"
    assert "does not answer" in fetch(order, code=1)


def test_models_of_this_machine_are_linked(tmp_path):
    source, node = tmp_path / "source", tmp_path / "node"
    source.mkdir()
    node.mkdir()
    (source / "small.gguf").write_bytes(b"model")
    order = {"folder": str(node), "source": str(source), "depot": "", "ram_mb": 1000, "reserve_mb": 1536, "record": str(tmp_path / "record.json"),
             "speech": [{"filename": "needed.onnx"}], "llm": [model("small.gguf", b"model", memory_mb=300)]}
    assert "the source lacks needed.onnx" in fetch(order, code=1)
    order["speech"] = []
    assert "changed: small.gguf" in fetch(order) and "changed" not in fetch(order)
    assert os.readlink(node / "llm/small.gguf") == str(source / "small.gguf")
    order["llm"] = [{"filename": "other.gguf"}]
    assert "none of the language models" in fetch(order, code=1)


class Nomad(http.server.BaseHTTPRequestHandler):
    """Answers of a Nomad with one node and one job; draining moves the job after two looks."""

    def do_GET(self):
        world = self.server.world
        if self.headers["X-Nomad-Token"] != "secret":
            self.send_error(403)
            return
        node = {"ID": NODE, "Name": "worker1", "Status": "ready", "Drain": world["drain"], "Meta": world["meta"],
                "SchedulingEligibility": "ineligible" if world["drain"] else "eligible"}
        path = self.path.partition("?")[0]
        if path == f"/v1/node/{NODE}/allocations":
            world["looks"] += 1
            if world["drain"] and world["looks"] > 2:
                world["drain"], world["drained"] = False, True
            status = "complete" if world.get("drained") else "running"
            body = [{"JobID": "llama", "ClientStatus": status}]
        elif path == "/v1/nodes":
            body = [node]
        elif path == f"/v1/node/{NODE}":
            body = node
        elif path == "/v1/agent/members":
            body = {"Members": []}
        elif path == "/v1/allocations":
            body = []
        else:
            body = [{"ID": "llama", "Namespace": "default", "Type": "service", "Status": "running", "JobSummary": {"Summary": {"g": {"Running": world["running"]}}}},
                    {"ID": "batch", "Namespace": "default", "Type": "batch", "Status": "running", "JobSummary": None}]
        self.say(body)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        world = self.server.world
        world["posts"].append((self.path, body))
        if self.path.endswith("/drain"):
            world["drain"] = body["DrainSpec"] is not None
            world["drained"] = False if not world["drain"] else world.get("drained")
        else:
            world["meta"].update(body["Meta"])
        self.say({})

    def say(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def nomad(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nomad)
    server.world = {"drain": False, "looks": 0, "meta": {}, "posts": [], "running": 2}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "token").write_text("secret\n")

    def drain(*words, code=0):
        env = {**os.environ, "NOMAD_ADDR": f"http://127.0.0.1:{server.server_address[1]}", "NOMAD_TOKEN_FILE": str(tmp_path / "token")}
        done = subprocess.run([DRAIN, *words], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    drain.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield server.world, drain, tmp_path
    server.shutdown()
    server.server_close()


def test_a_node_is_drained_and_comes_back(nomad):
    world, drain, _ = nomad
    drain("out", "worker1", "30")
    assert world["posts"][0][0] == f"/v1/node/{NODE}/drain" and world["posts"][0][1]["DrainSpec"]["Deadline"] == 25 * 10**9 and world["drained"]
    world["drain"] = True
    drain("in", "worker1", "30")
    assert world["posts"][-1][1] == {"DrainSpec": None, "MarkEligible": True} and not world["drain"]
    drain("out", "nobody", "5")  # a machine that Nomad does not know has nothing to leave
    assert drain("version", "worker1", "0.1.0+9.x") == "changed: worker1 runs Choir 0.1.0+9.x\n" and drain("version", "worker1", "0.1.0+9.x") == ""


def test_jobs_must_run_again(nomad):
    world, drain, folder = nomad
    before = drain("jobs")
    assert json.loads(before) == {"default/llama": 2}
    drain("wait", before, "5")
    world["running"] = 1
    assert "default/llama (1 of 2)" in drain("wait", before, "1", code=1)
    (folder / "token").write_text("wrong")
    assert "Nomad refuses" in drain("jobs", code=1)
    (folder / "token").unlink()
    assert drain("jobs").strip() == "{}"  # no Nomad on this machine


def test_another_version_is_named(new_daemon, nomad):
    world, drain, folder = nomad
    world["meta"]["choir_version"] = "0.0.9+1.old"
    own = subprocess.run([BUILD / "choir", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    daemon = new_daemon("--set", "llm.base_url=http://127.0.0.1:1", "--set", "stt.service=pocketsphinx", "--set", "tts.service=flite",
                        "--set", f"cluster.nomad_token_file={folder / 'token'}", env={"NOMAD_ADDR": drain.address})
    seen = []

    def named():
        nodes = daemon.get("/api/cluster")[1]["nodes"]
        seen.append(nodes)
        return "worker1 (0.0.9+1.old)" in (nodes["problem"] or "") and own in nodes["problem"]

    end = time.monotonic() + 60
    while not named() and time.monotonic() < end:
        time.sleep(0.3)
    assert named(), seen[-1]
    assert seen[-1]["list"][0]["version"] == "0.0.9+1.old"
