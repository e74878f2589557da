"""`choir forward` between a stand-in for Consul and stand-ins for the agent: what becomes of connections when it moves."""
import http.server
import json
import re
import socket
import subprocess
import threading
import time

import pytest
from conftest import BUILD


class Agent:
    """Says its name to whoever connects, and then nothing."""

    def __init__(self, name):
        self.name = name
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.taken = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.sendall(self.name.encode())
            self.taken.append(connection)

    def entry(self, index, node="passing", check="passing"):
        return {"Checks": [{"ServiceID": "", "Status": node}, {"ServiceID": f"id-{self.name}", "Status": check}],
                "Node": {"Node": self.name, "Address": "127.0.0.1"},
                "Service": {"ID": f"id-{self.name}", "Address": "127.0.0.1", "Port": self.port, "CreateIndex": index}}


class Consul:
    """Blocking queries: an answer waits until the index is another one."""

    def __init__(self):
        self.changed, self.index, self.list = threading.Condition(), 1, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                known = int((re.search(r"index=(\d+)", self.path) or [0, 0])[1])
                with outer.changed:
                    outer.changed.wait_for(lambda: outer.index != known, 20)
                    index, data = outer.index, json.dumps(outer.list).encode()
                self.send_response(200)
                self.send_header("X-Consul-Index", str(index))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def tell(self, *entries):
        with self.changed:
            self.index, self.list = self.index + 1, list(entries)
            self.changed.notify_all()


@pytest.fixture
def town():
    class Town:
        consul, agents = Consul(), []
        process = port = None

        @classmethod
        def agent(cls, name):
            cls.agents.append(Agent(name))
            return cls.agents[-1]

        @classmethod
        def start(cls):
            cls.process = subprocess.Popen([BUILD / "choir", "forward", "--port", "0", "--address", "127.0.0.1",
                                            "--consul", f"http://127.0.0.1:{cls.consul.server.server_port}"], stdout=subprocess.PIPE, text=True)
            cls.port = int(cls.line("forwarding port").split()[-1])

        @classmethod
        def line(cls, wanted):
            end = time.monotonic() + 30
            while time.monotonic() < end:
                line = cls.process.stdout.readline()
                if wanted in line:
                    return line
                assert line, "it has ended"
            return pytest.fail(f"it did not say: {wanted}")

        @classmethod
        def connect(cls):
            connection = socket.create_connection(("127.0.0.1", cls.port), 30)
            return connection, connection.recv(64).decode()

    yield Town
    if Town.process:
        Town.process.terminate()
        Town.process.wait(10)
    Town.consul.server.shutdown()
    for agent in Town.agents:
        agent.listener.close()


def ended(connection):
    try:
        return connection.recv(64) == b""
    except ConnectionResetError:
        return True


def test_connections_to_a_former_agent_end_and_others_stay(town):
    old, new = town.agent("old"), town.agent("new")
    town.consul.tell(old.entry(5))
    town.start()
    town.line("runs on old")
    first, name = town.connect()
    assert name == "old"
    town.consul.tell(old.entry(5, check="critical"))  # nobody is sent away, and who comes sees its page say why
    second, name = town.connect()
    assert name == "old"
    second.close()
    town.consul.tell(old.entry(5, node="critical"))  # perhaps its machine only stumbled
    town.line("runs nowhere")
    town.consul.tell(old.entry(5))
    town.line("runs on old")
    old.taken[0].sendall(b"still here")
    assert first.recv(64) == b"still here"
    town.consul.tell(old.entry(5, node="critical"), new.entry(9, check="critical"))  # the old one never says goodbye, the new one loads
    town.line("connections to where it ran are ended")
    assert ended(first)
    second, name = town.connect()
    assert name == "new"
    town.consul.tell(old.entry(5), new.entry(9))  # the cut machine is back, and its agent not yet stopped
    town.consul.tell(new.entry(9))
    third, name = town.connect()
    assert name == "new"
    new.taken[0].sendall(b"stays")
    assert second.recv(64) == b"stays"
    for connection in (first, second, third):
        connection.close()


def test_the_one_that_was_entered_last_is_chosen(town):
    old, new = town.agent("old"), town.agent("new")
    town.consul.tell(old.entry(5), new.entry(9))
    town.start()
    town.line("runs on new")
    connection, name = town.connect()
    assert name == "new"
    connection.close()
