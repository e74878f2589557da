"""bootstrap.sh on bare nodes, a role each; a failure injected at every step; a second run that changes nothing. ./test --full."""
import json
import os
import shlex
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from checkout import HOME, bootstrap, send, steps
from conftest import TestLab, wait_for

pytestmark = pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="part of ./test --full")

# What must not move when bootstrap.sh runs again: configuration, units, tokens, the time since the services started.
PICTURE = """
for f in /etc/consul.d/* /etc/nomad.d/* /etc/choir/tokens/* /etc/systemd/system/choir-* /etc/systemd/system/{consul,nomad}.service /home/debian/choir/inventory.yaml; do
  [ ! -f "$f" ] || stat -c '%n %i %Y %s %a %U' "$f"
done
systemctl show -p ExecMainStartTimestampMonotonic consul nomad choir-join-server choir-depot
"""


@pytest.fixture(scope="module")
def boss(roots):  # pylint: disable=unused-argument
    lab = TestLab(f"b{os.getpid()}")
    try:
        lab.up("boss", "--bare")
        send(lab, "boss")
        yield lab
    finally:
        lab.down()


def test_controller_on_a_bare_node(boss):
    done = bootstrap(boss, "boss", "--role", "controller")
    assert [s for s in steps(done.stdout) if s[1] != "ok"] == []
    names = [n for n, _ in steps(done.stdout)]
    assert names[:3] == ["check", "tools", "inventory"] and names[-1] == "join" and {"consul", "nomad"} <= set(names)
    for word in ("http://10.88.0.10:8500", "/etc/consul.d/management_token", "/etc/nomad.d/management_token", "Next"):
        assert word in done.stdout
    assert boss.sh("boss", "systemctl is-active consul nomad choir-join-server choir-join-apply.path").split() == ["active"] * 4
    assert boss.sh("boss", "stat -c '%a %U' /etc/consul.d/management_token") == "600 root"
    assert "boss" in boss.sh("boss", f"{HOME}/tools/inventory list controller_nodes")
    assert boss.sh("boss", f"stat -c %U {HOME}/inventory.yaml {HOME}/.bootstrap_state").split() == ["debian"] * 2


def test_a_second_run_changes_nothing(boss):
    before = boss.sh("boss", PICTURE)
    done = bootstrap(boss, "boss", "--role", "controller")
    assert [s for s in steps(done.stdout) if s[1] != "ok"] == []
    assert boss.sh("boss", PICTURE) == before
    assert boss.sh("boss", f"grep -c 'changed=[1-9]' {HOME}/.bootstrap.log || true") == "0"


def test_continue_after_a_failure_at_each_step(boss):
    """One pass in which each step fails once: --continue does that step and stops in the next."""
    planned = bootstrap(boss, "boss", "--role", "controller", "--dry-run").stdout.splitlines()
    names = [line.split()[1] for line in planned if line[:3].strip().isdigit()]
    assert len(names) > 8
    for position, step in enumerate(names):
        program = {"check": "dpkg", "tools": "dpkg-query", "inventory": "ip", "choir": "sha256sum", "join": "install"}.get(step, "ansible-playbook")
        condition = f'case " $* " in *" --tags {step} "*) exit 9 ;; esac' if program == "ansible-playbook" else "exit 9"
        if step in ("tools", "inventory"):
            continue  # what they call is called by the steps before, too
        boss.sh("boss", f"rm -rf /root/broken; mkdir /root/broken; printf '%s\\n' '#!/bin/bash' {shlex.quote(condition)} "
                        f"'PATH=${{PATH#*:}}; exec {program} \"$@\"' > /root/broken/{program}; chmod 755 /root/broken/{program}")
        words = ["--role", "controller"] if position == 0 else ["--continue"]
        done = bootstrap(boss, "boss", *words, path="/root/broken", check=False)
        found = steps(done.stdout)
        assert done.returncode == 1 and found[-1] == (step, "FAILED"), done.stdout
        assert "--continue" in done.stdout and len(found) == position + 1
    found = steps(bootstrap(boss, "boss", "--continue").stdout)
    assert found[:-1] == [(n, "done before") for n in names[:-1]] and found[-1] == (names[-1], "ok")


def test_purge_jobs_names_what_it_removes(boss):
    job = 'job "llama-benchmark" { type = "batch"\n group "g" { task "t" { driver = "raw_exec"\n config { command = "/bin/sleep" args = ["900"] } } } }'
    boss.sh("boss", f". /etc/profile.d/choir-cluster.sh; printf '%s' {shlex.quote(job)} > /root/j.nomad; PATH=/srv/choir/bin:$PATH nomad job run -detach /root/j.nomad")
    done = bootstrap(boss, "boss", "--tags", "nomad", "--purge-jobs")
    assert "purged the job llama-benchmark" in done.stdout
    assert "no job of Choir to purge" in bootstrap(boss, "boss", "--tags", "nomad", "--purge-jobs").stdout


def test_uninstall_keeps_a_copy_and_leaves_nothing_running(boss):
    assert "Nothing was changed" in boss.call("exec", "boss", "bash", "-c", f"cd {HOME} && ./bootstrap.sh --uninstall", stdin="n\n").stdout
    done = bootstrap(boss, "boss", "--uninstall", "--yes")
    assert "kept /var/backups/choir-" in done.stdout
    assert boss.sh("boss", "systemctl is-active consul nomad choir-join-server choir-depot || true").split() == ["inactive"] * 4
    assert boss.sh("boss", "ls /etc/systemd/system | grep -E '^(choir|consul|nomad)' || true") == ""
    assert boss.sh("boss", "ls -d /etc/choir /etc/consul.d /etc/nomad.d /var/lib/choir-join* 2> /dev/null || true") == ""
    assert "etc/consul.d/management_token" in boss.sh("boss", "tar tzf /var/backups/choir-*.tar.gz")


class Model(BaseHTTPRequestHandler):
    """A model server elsewhere, of a kind that Choir did not start."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words):  # pylint: disable=arguments-differ
        pass

    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": "outside", "object": "model"}], "status": "ok"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = "Good morning from outside."
        if not asked.get("stream"):
            return self.answer({"id": "1", "object": "chat.completion", "model": "outside", "choices": [{"index": 0, "finish_reason": "stop",
                                "message": {"role": "assistant", "content": text}}], "usage": {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}})
        pieces = [{"choices": [{"index": 0, "delta": {"content": p}}]} for p in text.split(" ")] + [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
        data = "".join(f"data: {json.dumps(p)}\n\n" for p in pieces) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data.encode())
        return None

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def serve_in_lab(lab):
    """The server's socket is in the control namespace, where the nodes reach it."""
    from nodes import network  # pylint: disable=import-outside-toplevel
    made = []

    def make():
        network.enter(f"choir-{lab.name}-ctl")
        made.append(ThreadingHTTPServer(("10.88.0.1", 8081), Model))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    threading.Thread(target=made[0].serve_forever, daemon=True).start()
    return made[0]


def test_embedded_with_an_outside_model(small_lab):
    small_lab.up("solo", "--apt")
    send(small_lab, "solo")
    server = serve_in_lab(small_lab)
    try:
        run = f"cd {HOME} && LLM_BASE_URL=http://10.88.0.1:8081/v1 LLM_MODEL=outside ./bootstrap.sh --role embedded --external-model-server"
        done = small_lab.call("exec", "solo", "runuser", "-l", "debian", "-c", run, timeout=900)
        assert done.returncode == 0, done.stdout + small_lab.call("exec", "solo", "tail", "-30", f"{HOME}/.bootstrap.log").stdout
        assert "Set-up code" in done.stdout
        assert small_lab.sh("solo", "systemctl is-active choir; systemctl is-enabled choir").split() == ["active", "enabled"]
        assert small_lab.sh("solo", f"ls -d {HOME}/build ~debian/.cache/choir ~root/.cache/choir 2> /dev/null || true") == ""  # nothing was built
        said = wait_for("an answer", 60, lambda: small_lab.call("exec", "solo", "choir", "chat", "--once", "Say good morning.", "--url",
                                                                "unix:/opt/pipecatapp/choir.sock").stdout)
        assert "Good morning from outside." in said
    finally:
        server.shutdown()
