"""choir backup and restore: while the daemon runs, into another state folder, and what is refused."""
import fcntl
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import time

import pytest

from conftest import BUILD


def choir(*words, code=0, env=None):
    done = subprocess.run([str(BUILD / "choir"), *map(str, words)], capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, **(env or {})})
    assert done.returncode == code, done.stdout + done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1, f"one sentence, not: {done.stderr}"
    return done


@pytest.fixture
def home(tmp_path):
    """Settings of nobody but the test."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "states")}


@pytest.fixture
def state(tmp_path):
    """A state folder as a daemon leaves it, without one."""
    folder = tmp_path / "state"
    (folder / "saved_states/mine").mkdir(parents=True)
    (folder / "slots").mkdir()
    (folder / "slots/big.bin").write_bytes(bytes(100000))
    (folder / "lock").touch()
    (folder / "owners.json").write_text('{"people": []}')
    (folder / "owners.json").chmod(0o600)
    (folder / "saved_states/mine/state.json").write_text("{}")
    (folder / "long_term_memory.faiss").write_bytes(os.urandom(5000))
    (folder / "notes.jsonl").write_text('{"n": 1}\n{"n": 2}\n{"torn')
    (folder / "elsewhere").symlink_to("/etc/passwd")
    base = sqlite3.connect(folder / "rag.db")
    base.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES('kept');")
    base.close()
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()}


def test_conversations_and_owners_come_back(new_daemon, tmp_path, home):
    """Backed up while it runs, restored elsewhere, and a second daemon knows it all."""
    daemon = new_daemon("--set", "stt.service=pocketsphinx", "--set", "tts.service=flite", env=home)
    daemon.wait_warm()
    assert daemon.post("/internal/chat/sync", {"text": "Remember that my server is called atlas.", "request_id": "b1"})[0] == 200
    before = daemon.get("/api/conversations")[1]
    file = tmp_path / "b.tar"
    done = choir("backup", file, "--state", daemon.state, env=home)
    assert "keep it where nobody else reads" in done.stdout and file.stat().st_mode & 0o777 == 0o600
    choir("restore", "--check", file, env=home)
    # the daemon runs on it: refused, and nothing changed
    refused = choir("restore", file, "--state", daemon.state, code=1, env=home)
    assert "stop it, restore" in refused.stderr
    assert daemon.get("/api/conversations")[1] == before
    work = daemon.state.with_name(daemon.state.name + "-work")
    (work / "boiler.md").write_text("# Boiler\n\nThe heating of the cellar is drained by the green valve.\n")
    add = subprocess.Popen([str(BUILD / "choir"), "tools", "call", "rag.add_document", '{"path": "boiler.md"}', "--state", str(daemon.state)])
    for _ in range(100):
        waits = json.loads(choir("approve", "--json", "--state", daemon.state, env=home).stdout)
        if waits:
            break
        time.sleep(0.2)
    choir("approve", "--yes", waits[0]["id"], "--state", daemon.state, env=home)
    assert add.wait(60) == 0
    choir("backup", "--force", file, "--state", daemon.state, env=home)
    daemon.stop()

    other = tmp_path / "restored"
    choir("restore", file, "--state", other, env=home)
    assert not (other / "lock").exists() and not (other / "slots").exists() and not list(other.glob("*.sock"))
    assert (other / "audit.jsonl").exists()
    choir("audit", "verify", "--state", other, env=home)
    again = new_daemon("--set", "stt.service=pocketsphinx", "--set", "tts.service=flite", env=home, state="restored")
    assert [c["title"] for c in again.get("/api/conversations")[1]["conversations"]] == [c["title"] for c in before["conversations"]]
    shutil.rmtree(work)  # found in the folder that came out of the backup, not in the old one
    found = choir("tools", "call", "rag.search_knowledge_base", '{"query": "green valve"}', "--state", other, env=home).stdout
    assert "drained by the green valve" in found and "boiler.md" in found


def test_everything_and_nothing_else(state, tmp_path, home):
    file = tmp_path / "b.tar"
    (tmp_path / "config/choir/choir.conf.d").mkdir(parents=True)
    (tmp_path / "config/choir/choir.conf").write_text("[web]\nport = 9123\n")
    (tmp_path / "config/choir/choir.conf.d/10.conf").write_text("[llm]\nmax_tokens = 100\n")
    told = json.loads(choir("backup", file, "--state", state, "--json", env=home).stdout)
    names = {f["name"] for f in told["files"]}
    assert names == {"state/owners.json", "state/saved_states/mine/state.json", "state/long_term_memory.faiss", "state/notes.jsonl", "state/rag.db",
                     "settings/choir.conf", "settings/choir.conf.d/10.conf"}
    with tarfile.open(file) as tar:  # anybody's tar reads it
        for entry in told["files"]:
            assert hashlib.sha256(tar.extractfile(entry["name"]).read()).hexdigest() == entry["sha256"]
        assert tar.extractfile("state/notes.jsonl").read() == b'{"n": 1}\n{"n": 2}\n'  # whole lines only

    # over another state: the old one stays beside it, settings that differ stay until they are asked for
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    (other / "owners.json").write_text("old")
    (tmp_path / "config/choir/choir.conf").write_text("[web]\nport = 9124\n")
    said = choir("restore", file, "--state", other, env=home).stdout
    kept, = tmp_path.glob("other.before-*")
    assert str(kept) in said and (kept / "owners.json").read_text() == "old" and "--settings" in said
    assert (tmp_path / "config/choir/choir.conf").read_text() == "[web]\nport = 9124\n"
    assert (other / "owners.json").stat().st_mode & 0o777 == 0o600
    base = sqlite3.connect(other / "rag.db")
    assert base.execute("SELECT x FROM t").fetchall() == [("kept",)]
    base.close()
    shutil.rmtree(other)
    choir("restore", "--settings", file, "--state", other, env=home)
    assert (tmp_path / "config/choir/choir.conf").read_text() == "[web]\nport = 9123\n"
    assert not list(tmp_path.glob("*.restore-*"))


@pytest.fixture
def work(state):
    """The agent's own folder beside the state: documents that it searches, a repository, and what programs leave there."""
    folder = state.with_name("state-work")
    (folder / "letters").mkdir(parents=True)
    (folder / "letters/aunt.md").write_text("# Aunt\nShe likes plum cake.\n")
    (folder / "lock").write_text("a document's name, not the daemon's lock")
    (folder / "draft.part").write_text("kept, too")
    (folder / "fake.db").write_bytes(b"SQLite format 3\0" + bytes(100))  # no database: nothing of the agent is opened
    script = ("git init -q -b main lamp && cd lamp && echo light > bulb.c && printf '#!/bin/sh\n' > run && chmod +x run && git add . && "
              "git -c user.name=t -c user.email=t@t commit -qm first && git gc -q && git pack-refs --all")
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True, timeout=60, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"})
    (folder / "outside").symlink_to("/etc/passwd")
    (folder / ("n" * 200)).write_text("a name that no ustar header holds")
    (folder / "two\nlines").write_text("x")
    base = sqlite3.connect(state / "rag.db")
    base.executescript("CREATE TABLE roots(path TEXT PRIMARY KEY) WITHOUT ROWID;")
    base.executemany("INSERT INTO roots VALUES(?)", [(str(folder),), (str(folder / "letters"),), (str(folder) + "er/x",), ("/home/ada/Documents",)])
    base.commit()
    base.close()
    return folder


def test_the_agents_own_folder(state, work, tmp_path, home):
    """Documents and repositories come back, at the place where the agent looks for them now."""
    file = tmp_path / "b.tar"
    said = choir("backup", file, "--state", state, env=home).stdout
    assert "not in it: /home/ada/Documents" in said and "not in it: " + str(work) + "er/x" in said
    assert "left out: 4 links" in said  # two links, two names
    other = tmp_path / "other"
    old = tmp_path / "other-work"
    other.mkdir()
    old.mkdir()
    (old / "mine.txt").write_text("old")
    told = choir("restore", file, "--state", other, env=home).stdout
    kept, = tmp_path.glob("other-work.before-*")
    assert str(kept) in told and (kept / "mine.txt").read_text() == "old"
    fresh = tmp_path / "other-work"
    assert (fresh / "letters/aunt.md").read_text() == (work / "letters/aunt.md").read_text()
    assert (fresh / "lock").exists() and (fresh / "draft.part").exists() and (fresh / "fake.db").exists()
    assert not (fresh / "outside").exists() and not (fresh / "mine.txt").exists()
    status = subprocess.run(["git", "-C", fresh / "lamp", "-c", "safe.directory=*", "status", "--porcelain", "--branch"], capture_output=True, text=True,
                            check=True, timeout=60)
    assert status.stdout == "## main\n"  # executable bits and empty folders, too
    base = sqlite3.connect(other / "rag.db")
    assert sorted(base.execute("SELECT path FROM roots")) == sorted([("/home/ada/Documents",), (str(work) + "er/x",), (str(fresh),),
                                                                     (str(fresh / "letters"),)])
    base.close()
    # without it: the folder that is there stays
    choir("backup", "--force", "--no-work", file, "--state", state, env=home)
    shutil.rmtree(fresh)
    fresh.mkdir()
    (fresh / "mine.txt").write_text("stays")
    choir("restore", file, "--state", other, env=home)
    assert (fresh / "mine.txt").read_text() == "stays"


def test_bad_files_change_nothing(state, tmp_path, home):
    file = tmp_path / "b.tar"
    choir("backup", file, "--state", state, env=home)
    before = contents(state)
    image = file.read_bytes()
    bad = tmp_path / "bad.tar"

    def refused(said):
        done = choir("restore", bad, "--state", state, code=1, env=home)
        assert said in done.stderr, done.stderr
        assert contents(state) == before and not list(tmp_path.glob("state.*"))

    refused("No such file")
    bad.write_bytes(b"")
    refused("ends too early")
    bad.write_bytes(b"hello" * 1000)
    refused("no tar file")
    bad.write_bytes(image[: len(image) // 2])
    refused("ends too early")
    where = image.index(b'"people"')
    bad.write_bytes(image[:where] + b"X" + image[where + 1:])
    refused("owners.json is not what was backed up")

    def tar(*members):
        with tarfile.open(bad, "w", format=tarfile.USTAR_FORMAT) as out:
            for name, data, kind in members:
                info = tarfile.TarInfo(name)
                info.size, info.type = len(data), kind
                info.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
                out.addfile(info, io.BytesIO(data))

    def manifest(version=1, **files):
        listed = [{"name": n, "bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items()]
        return ("manifest.json", json.dumps({"format": "choir-backup", "version": version, "choir": "9", "files": listed}).encode(), tarfile.REGTYPE)

    tar(("../evil", b"x", tarfile.REGTYPE))
    refused("not allowed")
    assert not (tmp_path / "evil").exists()
    tar(("state/link", b"", tarfile.SYMTYPE))
    refused("something else than plain files")
    tar(("elsewhere/x", b"x", tarfile.REGTYPE))
    refused("strange file")
    tar(("state/x", b"x", tarfile.REGTYPE), manifest())
    refused("not in its list")
    tar(manifest(version=2))
    refused("newer Choir")
    tar(manifest())
    refused("holds no state")
    broken = b"SQLite format 3\0" + bytes(4000)
    tar(("state/history.db", broken, tarfile.REGTYPE), manifest(**{"state/history.db": broken}))
    refused("history.db")
    newer = tmp_path / "newer.db"
    base = sqlite3.connect(newer)
    base.executescript("PRAGMA user_version=99; CREATE TABLE t(x);")
    base.close()
    data = newer.read_bytes()
    tar(("state/history.db", data, tarfile.REGTYPE), manifest(**{"state/history.db": data}))
    refused("newer Choir")


def test_nothing_half_written(state, tmp_path, home):
    file = tmp_path / "b.tar"
    file.write_text("mine")
    assert "--force" in choir("backup", file, "--state", state, code=1, env=home).stderr
    assert file.read_text() == "mine"
    choir("backup", "--force", file, "--state", state, env=home)
    choir("restore", "--check", file, env=home)
    before = sorted(p.name for p in tmp_path.iterdir())
    (state / "owners.json").chmod(0)
    if os.geteuid() != 0:
        assert "run it as the user" in choir("backup", tmp_path / "c.tar", "--state", state, code=1, env=home).stderr
    assert "there is no state folder" in choir("backup", tmp_path / "c.tar", "--state", tmp_path / "none", code=1, env=home).stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    # a full disk: /dev/full cannot be a backup's folder, a tiny file system can
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    if os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tiny], check=False).returncode == 0:
        try:
            (state / "much").write_bytes(os.urandom(200000))
            assert "free some space" in choir("backup", tiny / "b.tar", "--state", state, code=1, env=home).stderr
            assert list(tiny.iterdir()) == []

        finally:
            subprocess.run(["umount", tiny], check=True)


def test_a_running_daemon_is_respected(state, tmp_path, home):
    file = tmp_path / "b.tar"
    choir("backup", file, "--state", state, env=home)
    with open(state / "lock", "r+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "choir runs on" in choir("restore", file, "--state", state, code=1, env=home).stderr
    choir("restore", file, "--state", state, env=home)


def test_wrong_usage(home):
    for words in (("backup",), ("restore",), ("backup", "a", "b"), ("restore", "--nonsense", "x")):
        choir(*words, code=2, env=home)
