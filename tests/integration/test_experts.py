"""Experts: real llama-servers of the default model, named by the settings or by a real Consul with ACLs; what happens when
they are killed in mid-answer, full, or when Consul is gone. Without the Consul program those tests are skipped."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid

import pytest
from conftest import ROOT
from websockets.sync.client import connect

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "choir"
MODEL = CACHE / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
SERVER = CACHE / "engine/11434/bin/llama-server"
CONSUL = CACHE / "cluster/bin/consul"
LONG = "ask the creative expert to write a very long story about a lighthouse, with many details"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, what, timeout=120):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"not within {timeout} s: {what}")


def fetch(url, headers=None, data=None, method=None, timeout=30):
    request = urllib.request.Request(url, data, headers or {}, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read()


class Expert:
    """One llama-server."""

    def __init__(self, folder, key, slots=2):
        self.port, self.key = free_port(), key
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = open(folder / f"llama-{self.port}.log", "wb")
        self.process = subprocess.Popen(
            [SERVER, "-m", MODEL, "--host", "127.0.0.1", "--port", str(self.port), "-np", str(slots), "-c", str(2048 * slots),
             "-t", "1", "--api-key", key, "--no-webui"], stdout=self.log, stderr=self.log)

    def ready(self):
        try:
            return json.loads(fetch(self.url + "/health")).get("status") == "ok"
        except (OSError, urllib.error.URLError):
            return False

    def busy(self):
        slots = json.loads(fetch(self.url + "/slots", {"Authorization": f"Bearer {self.key}"}))
        return sum(slot["is_processing"] for slot in slots)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self.log.close()


@pytest.fixture
def experts(tmp_path):
    made = []
    (tmp_path / "expert.key").write_text("key-of-the-experts\n")

    def make(n, slots=2):
        fresh = [Expert(tmp_path, "key-of-the-experts", slots) for _ in range(n)]
        made.extend(fresh)
        for expert in fresh:
            wait_for(expert.ready, "a llama-server is ready")
        return fresh

    yield make
    for expert in made:
        expert.close()


class Watcher:
    """An open page: what is shown, as it comes."""

    def __init__(self, daemon):
        self.open = contextlib.ExitStack()
        self.socket = self.open.enter_context(connect(daemon.url.replace("http:", "ws:") + "/ws"))
        self.events = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for message in self.socket:
                self.events.append(json.loads(message))
        except Exception:  # noqa: BLE001  (it is closed)
            pass

    def text(self, kind):
        return [str(e.get("data")) for e in self.events if e["type"] == kind]

    def say(self, text):
        self.socket.send(json.dumps({"type": "user_message", "data": text}))

    def close(self):
        self.open.close()


def metric(daemon, name):
    text = fetch(daemon.url + "/metrics").decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def cluster(daemon):
    return daemon.get("/api/cluster")[1]


def listed(daemon):
    return {e["name"]: e for e in cluster(daemon)["experts"]["list"]}


def problems(daemon):
    return " ".join(cluster(daemon)["experts"]["problems"])


def tool(daemon):
    tools = {t["id"]: t for t in daemon.get("/api/tools")[1]["tools"]}
    return tools["route_to_expert"]


def ask(daemon, text, timeout=240):
    code, answer = daemon.post("/internal/chat/sync", {"text": text}, timeout)
    assert code == 200, answer
    return answer["content"]


def daemon_with(new_daemon, tmp_path, *args, env=None, **settings):
    sets = [f"--set={key.replace('__', '.')}={value}" for key, value in settings.items()]
    daemon = new_daemon(*sets, *args, "--set=web.chat_timeout_s=240", f"--set=experts.key_file={tmp_path}/expert.key",
                        "--set=stt.service=pocketsphinx", "--set=tts.service=flite", env=env)
    daemon.wait_warm()
    return daemon


def test_an_expert_answers_in_the_turn(new_daemon, tmp_path, experts):
    [coding] = experts(1)
    daemon = daemon_with(new_daemon, tmp_path, experts__list=f"coding={coding.url}, nonsense", experts__max_tokens=60)
    assert tool(daemon)["available"]
    assert tool(daemon)["actions"][0]["schema"]["properties"]["expert"]["enum"] == ["coding"]
    assert "nonsense" in problems(daemon)
    page = Watcher(daemon)
    try:
        answer = ask(daemon, "Ask the coding expert how to print a line in Python.")
        assert len(answer) > 10
        assert metric(daemon, 'choir_expert_answers_total{expert="coding",outcome="answered"}') == 1
        assert metric(daemon, 'choir_expert_first_text_seconds_count{expert="coding"}') == 1
        assert any("route_to_expert.ask" in data for data in page.text("tool")), page.events[-20:]
        assert len(page.text("agent_delta")) > 3, "the answer did not stream"
        # Without its name, by what it is about; ordinary talk stays with the assistant.
        ask(daemon, "Why does my for loop skip the last element of the array?")
        assert metric(daemon, 'choir_expert_answers_total{expert="coding",outcome="answered"}') == 2
        ask(daemon, "What is the capital of France?")
        assert metric(daemon, 'choir_expert_answers_total{expert="coding",outcome="answered"}') == 2
        expert = listed(daemon)["coding"]
        assert expert["answered"] == 2 and expert["average_s"] > 0 and expert["health"] == "healthy"
        assert expert["same_as_main"] is True
        assert "2 answered" in tool(daemon)["actions"][0]["schema"]["properties"]["expert"]["description"]
        # It is the conversation's own: both questions stand in the prompt of the next.
        assert "cached" not in problems(daemon)
    finally:
        page.close()


def test_the_persona_is_read_again_every_time(new_daemon, tmp_path, experts):
    [pirate] = experts(1)
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    for file in (ROOT / "prompts").glob("*.txt"):
        (prompts / file.name).write_bytes(file.read_bytes())
    daemon = daemon_with(new_daemon, tmp_path, experts__list=f"pirate={pirate.url}", experts__max_tokens=30, paths__prompts=prompts)
    ask(daemon, "Ask the pirate expert where the treasure is.")
    (prompts / "pirate_expert.txt").write_text("#example: where be the treasure chest buried, matey\nYou are a pirate.\n")
    # It has an example now, so it is found by what is said.
    ask(daemon, "matey, where be the chest buried")
    assert metric(daemon, 'choir_expert_answers_total{expert="pirate",outcome="answered"}') == 2


def first_deltas(page, n=4):
    return wait_for(lambda: len(page.text("agent_delta")) >= n, "the answer begins to stream")


def test_killed_in_mid_answer(new_daemon, tmp_path, experts):
    pair = experts(2)
    daemon = daemon_with(new_daemon, tmp_path, experts__list=f"creative={pair[0].url} {pair[1].url}", experts__max_tokens=120)
    page = Watcher(daemon)
    try:
        page.say(LONG)
        first_deltas(page)
        victim = next(e for e in pair if e.busy())
        victim.kill()
        before = "".join(page.text("agent_delta"))
        wait_for(lambda: page.text("agent"), "the answer ends", 240)
        answer = page.text("agent")[-1]
        assert answer.startswith(before[: len(before) // 2]) and len(answer) > len(before)
        assert metric(daemon, "choir_expert_failovers_total") == 1
        assert metric(daemon, 'choir_expert_answers_total{expert="creative",outcome="answered"}') == 1
        assert "light local model" not in answer
        assert not page.text("error"), page.text("error")
        # And now the last one: the light local model goes on, and says so.
        n = len(page.text("agent_delta"))
        page.say(LONG)
        first_deltas(page, n + 4)
        next(e for e in pair if e is not victim).kill()
        wait_for(lambda: len(page.text("agent")) >= 2, "the answer ends", 240)
        assert "the light local model goes on" in page.text("agent")[-1]
        assert metric(daemon, 'choir_expert_answers_total{expert="creative",outcome="light"}') == 1
    finally:
        page.close()


def test_a_full_server_is_left(new_daemon, tmp_path, experts):
    pair = experts(2, slots=1)
    daemon = daemon_with(new_daemon, tmp_path, experts__list=f"coding={pair[0].url} {pair[1].url}", experts__max_tokens=20)
    ask(daemon, "Ask the coding expert what a variable is.")
    homes = [r for r in listed(daemon)["coding"]["replicas"] if r["first_text_s"]]
    assert len(homes) == 1
    home = next(e for e in pair if e.url == homes[0]["url"])
    body = json.dumps({"prompt": "Once upon a time", "n_predict": 2000, "ignore_eos": True}).encode()
    headers = {"Authorization": f"Bearer {home.key}", "Content-Type": "application/json"}

    def occupy():
        try:
            fetch(home.url + "/completion", headers, body, timeout=240)
        except OSError:
            pass

    threading.Thread(target=occupy, daemon=True).start()
    wait_for(home.busy, "its slot works")
    ask(daemon, "Ask the coding expert what a loop is.")
    if home.busy():  # else it was done in the meantime, and this says nothing
        assert sum(r["first_text_s"] is not None for r in listed(daemon)["coding"]["replicas"]) == 2
    home.kill()


def test_outside_experts(new_daemon, tmp_path, experts):
    [law] = experts(1)
    config = {"law": {"base_url": law.url + "/v1", "api_key_env": "TEST_LAW_KEY", "model": "jurist-7b"}}
    daemon = daemon_with(new_daemon, tmp_path, experts__max_tokens=20,
                         env={"EXTERNAL_EXPERTS_CONFIG": json.dumps(config), "TEST_LAW_KEY": law.key})
    assert listed(daemon)["law"]["source"] == "outside"
    assert ask(daemon, "Ask the law expert what a contract is.")
    assert metric(daemon, 'choir_expert_answers_total{expert="law",outcome="answered"}') == 1
    assert law.key not in daemon.log()
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(daemon.process.pid)], capture_output=True, text=True).stdout.split()
    for pid in children:
        assert law.key not in pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")


def test_no_cluster_is_said_and_breaks_nothing(new_daemon, tmp_path):
    (tmp_path / "expert.key").write_text("k" * 20)
    daemon = daemon_with(new_daemon, tmp_path, env={"CONSUL_HTTP_ADDR": "127.0.0.1:1", "NOMAD_ADDR": "http://127.0.0.1:1"})
    state = wait_for(lambda: (c := cluster(daemon))["consul"]["problem"] and c, "Consul's absence is said")
    assert "Consul does not answer" in state["nodes"]["problem"]
    assert "Nomad does not answer" in state["jobs"]["problem"]
    assert not tool(daemon)["available"] and "Consul does not answer" in tool(daemon)["reason"]
    with pytest.raises(urllib.error.HTTPError) as error:
        daemon.get("/api/cluster/logs?alloc=../../x&task=y")
    assert error.value.code == 400
    with pytest.raises(urllib.error.HTTPError) as error:
        daemon.get("/api/cluster/logs?alloc=0123abcd&task=y")
    assert error.value.code == 502
    assert "Paris" in ask(daemon, "What is the capital of France?")


class Consul:
    """A real server with ACLs, deny by default."""

    def __init__(self, folder):
        self.folder = folder
        self.root = str(uuid.uuid4())
        self.ports = {name: free_port() for name in ("http", "server", "serf_lan")}
        self.url = f"http://127.0.0.1:{self.ports['http']}"
        folder.mkdir()
        (folder / "consul.json").write_text(json.dumps({
            "server": True, "bootstrap_expect": 1, "data_dir": str(folder / "data"), "bind_addr": "127.0.0.1",
            "node_name": "node1", "log_level": "warn", "performance": {"raft_multiplier": 1},
            "ports": {**self.ports, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
            "acl": {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": self.root, "agent": self.root}},
        }))
        self.process = None

    def start(self):
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen([CONSUL, "agent", "-config-file", self.folder / "consul.json"], stdout=log, stderr=log)
        log.close()
        wait_for(self.leader, "Consul has a leader")
        return self

    def leader(self):
        try:
            return len(self.call("GET", "/v1/status/leader")) > 4 and self.call("GET", "/v1/catalog/services")
        except (OSError, urllib.error.URLError):
            return False

    def call(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        return fetch(self.url + path, {"X-Consul-Token": self.root}, data, method)

    def register(self, name, expert, tags=()):
        self.call("PUT", "/v1/agent/service/register", {
            "ID": f"{name}-{expert.port}", "Name": name, "Address": "127.0.0.1", "Port": expert.port, "Tags": list(tags),
            "Check": {"HTTP": expert.url + "/health", "Interval": "1s", "Timeout": "1s", "Status": "passing"}})

    def token(self, rules):
        name = "p" + uuid.uuid4().hex[:8]
        self.call("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        return json.loads(self.call("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]}))["SecretID"]

    def kill(self):
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def consul(tmp_path):
    if not CONSUL.exists():
        pytest.skip(f"there is no Consul at {CONSUL}; tools/get-cluster-bins builds it")
    server = Consul(tmp_path / "consul").start()
    yield server
    if server.process.poll() is None:
        server.kill()


READ = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'


def test_experts_of_consul(new_daemon, tmp_path, experts, consul):
    coding, creative = experts(2)
    consul.register("llama-api-coding", coding, ["model=SmolLM2-135M-Instruct", "ctx=2048"])
    consul.register("expert-api-creative", creative, ["fallback"])  # an old spelling
    token = tmp_path / "consul.token"
    token.write_text(str(uuid.uuid4()) + "\n")  # a wrong one
    daemon = daemon_with(new_daemon, tmp_path, cluster__consul_url=consul.url, cluster__consul_token_file=token,
                         experts__max_tokens=40)
    wait_for(lambda: "refuses the token" in problems(daemon), "a wrong token is named")
    assert not tool(daemon)["available"]
    assert not listed(daemon)

    token.write_text(consul.token('key_prefix "" { policy = "read" }') + "\n")  # valid, but may see nothing
    wait_for(lambda: "without permission" in problems(daemon), "an empty list is taken for a missing permission")

    token.write_text(consul.token(READ) + "\n")  # and now it may, without a restart
    wait_for(lambda: set(listed(daemon)) == {"coding", "creative"}, "the experts appear")
    assert not problems(daemon)
    assert listed(daemon)["creative"]["replicas"][0]["fallback"] is True
    assert listed(daemon)["coding"]["replicas"][0]["model"] == "SmolLM2-135M-Instruct"
    wait_for(lambda: [n["name"] for n in cluster(daemon)["nodes"]["list"]] == ["node1"], "the node appears")
    assert ask(daemon, "Ask the coding expert what a variable is.")
    assert "small fallback model of the creative expert" in ask(daemon, "Ask the creative expert for a poem.")

    # Consul dies: the list stays, its age grows, it is said, and the experts go on answering.
    consul.kill()
    wait_for(lambda: "does not answer" in problems(daemon), "Consul's death is said")
    assert set(listed(daemon)) == {"coding", "creative"}
    assert ask(daemon, "Ask the coding expert what a loop is.")
    assert metric(daemon, 'choir_expert_answers_total{expert="coding",outcome="answered"}') == 2
    consul.start()
    wait_for(lambda: not problems(daemon), "Consul's return is seen")

    # An expert dies: its check turns red, it is gone from what may be asked, and it is said why.
    creative.kill()
    wait_for(lambda: "no server of expert-api-creative is healthy" in problems(daemon), "a red check is seen")
    assert tool(daemon)["actions"][0]["schema"]["properties"]["expert"]["enum"] == ["coding"]
    secret = token.read_text().strip()
    assert secret not in daemon.log()
    assert secret not in json.dumps(cluster(daemon))


def test_token_of_the_environment_is_warned_of(new_daemon, tmp_path, consul):
    (tmp_path / "expert.key").write_text("k" * 20)
    daemon = daemon_with(new_daemon, tmp_path, env={
        "CONSUL_HOST": "127.0.0.1", "CONSUL_PORT": str(consul.ports["http"]), "CONSUL_HTTP_TOKEN": consul.token(READ)})
    wait_for(lambda: cluster(daemon)["nodes"]["list"], "Consul's node is seen")
    assert re.search("CONSUL_HTTP_TOKEN.*consul_token_file", daemon.log())


def test_the_main_model_of_a_service(new_daemon, tmp_path, experts, consul):
    [main] = experts(1)
    (tmp_path / "token").write_text(consul.token(READ))
    daemon = daemon_with(new_daemon, tmp_path, cluster__consul_url=consul.url, cluster__consul_token_file=tmp_path / "token",
                         llm__max_tokens=120, env={"MAIN_API_SERVICE_NAME": "llama-api-main"})

    def remote():
        return daemon.get("/api/status")[1]["model"].get("remote")

    assert remote() is None  # this machine's own, while there is no such service
    consul.register("llama-api-main", main)
    wait_for(lambda: remote() == main.url, "the service's server is used")
    assert "Paris" in ask(daemon, "What is the capital of France?")
    used = fetch(main.url + "/slots", {"Authorization": f"Bearer {main.key}"}).decode()
    assert '"n_prompt_tokens"' in used or '"id_task"' in used
    page = Watcher(daemon)
    try:
        page.say("Please write me a very long story about a lighthouse, with many details.")
        first_deltas(page)
        main.kill()
        wait_for(lambda: page.text("agent") or page.text("error"), "the answer ends", 240)
        assert not page.text("error"), page.text("error")
        assert "the light local model goes on" in page.text("agent")[-1]
        assert remote() is None
        assert "Rome" in ask(daemon, "What is the capital of Italy?")
    finally:
        page.close()
