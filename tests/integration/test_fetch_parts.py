"""tools/fetch-parts against a loopback index that cuts, stalls and lies, and against a full disk."""

import hashlib
import http.server
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "fetch-parts")
NAME = "choir_test_part-1.0.tar.gz"
SEED = int(os.environ.get("CHOIR_TEST_SEED", "0")) or random.randrange(1 << 30)
print(f"seed {SEED}", file=sys.stderr)
BODY = random.Random(SEED).randbytes(3_000_017)
SHA = hashlib.sha256(BODY).hexdigest()


class Index(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode = "good"
        self.page = "json"
        self.requests = []  # (path, Range) of the file requests
        self.cuts = 0
        self.claimed = SHA


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/simple/choir-test-part/":
            if self.server.page == "json":
                entry = {"filename": NAME, "url": f"../../files/{NAME}", "hashes": {"sha256": self.server.claimed}}
                self.send("application/vnd.pypi.simple.v1+json", json.dumps({"files": [entry]}).encode())
            else:
                self.send("text/html", f'<a href="../../files/{NAME}#sha256={self.server.claimed}">x</a>'.encode())
        elif self.path == f"/files/{NAME}":
            self.file()
        else:
            self.send_error(404)

    def file(self):
        asked = self.headers.get("Range")
        self.server.requests.append(asked)
        mode = self.server.mode
        start = int(asked[6:-1]) if asked and mode != "ignores range" else 0
        body = BODY[start:]
        if mode == "wrong bytes":
            body = bytes(len(body))
        if mode == "wrong size":
            body = body + b"more"
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = mode == "cuts always" or (mode in ("cuts once", "ignores range") and self.server.cuts == 0)
        if cut or mode == "stalls":
            self.server.cuts += 1
            self.wfile.write(body[: len(body) // 3])
            self.wfile.flush()
            if mode == "stalls":
                time.sleep(5)
            self.close_connection = True
            return
        self.wfile.write(body)


@pytest.fixture(name="index")
def _index():
    server = Index()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(name="tool")
def _tool(index, tmp_path):
    lock = tmp_path / "parts.lock"
    lock.write_text(f"# head\npypi choir-test-part 1.0 {NAME} {len(BODY)} {SHA} MIT test a part\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PIP_") and "proxy" not in k.lower()}
    env |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{index.server_address[1]}/simple"}

    def call(*options, **extra):
        command = [sys.executable, TOOL, "--lock", str(lock), "--stall", "1", *options]
        return subprocess.run(command, env=env | extra.pop("env", {}), capture_output=True, text=True, timeout=60,
                              check=False, **extra)

    call.parts = tmp_path / "cache" / "choir" / "parts"
    call.lock = lock
    call.env = env
    return call


def one_sentence(result, *words):
    lines = [l for l in result.stderr.splitlines() if l.startswith("fetch-parts: ")]
    assert result.returncode == 1, result.stderr
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize("page", ["json", "html"])
def test_fetches_once_then_works_offline(index, tool, page):
    index.page = page
    first = tool()
    assert first.returncode == 0, first.stderr
    assert (tool.parts / NAME).read_bytes() == BODY
    assert tool("--offline").returncode == 0
    assert tool().returncode == 0
    assert len(index.requests) == 1


def test_offline_names_what_is_missing(tool, index):
    one_sentence(tool("--offline"), NAME)
    assert index.requests == []


def test_list_is_json(tool):
    listed = json.loads(tool("--list", "--json").stdout)
    assert listed["missing_bytes"] == len(BODY) and listed["parts"][0]["present"] is False


def test_cut_connection_is_resumed(index, tool):
    index.mode = "cuts once"
    assert tool().returncode == 0
    assert index.requests == [None, f"bytes={len(BODY) // 3}-"]
    assert (tool.parts / NAME).read_bytes() == BODY


def test_server_without_ranges_starts_over(index, tool):
    index.mode = "ignores range"
    assert tool().returncode == 0
    assert (tool.parts / NAME).read_bytes() == BODY


def test_always_cut_keeps_the_partial_file_and_the_next_run_goes_on(index, tool):
    index.mode = "cuts always"
    one_sentence(tool(), "cut", ".part", "run the same command again")
    kept = (tool.parts / (NAME + ".part")).stat().st_size
    assert 0 < kept < len(BODY)
    index.mode, index.requests = "good", []
    assert tool().returncode == 0
    assert index.requests == [f"bytes={kept}-"]


def test_stalled_server(index, tool):
    index.mode = "stalls"
    one_sentence(tool(), "no byte came for 1 s", ".part")
    assert (tool.parts / (NAME + ".part")).stat().st_size > 0


def test_wrong_bytes_are_never_used(index, tool):
    index.mode = "wrong bytes"
    one_sentence(tool(), "wrong sha256", ".part")
    assert not (tool.parts / NAME).exists() and (tool.parts / (NAME + ".part")).exists()
    index.mode = "good"
    assert tool().returncode == 0
    assert (tool.parts / NAME).read_bytes() == BODY


def test_wrong_first_half_is_fetched_again(index, tool):
    tool.parts.mkdir(parents=True)
    (tool.parts / (NAME + ".part")).write_bytes(bytes(1000))
    assert tool().returncode == 0
    assert index.requests == ["bytes=1000-", None]


def test_wrong_size_is_refused_at_once(index, tool):
    index.mode = "wrong size"
    one_sentence(tool(), str(len(BODY) + 4), str(len(BODY)))


def test_registry_with_another_hash_is_refused(index, tool):
    index.claimed = "0" * 64
    one_sentence(tool(), "another sha256")
    assert index.requests == []


def test_unknown_package(tool):
    tool.lock.write_text(f"pypi choir-no-such-part 1.0 {NAME} {len(BODY)} {SHA} MIT test a part\n")
    one_sentence(tool(), "does not know the package choir-no-such-part")


def test_unreachable_index(tool):
    one_sentence(tool(env={"PIP_INDEX_URL": "http://127.0.0.1:9/simple"}), "cannot be reached", "check the network")


def test_find_links_folder_is_asked_first(tool, index, tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / NAME).write_bytes(BODY)
    result = tool(env={"PIP_FIND_LINKS": str(folder), "PIP_INDEX_URL": "http://127.0.0.1:9/simple"})
    assert result.returncode == 0, result.stderr
    assert index.requests == []


def test_spoiled_cached_file_is_noticed(index, tool):
    assert tool().returncode == 0
    (tool.parts / NAME).write_bytes(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    assert tool("--offline").returncode == 1
    assert tool().returncode == 0
    assert (tool.parts / NAME).read_bytes() == BODY


def test_full_disk_while_writing(tool):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    one_sentence(tool(preexec_fn=limit), "disk is full", ".part", "free some space")
    assert 0 < (tool.parts / (NAME + ".part")).stat().st_size <= 1_000_000
    assert tool().returncode == 0


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounting a small file system needs root")
def test_too_small_disk_is_said_before_the_download(tool, index):
    tool.parts.mkdir(parents=True)
    script = f'mount -t tmpfs -o size=1m none "{tool.parts}" && exec "$@"'
    probe = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("this machine allows no private mounts")
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, TOOL, "--lock", str(tool.lock)]
    one_sentence(subprocess.run(command, env=tool.env, capture_output=True, text=True, timeout=60, check=False),
                 "disk is too full", "MB")
    assert index.requests == []


@pytest.mark.parametrize("line, word", [("pypi a 1 f 1 short MIT test x", "sha256"), ("pypi a 1", "nine fields"),
                                        (f"gem a 1 f 1 {SHA} MIT test x", "kind"), (f"pypi a 1 ../f 1 {SHA} MIT test x", "file name")])
def test_bad_lock_lines(tool, line, word):
    tool.lock.write_text(line + "\n")
    one_sentence(tool(), "line 1", word)


def test_usage(tool):
    assert tool("--set", "nothing").returncode == 2
    assert "examples:" in tool("--help").stdout
