"""Who may ask for what: every line of the table of routes, asked by nobody, by a machine's key and by each role. The table
below is this test's own; a route that is new in the code must be written down here, too."""

import re
from pathlib import Path

import pytest
from test_owners import KEY, Client, choir, new_house, person

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("none", "viewer", "operator", "approver", "owner")
ANYBODY, VIEWER, OPERATOR, APPROVER, OWNER = ROLES
# method, path, the least role. Bodies are empty objects: what is let through is then refused for another reason.
ROUTES = [
    ("GET", "/health", ANYBODY), ("GET", "/login", ANYBODY), ("GET", "/login.css", ANYBODY), ("GET", "/setup", ANYBODY),
    ("GET", "/trust", ANYBODY), ("GET", "/choir-ca.crt", ANYBODY), ("GET", "/api/me", ANYBODY), ("POST", "/api/logout", ANYBODY),
    ("POST", "/api/setup", ANYBODY), ("OPTIONS", "/start", ANYBODY), ("OPTIONS", "/connect", ANYBODY),
    ("GET", "/", VIEWER), ("GET", "/app.js", VIEWER), ("GET", "/metrics", VIEWER), ("GET", "/api/status", VIEWER),
    ("GET", "/api/web_uis", VIEWER), ("GET", "/ws", VIEWER), ("GET", "/api/tools", VIEWER), ("GET", "/api/approvals", VIEWER),
    ("GET", "/api/conversations", VIEWER), ("GET", "/api/cluster", VIEWER), ("GET", "/api/memory", VIEWER),
    ("GET", "/api/cluster/joins", VIEWER), ("POST", "/api/cluster/joins/approve", APPROVER), ("POST", "/api/cluster/joins/refuse", APPROVER),
    ("GET", "/api/memory/export", VIEWER), ("GET", "/api/state", VIEWER), ("GET", "/api/models", VIEWER),
    ("POST", "/api/tools/call", OPERATOR), ("GET", "/api/audit", OPERATOR), ("POST", "/api/conversations", OPERATOR),
    ("POST", "/api/conversations/open", OPERATOR), ("GET", "/api/cluster/logs", OPERATOR), ("POST", "/api/memory/add", OPERATOR),
    ("POST", "/api/memory/forget", OPERATOR), ("POST", "/api/state/save", OPERATOR), ("POST", "/api/state/load", OPERATOR),
    ("POST", "/api/models/use", OPERATOR), ("POST", "/internal/chat", OPERATOR), ("POST", "/internal/chat/sync", OPERATOR),
    ("GET", "/v1/models", OPERATOR), ("GET", "/v1/realtime", OPERATOR), ("POST", "/v1/chat/completions", OPERATOR),
    ("POST", "/v1/audio/speech", OPERATOR), ("POST", "/v1/audio/transcriptions", OPERATOR), ("GET", "/rtvi", OPERATOR),
    ("GET", "/ws-client", OPERATOR), ("POST", "/start", OPERATOR), ("POST", "/connect", OPERATOR),
    ("POST", "/api/approvals/answer", APPROVER), ("POST", "/api/approvals/revoke", APPROVER), ("POST", "/api/gate/approve", APPROVER),
    ("GET", "/api/setup/code", OWNER), ("GET", "/api/people", OWNER), ("POST", "/api/people", OWNER),
    ("POST", "/api/people/remove", OWNER), ("GET", "/api/tokens", OWNER), ("POST", "/api/tokens", OWNER),
    ("POST", "/api/tokens/revoke", OWNER),
]
# /api/login counts wrong tries: test_owners.py has it. Others of the cluster's own machines answer with their own token.
ELSEWHERE = {("POST", "/api/login")}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    daemon = new_house(tmp_path_factory.mktemp("roles"))
    try:
        for role in ROLES[1:]:
            choir(daemon, "owner", "add", role[:3] + "-person", "--role", role, stdin="correct horse battery\n")
        yield daemon
    finally:
        daemon.stop()


def lines_of_the_code():
    text = (ROOT / "src/web/guard_roles.c").read_text(encoding="utf-8")
    return re.findall(r'^    \{"([A-Z*]+)", "([^"]+)", CHOIR_ROLE_', text, re.M)


def test_the_table_here_is_whole():
    for method, path in lines_of_the_code():
        if (method, path) in ELSEWHERE:
            continue
        fits = [r for r in ROUTES if method in ("*", r[0]) and (r[1].startswith(path[:-1]) if path.endswith("*") else r[1] == path)]
        assert fits, f"{method} {path} is not walked"


def test_every_route_by_every_role(house):
    clients = {role: person(house, role) for role in ROLES[1:]}
    clients["none"], clients["key"] = Client(house), Client(house, token=KEY)
    ranks = {**{role: rank for rank, role in enumerate(ROLES)}, "key": ROLES.index(OPERATOR)}
    wrong, asked = [], 0
    for method, path, least in ROUTES:
        for who, client in clients.items():
            if path == "/api/logout" and client.cookie:
                continue  # it would end the walk
            status, _ = client.ask(method, path, None if method in ("GET", "OPTIONS") else {})
            let_in = status not in (401, 403) and not (who == "none" and status == 303)
            if least == OWNER and path == "/api/setup/code":  # the code is for the set-up only, and that is over
                let_in = let_in or (who == "owner")
            if let_in != (ranks[who] >= ROLES.index(least)):
                wrong.append(f"{method} {path} by {who}: {status}, needs {least}")
            asked += 1
    assert not wrong, "\n".join(wrong)
    assert asked >= 300
    # Unknown routes and methods are nobody's.
    for who, client in clients.items():
        for method, path in (("GET", "/api/secret"), ("DELETE", "/api/memory"), ("PUT", "/api/tools/call")):
            assert client.ask(method, path)[0] in (401, 403, 404, 405), (who, method, path)
