"""Starts the real daemon for the tests. CHOIR_BUILD names the build folder (default: build)."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # what all of them share
BUILD = pathlib.Path(os.environ.get("CHOIR_BUILD", ROOT / "build"))


class Daemon:
    """One `choir serve` with a state folder of its own, on a free port."""

    def __init__(self, state, *args, env=None):
        self.state = pathlib.Path(state)
        self.log_path = self.state.parent / (self.state.name + ".log")
        self.args = args
        self.env = env or {}
        self.process = None
        self.url = None

    def start(self, timeout=30):
        log = open(self.log_path, "ab")
        command = [str(BUILD / "choir"), "serve", "--port", "0", "--state", str(self.state), *self.args]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **self.env}, start_new_session=True
        )
        log.close()
        line = self._line(timeout)
        assert b"http://" in line, f"no URL printed: {line!r}\n{self.log()[-2000:]}"
        self.url = line.split()[-1].decode()
        return self

    def _line(self, timeout):
        os.set_blocking(self.process.stdout.fileno(), False)
        end, data = time.monotonic() + timeout, b""
        while time.monotonic() < end:
            data += self.process.stdout.read() or b""
            if b"\n" in data or self.process.poll() is not None:
                return data
            time.sleep(0.02)
        return data

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def get(self, path, timeout=10):
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read())

    def post(self, path, body, timeout=120, headers=None):
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json", **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def wait_warm(self, timeout=240):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                return self.get("/health")
            except urllib.error.HTTPError:
                time.sleep(0.2)
        pytest.fail("the language model did not get warm:\n" + self.log()[-4000:])

    def wait_engines(self, *names, timeout=240):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            _, status = self.get("/api/status")
            if all(status["engines"][n]["ready"] for n in names):
                return status
            time.sleep(0.2)
        pytest.fail(f"{names} did not get ready:\n" + self.log()[-4000:])

    def children(self):
        _, status = self.get("/api/status")
        return {c["name"]: c for c in status["children"]}

    def stop(self, how=signal.SIGTERM, timeout=30):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout)
        return self.process.returncode if self.process else None


@pytest.fixture
def new_daemon(tmp_path):
    started = []

    def make(*args, env=None, state="state", start=True):
        daemon = Daemon(tmp_path / state, *args, env=env)
        started.append(daemon)
        return daemon.start() if start else daemon

    yield make
    for daemon in started:
        try:
            daemon.stop()
        except subprocess.TimeoutExpired:
            daemon.process.kill()
            print("the daemon did not stop on SIGTERM", file=sys.stderr)
            raise


@pytest.fixture(scope="module")
def warm_daemon(tmp_path_factory):
    """One daemon for a whole file, with the language model warm."""
    daemon = Daemon(tmp_path_factory.mktemp("warm") / "state")
    daemon.start()
    try:
        daemon.wait_warm()
        yield daemon
    finally:
        daemon.stop()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
