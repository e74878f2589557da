"""`choir models` against a loopback server that cuts, stalls and lies."""
import hashlib
import http.server
import json
import os
import re
import resource
import subprocess
import threading

import pytest
from conftest import BUILD

BODY = b"GGUF" + bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.stalls = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    """/ok /cut /stall /lie-length /lie-range /ignore-range /wrong /error /loop"""

    def log_message(self, *args):
        pass

    def do_GET(self):
        wanted = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        self.server.requests.append((self.path, start))
        getattr(self, "do_" + self.path[1:].replace("-", "_"))(start)

    def head(self, status, length, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def part(self, body, start, announced=None):
        length = announced or len(body) - start
        if start:
            self.head(206, length, Content_Range=f"bytes {start}-{start + length - 1}/{start + length}")
        else:
            self.head(200, length)
        return body[start:]

    def do_ok(self, start):
        if start >= len(BODY):
            return self.head(416, 0)
        self.wfile.write(self.part(BODY, start))

    def do_cut(self, start):
        body = self.part(BODY, start)
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.connection.close()

    def do_stall(self, start):
        self.wfile.write(self.part(BODY, start)[:1000])
        self.wfile.flush()
        self.server.stalls.wait(120)

    def do_lie_length(self, start):
        self.part(BODY, start, announced=len(BODY) + 5000)
        self.wfile.write(BODY[start:])

    def do_lie_range(self, start):
        self.head(206, len(BODY), Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
        self.wfile.write(BODY)

    def do_ignore_range(self, start):
        self.head(200, len(BODY))
        self.wfile.write(BODY)

    def do_wrong(self, start):
        self.wfile.write(self.part(BODY[:-1] + b"x", start))

    def do_not_gguf(self, start):
        self.wfile.write(self.part(b"<html>" + BODY, start))

    def do_error(self, start):
        self.head(404, 0)

    def do_loop(self, start):
        self.head(302, 0, Location="/loop")


@pytest.fixture
def site(tmp_path):
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()

    class Site:
        requests = server.requests
        models = tmp_path / "models"
        state = tmp_path / "state"
        file = models / "m.gguf"
        part = models / "m.gguf.part"

        def describe(self, path, known=True, memory=100):
            lines = ["expert_models:", "  main:", "    - name: m", f"      url: http://127.0.0.1:{server.server_port}{path}",
                     "      filename: m.gguf", f"      memory_mb: {memory}"]
            lines += [f"      sha256: {SHA}", f"      bytes: {len(BODY)}"] if known else ["      unverified: true"]
            (tmp_path / "models.yaml").write_text("\n".join(lines) + "\n")
            return self

        def run(self, *args, **options):
            env = {**os.environ, "CHOIR_MODEL_LIST": str(tmp_path / "models.yaml"), "CHOIR_MODELS": str(self.models),
                   "CHOIR_STATE": str(self.state), "CHOIR_URL": "http://127.0.0.1:9"}
            return subprocess.run([BUILD / "choir", "models", *args], capture_output=True, text=True, env=env, timeout=150, **options)

    yield Site()
    server.stalls.set()
    server.shutdown()


def one_sentence(result):
    assert result.returncode == 1
    said = [line for line in result.stderr.splitlines() if line.strip() and not re.match(r" *\d+%|.* left$", line)]
    assert len(said) == 1, result.stderr
    return said[0]


def test_fetch_use_verify_remove(site):
    site.describe("/ok")
    assert "no" in site.run("list").stdout
    assert site.run("fetch", "m").returncode == 0
    assert site.file.read_bytes() == BODY and not site.part.exists()
    assert site.run("use", "m").returncode == 0
    assert json.loads((site.state / "models.json").read_text())["chosen"] == "m"
    assert site.run("verify", "m").returncode == 0
    site.file.write_bytes(BODY[:-1] + b"?")
    assert "damaged" in one_sentence(site.run("verify", "m"))
    assert "in use" in one_sentence(site.run("remove", "m"))


def test_a_cut_connection_goes_on_where_it_stopped(site):
    message = one_sentence(site.describe("/cut").run("fetch", "m"))
    assert "goes on" in message
    kept = site.part.stat().st_size
    assert 0 < kept < len(BODY) and not site.file.exists()
    assert site.describe("/ok").run("fetch", "m").returncode == 0
    assert site.requests[-1] == ("/ok", kept)
    assert site.file.read_bytes() == BODY


def test_a_server_that_ignores_the_range_starts_anew(site):
    site.describe("/cut").run("fetch", "m")
    assert site.describe("/ignore-range").run("fetch", "m").returncode == 0
    assert site.file.read_bytes() == BODY


@pytest.mark.parametrize("path, words", [("/lie-range", "another part"), ("/lie-length", "it is not that file"), ("/error", "404"), ("/loop", "m")])
def test_lies_and_errors_leave_no_file(site, path, words):
    site.describe("/cut").run("fetch", "m")
    assert words in one_sentence(site.describe(path).run("fetch", "m"))
    assert not site.file.exists()


def test_an_announced_length_that_never_comes(site):
    assert "broke after" in one_sentence(site.describe("/lie-length", known=False).run("fetch", "m"))
    assert not site.file.exists()


def test_a_wrong_hash_is_thrown_away(site):
    assert SHA != hashlib.sha256(BODY[:-1] + b"x").hexdigest()
    assert "sha256" in one_sentence(site.describe("/wrong").run("fetch", "m"))
    assert not site.file.exists() and not site.part.exists()


def test_the_hash_of_an_unverified_model_is_recorded(site):
    assert site.describe("/ok", known=False).run("fetch", "m").returncode == 0
    assert json.loads((site.state / "models.json").read_text())["sha256"] == {"m": SHA}
    site.file.unlink()
    assert "sha256" in one_sentence(site.describe("/wrong", known=False).run("fetch", "m"))


def test_a_web_page_is_not_a_model(site):
    assert "not a GGUF" in one_sentence(site.describe("/not-gguf", known=False).run("fetch", "m"))
    assert not site.file.exists()


def test_a_stalled_server_is_given_up(site):
    one_sentence(site.describe("/stall").run("fetch", "m"))
    assert site.part.stat().st_size == 1000


def test_a_full_disk_is_one_sentence_and_keeps_the_part(site):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    message = one_sentence(site.describe("/ok").run("fetch", "m", preexec_fn=limit))
    assert "cannot write" in message
    assert site.part.stat().st_size <= 300_000
    assert site.run("fetch", "m").returncode == 0


def test_too_large_for_this_machine(site):
    site.describe("/ok", memory=9_000_000).run("fetch", "m")
    assert "more than this machine has" in one_sentence(site.run("use", "m"))


@pytest.mark.parametrize("text, words", [("expert_models: {}\n", "main"), ("a: [\n", "line"), ("expert_models:\n  main:\n    - name: x\n      filename: ../x\n", "filename"),
                                         ("expert_models:\n  main:\n    - name: x\n      filename: x.gguf\n", "sha256")])
def test_a_broken_list_names_the_place(site, tmp_path, text, words):
    (tmp_path / "models.yaml").write_text(text)
    assert words in one_sentence(site.run("list"))


def test_an_unknown_name_gets_the_nearest(site):
    assert "choir models" in one_sentence(site.describe("/ok").run("use", "mm"))
