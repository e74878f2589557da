"""Owners, log-in, roles, keys and approvals against a real daemon and real tool calls."""

import asyncio
import http.client
import json
import os
import pathlib
import pty
import re
import select
import socket
import subprocess
import threading
import time
import urllib.parse
from hashlib import sha256

import pytest
from conftest import BUILD, Daemon

CHOIR = BUILD / "choir"
PASSWORD = "correct horse battery"
KEY = "the-originals-key"


class Client:
    """Keeps the cookie of a log-in; speaks TCP or the unix socket."""

    def __init__(self, daemon, token=None, unix=False):
        self.daemon, self.token, self.unix, self.cookie = daemon, token, unix, None
        self.headers = {}

    def ask(self, method, path, body=None, headers=None, csrf=True):
        url = urllib.parse.urlsplit(self.daemon.url)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        if self.unix:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(60)
            for _ in range(100):  # the queue of a unix socket is short, and says so at once
                try:
                    connection.sock.connect(str(self.daemon.state / "choir.sock"))
                    break
                except BlockingIOError:
                    time.sleep(0.05)
        send = {"Content-Type": "application/json", **(headers or {})}
        if self.token:
            send["Authorization"] = f"Bearer {self.token}"
        if self.cookie:
            send["Cookie"] = self.cookie
            if csrf:
                send["X-Choir-CSRF"] = "1"
        connection.request(method, path, json.dumps(body) if body is not None else None, send)
        answer = connection.getresponse()
        data = answer.read()
        self.headers = answer.headers
        connection.close()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, body, **more):
        return self.ask("POST", path, body, **more)

    def log_in(self, name, password=PASSWORD):
        status, answer = self.post("/api/login", {"name": name, "password": password})
        assert status == 200, answer
        self.cookie = self.headers["Set-Cookie"].split(";")[0]
        return self


def choir(daemon, *words, stdin=None, code=0):
    done = subprocess.run([CHOIR, *words[:1], "--state", daemon.state, *words[1:]], capture_output=True, text=True, input=stdin,
                          timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return (done.stdout + done.stderr).strip()


def new_house(folder):
    return Daemon(folder / "state", "--set", "llm.base_url=http://127.0.0.1:9", "--set", "wyoming.stt_port=0",
                  "--set", "wyoming.tts_port=0", env={"PIECAT_API_KEYS": sha256(KEY.encode()).hexdigest()}).start()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A Choir with one person of each role."""
    daemon = new_house(tmp_path_factory.mktemp("owners"))
    try:
        for role in ("owner", "approver", "operator", "viewer"):
            choir(daemon, "owner", "add", role[:3] + "-person", "--role", role, stdin=PASSWORD + "\n")
        yield daemon
    finally:
        daemon.stop()


def person(house, role):
    return Client(house).log_in(role[:3] + "-person")


def test_set_up_with_the_code(tmp_path):
    daemon = new_house(tmp_path)
    try:
        here = Client(daemon)
        assert here.get("/api/me")[1] == {
            "name": "loopback", "role": "operator", "channel": "loopback", "logged_in": False, "owner_exists": False,
            "may_approve": False, "lan": False, "port": int(daemon.url.rstrip("/").split(":")[-1]), "tls_port": 0}
        assert here.get("/api/setup/code")[0] == 403
        code = choir(daemon, "owner", "code")
        for wrong in ("", "AAAA-AAAA", code[:-1]):
            status, answer = here.post("/api/setup", {"code": wrong, "name": "ada", "password": PASSWORD})
            assert (status, answer["error"]["code"]) == (403, "code_wrong")
        assert here.post("/api/setup", {"code": code, "name": "ada", "password": "short"})[0] == 400
        assert here.post("/api/setup", {"code": code.lower(), "name": "ada", "password": PASSWORD})[0] == 200
        cookie = here.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" not in cookie
        here.cookie = cookie.split(";")[0]
        assert here.get("/api/me")[1]["role"] == "owner"
        again = Client(daemon).post("/api/setup", {"code": code, "name": "eve", "password": PASSWORD})
        assert (again[0], again[1]["error"]["code"]) == (409, "owner_exists")
        assert "owner already" in choir(daemon, "owner", "code", code=1)
        daemon.stop()
        daemon.start()
        assert here.get("/api/me")[1]["role"] == "owner", "a log-in outlives a restart"
    finally:
        daemon.stop()


def test_the_code_backs_off(tmp_path):
    daemon = new_house(tmp_path)
    try:
        codes = [Client(daemon).post("/api/setup", {"code": "X", "name": f"n{i}", "password": PASSWORD})[0] for i in range(8)]
        assert codes[:5] == [403] * 5 and codes[-1] == 429
        right = choir(daemon, "owner", "code")
        client = Client(daemon)
        assert client.post("/api/setup", {"code": right, "name": "ada", "password": PASSWORD})[0] == 429
        assert int(client.headers["Retry-After"]) >= 1
    finally:
        daemon.stop()


def test_without_login_nothing_but_the_open_ones(house):
    stranger = Client(house)
    assert stranger.get("/health")[0] in (200, 503)
    for path in ("/login", "/setup", "/trust", "/login.js", "/login.css", "/api/me"):
        assert stranger.get(path)[0] == 200, path
    assert (stranger.get("/")[0], stranger.headers["Location"]) == (303, "/login")
    for method, path in (("GET", "/api/status"), ("GET", "/metrics"), ("GET", "/app.js"), ("POST", "/api/tools/call"),
                         ("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/no/such"), ("POST", "/internal/chat")):
        status, answer = stranger.ask(method, path, {} if method == "POST" else None)
        assert (status, answer["error"]["code"]) == (401, "login_needed"), path
    assert Client(house, token="choir_wrong").get("/api/status")[0] == 401
    assert stranger.get("/api/status", headers={"Cookie": "choir=nonsense"})[0] == 401
    assert stranger.get("/api/status", headers={"X-Choir-Twin": "x"})[0] == 401


NOBODY, VIEWER, OPERATOR, APPROVER, OWNER, TERMINAL = range(6)
# What each route asks for, written down a second time: the table of src/web/guard_roles.c is what is tested. Bodies are
# of a kind that changes nothing; an answer of 400, 404 or 409 was let through.
ROUTES = (
    ("GET", "/health", NOBODY), ("GET", "/login", NOBODY), ("GET", "/setup", NOBODY), ("GET", "/trust", NOBODY),
    ("GET", "/choir-ca.crt", NOBODY), ("GET", "/api/me", NOBODY), ("POST", "/api/login", NOBODY), ("POST", "/api/setup", NOBODY),
    ("OPTIONS", "/start", NOBODY), ("OPTIONS", "/connect", NOBODY),
    ("GET", "/", VIEWER), ("GET", "/app.js", VIEWER), ("GET", "/metrics", VIEWER), ("GET", "/api/status", VIEWER),
    ("GET", "/api/web_uis", VIEWER), ("GET", "/ws", VIEWER), ("GET", "/api/tools", VIEWER), ("GET", "/api/approvals", VIEWER),
    ("GET", "/api/conversations", VIEWER), ("GET", "/api/conversations/999999", VIEWER), ("GET", "/api/cluster", VIEWER),
    ("GET", "/api/cluster/joins", VIEWER), ("GET", "/api/memory", VIEWER), ("GET", "/api/memory/export", VIEWER),
    ("GET", "/api/state", VIEWER), ("GET", "/api/models", VIEWER),
    ("GET", "/api/audit", OPERATOR), ("GET", "/api/cluster/logs", OPERATOR), ("POST", "/api/tools/call", OPERATOR),
    ("POST", "/api/conversations/999999/open", OPERATOR), ("POST", "/api/conversations/999999/rename", OPERATOR),
    ("POST", "/api/conversations/999999/delete", OPERATOR), ("POST", "/api/memory", OPERATOR),
    ("POST", "/api/memory/edit", OPERATOR), ("POST", "/api/memory/forget", OPERATOR), ("POST", "/api/memory/import", OPERATOR),
    ("POST", "/api/state/save", OPERATOR), ("POST", "/api/state/load", OPERATOR), ("POST", "/api/models/use", OPERATOR),
    ("POST", "/api/models/fetch", OPERATOR), ("POST", "/internal/chat", OPERATOR), ("POST", "/internal/chat/sync", OPERATOR),
    ("GET", "/v1/models", OPERATOR), ("GET", "/v1/models/none", OPERATOR), ("GET", "/v1/realtime", OPERATOR),
    ("GET", "/v1/audio/models", OPERATOR), ("GET", "/v1/audio/voices", OPERATOR), ("POST", "/v1/chat/completions", OPERATOR),
    ("POST", "/v1/audio/speech", OPERATOR), ("POST", "/v1/audio/transcriptions", OPERATOR), ("GET", "/rtvi", OPERATOR),
    ("GET", "/ws-client", OPERATOR), ("POST", "/start", OPERATOR), ("POST", "/connect", OPERATOR),
    ("POST", "/api/approvals/answer", APPROVER), ("POST", "/api/approvals/revoke", APPROVER), ("POST", "/api/gate/approve", APPROVER),
    ("POST", "/api/cluster/joins/approve", APPROVER), ("POST", "/api/cluster/joins/refuse", APPROVER),
    ("GET", "/api/people", OWNER), ("POST", "/api/people", OWNER), ("POST", "/api/people/password", OWNER),
    ("POST", "/api/people/remove", OWNER), ("GET", "/api/tokens", OWNER), ("POST", "/api/tokens", OWNER),
    ("POST", "/api/tokens/revoke", OWNER),
    ("GET", "/api/setup/code", TERMINAL),
    ("POST", "/api/logout", NOBODY),  # last: it ends the log-in
)


def test_each_role_on_each_route(house):
    clients = [(NOBODY, Client(house))] + [(level, person(house, role)) for role, level in
                                          (("viewer", VIEWER), ("operator", OPERATOR), ("approver", APPROVER), ("owner", OWNER))]
    wrong = []
    for level, client in clients:
        for method, path, need in ROUTES:
            status, answer = client.ask(method, path, {} if method == "POST" else None)
            code = answer["error"]["code"] if isinstance(answer, dict) and "error" in answer else ""
            told = {401: "login_needed", 403: "may_not_approve" if need == APPROVER else "role_too_low"}
            refused = (status == 303 and client.headers["Location"] == "/login" if path == "/" and level == NOBODY
                       else status == (401 if level == NOBODY else 403) and code == told[status])
            # An owner over the network has the role of the code's route; the route itself wants the terminal.
            refused = refused or (need == TERMINAL and status == 403)
            if refused != (level < need):
                wrong.append((level, method, path, status, answer))
    assert not wrong
    assert person(house, "operator").get("/no/such")[0] == 404


def test_no_route_is_missing_in_the_test_above():
    table = (pathlib.Path(__file__).parents[2] / "src/web/guard_roles.c").read_text().split("table[] = {")[1].split("};")[0]
    for method, path in re.findall(r'{"(.+?)", "(.+?)"', table):
        assert any((method in ("*", m)) and (p.startswith(path[:-1]) if path.endswith("*") else p == path) for m, p, _ in ROUTES), path


def test_csrf(house):
    client = person(house, "owner")
    status, answer = client.post("/api/tools/call", {"tool": "clock.get_time"}, csrf=False)
    assert (status, answer["error"]["code"]) == (403, "csrf_header_missing")
    assert client.post("/api/tools/call", {"tool": "clock.get_time"}, headers={"Origin": "https://evil.example"})[0] == 403
    assert client.post("/api/logout", {})[0] == 200
    assert client.get("/api/status")[0] == 401


def test_tokens_and_machine_keys(house):
    token = choir(house, "token", "new", "ha")
    assert Client(house, token).get("/api/me")[1]["role"] == "operator"
    assert Client(house, KEY).get("/api/me")[1]["role"] == "operator"
    assert Client(house, KEY).post("/api/approvals/answer", {"id": "", "digest": "", "approve": True})[0] == 403
    assert "ha" in choir(house, "token", "list")
    choir(house, "token", "revoke", "ha")
    assert Client(house, token).get("/api/status")[0] == 401
    assert token not in house.log() and token not in (house.state / "owners.json").read_text()


def test_choir_works_without_a_login_on_the_machine(house):
    """The commands find the daemon's own socket; over HTTP they need a token."""
    environment = {k: v for k, v in os.environ.items() if k not in ("CHOIR_URL", "WEB_PORT")}
    run = lambda env: subprocess.run([CHOIR, "status", "--json"], env={**environment, **env}, capture_output=True, text=True,
                                     timeout=30, check=False)
    assert json.loads(run({"CHOIR_STATE": str(house.state)}).stdout)["version"]
    assert "log in" in run({"CHOIR_URL": house.url}).stderr
    token = choir(house, "token", "new", "cli", "--role", "viewer")
    assert json.loads(run({"CHOIR_URL": house.url, "CHOIR_TOKEN": token}).stdout)["version"]


def test_login_backs_off(house):
    choir(house, "owner", "add", "slow", "--role", "viewer", stdin=PASSWORD + "\n")
    codes = [Client(house).post("/api/login", {"name": "slow", "password": "wrong"})[0] for _ in range(7)]
    assert codes[:4] == [403] * 4 and 429 in codes
    time.sleep(9)
    Client(house).log_in("slow")
    choir(house, "owner", "remove", "slow")
    assert "last owner" in choir(house, "owner", "remove", "own-person", code=1)


# Approvals. What a call does is a file below the folder of the agent, which nothing else makes.


class Call:
    """A tool call that asks, in the background."""

    def __init__(self, house, client, text):
        self.path = pathlib.Path(f"/tmp/choir-approval-{os.getpid()}-{text}")
        self.path.unlink(missing_ok=True)
        self.answer = None
        arguments = {"command": f"touch {self.path}", "host": True}
        self.thread = threading.Thread(
            target=lambda: setattr(self, "answer", client.post("/api/tools/call", {"tool": "shell.execute_command", "args": arguments})))
        self.thread.start()

    def end(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        ran = self.path.exists()
        self.path.unlink(missing_ok=True)
        return self.answer[0], ran


def cards(house, n=1):
    terminal = Client(house, unix=True)
    for _ in range(200):
        waiting = terminal.get("/api/approvals")[1]["approvals"]
        if len(waiting) >= n:
            return waiting
        time.sleep(0.05)
    raise AssertionError(f"{n} requests did not come")


def by_text(waiting, text):
    return next(c for c in waiting if text in c["args"]["command"])


def respond(client, card, approve=True, **more):
    return client.post("/api/approvals/answer", {"id": card["id"], "digest": card["digest"], "approve": approve, **more})[0]


def test_only_the_right_answer_runs_it_once(house):
    operator, approver = person(house, "operator"), person(house, "approver")
    first, second = Call(house, operator, "first"), Call(house, operator, "second")
    waiting = cards(house, 2)
    one, two = by_text(waiting, "first"), by_text(waiting, "second")
    assert respond(operator, one) == 403, "who asks may not answer"
    assert respond(Client(house), one) == 401
    assert respond(Client(house, KEY), one) == 403
    assert respond(approver, {"id": one["id"], "digest": two["digest"]}) == 409, "swapped arguments"
    assert respond(approver, {"id": one["id"], "digest": ""}) == 409
    assert respond(approver, {"id": "apr_guess", "digest": one["digest"]}) == 409
    assert respond(approver, one, approve=False) == 200
    assert respond(approver, one) == 409, "replay"
    assert first.end() == (403, False)
    assert respond(approver, two) == 200
    assert second.end() == (200, True)
    assert respond(approver, two) == 409


def test_a_yes_for_the_session_is_seen_and_taken_back_in_the_terminal(house):
    operator, action = person(house, "operator"), "shell.execute_command on this machine"
    assert choir(house, "approve", "--grants") == "nothing is allowed for a session"
    call = Call(house, operator, "grant")
    choir(house, "approve", "--yes", "--session", cards(house)[0]["id"])
    assert call.end() == (200, True)
    assert Call(house, operator, "granted").end() == (200, True), "the same action passes"
    assert choir(house, "approve", "--grants").startswith(action)
    assert "--grants" in choir(house, "approve", "--revoke", "shell.none", code=1)
    assert choir(house, "approve", "--revoke", action) == "revoked"
    call = Call(house, operator, "again")
    choir(house, "approve", "--no", cards(house)[0]["id"])
    assert call.end() == (403, False)


def test_gate(house):
    call = Call(house, person(house, "operator"), "gate")
    card = cards(house)[0]
    assert person(house, "operator").post("/api/gate/approve", {"request_id": card["id"]})[0] == 403
    approver = person(house, "approver")
    assert approver.post("/api/gate/approve", {"request_id": card["id"], "digest": "0" * 64})[0] == 409
    assert approver.post("/api/gate/approve", {"request_id": card["id"]})[0] == 200
    assert approver.post("/api/gate/approve", {"request_id": card["id"]})[0] == 409
    assert call.end() == (200, True)


def test_before_an_owner_loopback_never_approves(tmp_path):
    daemon = new_house(tmp_path)
    try:
        here = Client(daemon)
        call = Call(daemon, here, "loopback")
        card = cards(daemon)[0]
        assert respond(here, card) == 403
        assert respond(Client(daemon, KEY), card) == 403
        assert here.post("/api/gate/approve", {"request_id": card["id"]})[0] == 403
        assert respond(Client(daemon, unix=True), card, approve=False) == 200
        assert call.end() == (403, False)
    finally:
        daemon.stop()


def test_a_removed_approver_answers_no_more(house):
    choir(house, "owner", "add", "gone", "--role", "approver", stdin=PASSWORD + "\n")
    gone = Client(house).log_in("gone")
    call = Call(house, person(house, "operator"), "gone")
    card = cards(house)[0]
    choir(house, "owner", "remove", "gone")
    assert respond(gone, card) == 401
    assert respond(person(house, "approver"), card, approve=False) == 200
    assert call.end() == (403, False)


def test_hundred_at_once(house):
    """A hundred calls; every second one gets a yes. Each answer is given three times over and
    among wrong ones: nothing runs but what got a yes."""
    n, calls = 100, []
    key = Client(house, choir(house, "token", "new", "many"))
    approvers = [person(house, "approver") for _ in range(2)] + [person(house, "owner")]
    for i in range(n):  # an address may have 64 connections
        calls.append(Call(house, Client(house, unix=True) if i % 2 else key, f"many{i:03}x"))
    waiting = cards(house, n)
    assert len(waiting) == n
    digests = [c["digest"] for c in waiting]
    number = {c["id"]: int(c["args"]["command"].split("many")[1][:3]) for c in waiting}
    yes = {c["id"] for c in waiting[::2]}
    good = []

    def answer(client):
        for index, card in enumerate(waiting):
            respond(client, {"id": card["id"], "digest": digests[(index + 1) % n]})  # another's digest: never counts
            if respond(client, card, approve=card["id"] in yes) == 200:
                good.append(card["id"])
            respond(client, card, approve=True)  # a replay

    threads = [threading.Thread(target=answer, args=(a,)) for a in approvers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    results = [call.end() for call in calls]
    assert sorted(good) == sorted(number), "each counts once"
    ran = {i for i, (_, made) in enumerate(results) if made}
    assert ran <= {number[y] for y in yes}, "nothing runs without a yes"
    # The shell itself may refuse some of so many at once; then the caller is told.
    assert len(ran) >= n // 8 and all((status == 200) == made for status, made in results), results
    choir(house, "token", "revoke", "many")


# The same over /ws, in the original's messages.


async def page(house, client):
    websockets = pytest.importorskip("websockets")
    headers = {"Cookie": client.cookie} if client.cookie else {"Authorization": f"Bearer {client.token}"}
    url = house.url.replace("http", "ws") + "/ws"
    try:
        return await websockets.connect(url, additional_headers=headers)
    except TypeError:
        return await websockets.connect(url, extra_headers=headers)


async def next_of(socket_, *kinds):
    while True:
        message = json.loads(await asyncio.wait_for(socket_.recv(), 20))
        if message["type"] in kinds:
            return message


def test_over_the_socket(house):
    async def walk():
        approver, viewer = await page(house, person(house, "approver")), await page(house, person(house, "viewer"))
        await viewer.send(json.dumps({"type": "user_message", "data": "hello"}))
        assert "operator" in (await next_of(viewer, "error"))["data"]
        call = Call(house, person(house, "operator"), "socket")
        asked = (await next_of(approver, "approval_request"))["data"]
        assert asked["tool_call"]["tool"] == "shell.execute_command" and asked["may_answer"]
        assert not (await next_of(viewer, "approval_request"))["data"]["may_answer"]

        async def send(socket_, **data):
            await socket_.send(json.dumps({"type": "approval_response", "data": {"request_id": asked["request_id"], **data}}))

        await send(viewer, approved=True)
        assert "may not" in (await next_of(viewer, "error"))["data"]
        await send(approver, approved=True, digest="0" * 64)
        assert "another request" in (await next_of(approver, "error"))["data"]
        await send(approver, approved="yes")
        assert "true or false" in (await next_of(approver, "error"))["data"]
        late = await page(house, person(house, "approver"))
        assert (await next_of(late, "approval_request"))["data"]["request_id"] == asked["request_id"], "a new page is asked too"
        await send(approver, approved=True)
        closed = (await next_of(viewer, "approval_closed"))["data"]
        assert closed == {"request_id": asked["request_id"], "verdict": "approved", "by": "app-person"}
        assert await asyncio.to_thread(call.end) == (200, True)
        await next_of(late, "approval_closed")
        await send(late, approved=True)
        assert "not asked" in (await next_of(late, "error"))["data"], "replay"
        for socket_ in (approver, viewer, late):
            await socket_.close()

    asyncio.run(asyncio.wait_for(walk(), 90))


def test_socket_of_a_logged_out_person(house):
    async def walk():
        client = person(house, "approver")
        socket_ = await page(house, client)
        call = Call(house, person(house, "operator"), "loggedout")
        asked = (await next_of(socket_, "approval_request"))["data"]
        assert client.post("/api/logout", {})[0] == 200
        await socket_.send(json.dumps({"type": "approval_response", "data": {"request_id": asked["request_id"], "approved": True}}))
        assert "may not" in (await next_of(socket_, "error"))["data"]
        respond(person(house, "owner"), cards(house)[0], approve=False)
        assert await asyncio.to_thread(call.end) == (403, False)
        await socket_.close()

    asyncio.run(asyncio.wait_for(walk(), 60))


@pytest.mark.parametrize("word, ran", [("y", True), ("n", False), ("yes please", False)])
def test_choir_chat_takes_the_answer(house, word, ran):
    """In a terminal of the machine, over the daemon's own socket: the card is shown, y runs it, anything else does not."""
    near, far = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("CHOIR_URL", "WEB_PORT")}
    chat = subprocess.Popen([CHOIR, "chat"], stdin=far, stdout=far, stderr=far, env={**environment, "CHOIR_STATE": str(house.state)})
    try:
        shown = b""

        def read_until(wanted):
            nonlocal shown
            end = time.monotonic() + 20
            while wanted not in shown:
                assert time.monotonic() < end, shown
                if select.select([near], [], [], 0.2)[0]:
                    shown += os.read(near, 4096)

        read_until(b"you")
        call = Call(house, person(house, "operator"), "chat")
        read_until(b"approve? [y/N]")
        assert b"choir-approval" in shown
        os.write(near, word.encode() + b"\n")
        ended = call.end()
        assert ended == (200 if ran else 403, ran), shown
    finally:
        chat.kill()
        chat.wait()
        os.close(near)
        os.close(far)
