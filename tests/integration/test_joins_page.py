"""Machines let in on the page: the real join service, a real daemon, real roles. The service and the daemon share only the
cluster's key, as on two nodes."""
import json
import re
import subprocess

import pytest
from conftest import Daemon
from test_join import KEY, MACHINE, Service, asked, free_port
from test_owners import PASSWORD, Client, choir

STATE_KEY = "0123456789abcdef0123456789abcdef0123456789"
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVb0Z5hxmTGrkpH0zOIDrJzOtJq1xV0uZqYx2Ffd6aE"


class House(Service):
    """The join service with the port for the page."""

    def __init__(self, folder):
        super().__init__(folder)
        self.key = folder / "state.key"
        self.key.write_text(STATE_KEY + "\n")
        self.key.chmod(0o600)
        self.house_port = free_port()

    def start(self):
        popen = subprocess.Popen

        def with_house(words, **options):
            return popen([*words, "--house-key", self.key, "--house-port", str(self.house_port)], **options)
        subprocess.Popen = with_house
        try:
            return super().start()
        finally:
            subprocess.Popen = popen


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = House(tmp_path_factory.mktemp("joins"))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def daemon(service, tmp_path_factory):
    made = Daemon(tmp_path_factory.mktemp("agent") / "state", "--set", "llm.base_url=http://127.0.0.1:9", "--set", "wyoming.stt_port=0",
                  "--set", "wyoming.tts_port=0", "--set", "stt.service=pocketsphinx", "--set", "tts.service=flite",
                  "--set", f"cluster.controllers=http://127.0.0.1:1,http://127.0.0.1:{service.house_port}", "--set", f"standby.key_file={service.key}").start()
    for role in ("owner", "approver", "operator", "viewer"):
        choir(made, "owner", "add", role[:3] + "-person", "--role", role, stdin=PASSWORD + "\n")
    try:
        yield made
    finally:
        made.stop()


def person(daemon, role):
    return Client(daemon).log_in(role[:3] + "-person")


def wants_in(service, name, machine):
    status, answer = service.call("POST", "/api/join", asked(service.token(), hostname=name, machine_id=machine, key=machine * 2, ssh_host_key=SSH_KEY))
    assert status == 202, answer
    return json.loads(answer)["id"]


def shown(client, ident):
    status, answer = client.get("/api/cluster/joins")
    assert status == 200, answer
    return next((n for n in answer["nodes"] if n["id"] == ident), None), answer["may_answer"]


def test_who_waits_is_seen_and_only_an_approver_lets_it_in(service, daemon):
    ident = wants_in(service, "atlas", MACHINE)
    node, may = shown(person(daemon, "viewer"), ident)
    assert (node["hostname"], node["status"], may) == ("atlas", "pending", False)
    printed = subprocess.run(["ssh-keygen", "-lf", "-"], input=SSH_KEY + "\n", capture_output=True, text=True, check=True).stdout
    assert node["fingerprint"] == re.search(r"SHA256:\S+", printed).group(0)
    assert "key_sha256" not in node and "ssh_host_key" not in node
    before = service.kept()
    for role in ("viewer", "operator"):
        assert person(daemon, role).post("/api/cluster/joins/approve", {"id": ident})[0] == 403
    assert Client(daemon).post("/api/cluster/joins/approve", {"id": ident})[0] == 401
    approver = person(daemon, "approver")
    assert approver.post("/api/cluster/joins/approve", {"id": ident}, csrf=False)[1]["error"]["code"] == "csrf_header_missing"
    assert approver.post("/api/cluster/joins/approve", {})[0] == 400
    assert approver.post("/api/cluster/joins/approve", {"id": "nobody"})[0] == 409
    assert service.kept() == before
    assert approver.post("/api/cluster/joins/approve", {"id": ident}) == (200, {"done": True})
    assert shown(approver, ident)[0]["status"] == "approved" and shown(approver, ident)[1] is True
    assert (service.state / f"approved/{ident}.join.json").exists()
    again = approver.post("/api/cluster/joins/approve", {"id": ident})
    assert again[0] == 409 and "does not wait" in again[1]["error"]["message"]
    assert "join approved" in (daemon.state / "audit.jsonl").read_text() and "app-person" in (daemon.state / "audit.jsonl").read_text()


def test_an_owner_refuses_and_a_terminal_may_too(service, daemon):
    first, second = wants_in(service, "borea", "11" * 16), wants_in(service, "ceres", "22" * 16)
    assert person(daemon, "owner").post("/api/cluster/joins/refuse", {"id": first})[0] == 200
    assert Client(daemon, unix=True).post("/api/cluster/joins/refuse", {"id": second})[0] == 200
    assert [shown(person(daemon, "viewer"), i)[0]["status"] for i in (first, second)] == ["refused", "refused"]
    assert service.call("GET", "/api/join/status", key="11" * 32)[0] == 401


def test_what_is_not_sealed_with_the_key_changes_nothing(service, daemon, tmp_path):
    ident = wants_in(service, "dione", "33" * 16)
    before = service.kept()
    wrong = tmp_path / "wrong.key"
    wrong.write_text("x" * 40 + "\n")
    wrong.chmod(0o600)
    stranger = Daemon(tmp_path / "state", "--set", "llm.base_url=http://127.0.0.1:9", "--set", "wyoming.stt_port=0", "--set", "wyoming.tts_port=0",
                      "--set", f"cluster.controllers=http://127.0.0.1:{service.house_port}", "--set", f"standby.key_file={wrong}",
                      "--set", "stt.service=pocketsphinx", "--set", "tts.service=flite").start()
    try:
        status, answer = Client(stranger, unix=True).post("/api/cluster/joins/approve", {"id": ident})
        assert status == 502 and "another one than yours" in answer["error"]["message"]
    finally:
        stranger.stop()
    assert service.kept() == before
    # Nobody there, and nobody named: each is said in a sentence.
    service.stop()
    status, answer = person(daemon, "viewer").get("/api/cluster/joins")
    assert (status, answer["nodes"], answer["there"]) == (200, [], True) and "does not answer" in answer["problem"]
    assert person(daemon, "owner").post("/api/cluster/joins/approve", {"id": ident})[0] == 502
    service.start()
    assert shown(person(daemon, "viewer"), ident)[0]["status"] == "pending"


def test_without_a_key_the_page_says_where_to_look(tmp_path):
    alone = Daemon(tmp_path / "state", "--set", "llm.base_url=http://127.0.0.1:9", "--set", "wyoming.stt_port=0", "--set", "wyoming.tts_port=0",
                   "--set", "stt.service=pocketsphinx", "--set", "tts.service=flite").start()
    try:
        status, answer = Client(alone, unix=True).get("/api/cluster/joins")
        assert (status, answer["nodes"], answer["there"]) == (200, [], False) and "choir nodes pending" in answer["problem"]
        assert Client(alone, unix=True).post("/api/cluster/joins/approve", {"id": "x"})[0] == 409
    finally:
        alone.stop()
