"""Choir as a package leaves it, below another root: it finds what lies beside it, without a checkout and without a cache."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import BUILD, ROOT, Daemon

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir"
WORKERS = ("speech/choir-ear", "speech/choir-stt", "speech/choir-tts", "speech/choir-codec", "speech/choir-phonemes", "sandbox/choir-sandbox", "memory/choir-index.so")


@pytest.fixture
def root(tmp_path):
    tree = tmp_path / "root"
    for folder in ("usr/bin", "usr/lib/choir/engine", "usr/lib/choir/runtime", "usr/share/choir/group_vars", "etc/choir"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(BUILD / "choir", tree / "usr/bin")
    for name in WORKERS:
        if (BUILD / "src" / name).exists():
            shutil.copy(BUILD / "src" / name, tree / "usr/lib/choir")
    (tree / "usr/lib/choir/engine/bin").symlink_to(CACHE / "engine/11434/bin")
    (tree / "usr/lib/choir/runtime/libonnxruntime.so").symlink_to(CACHE / "runtime/libonnxruntime.so")
    shutil.copytree(ROOT / "prompts", tree / "etc/choir/prompts")
    shutil.copy(ROOT / "group_vars/models.yaml", tree / "usr/share/choir/group_vars")
    shutil.copy(ROOT / "src/speech/data/commands.gram", tree / "usr/share/choir")
    return tree


def environment(tmp_path, **more):
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("CHOIR_", "XDG_"))}
    return {**plain, "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "no-cache"), **more}


def test_it_serves_with_a_folder_of_models(root, tmp_path):
    daemon = Daemon(tmp_path / "state")
    daemon.env = environment(tmp_path)
    command = [root / "usr/bin/choir", "serve", "--port", "0", "--state", tmp_path / "state", "--set", f"paths.models={CACHE / 'models'}",
               "--set", "stt.service=pocketsphinx", "--set", "tts.service=flite"]
    log = open(daemon.log_path, "wb")
    daemon.process = subprocess.Popen([str(w) for w in command], stdout=subprocess.PIPE, stderr=log, env=daemon.env, start_new_session=True, cwd=tmp_path)
    try:
        daemon.url = daemon._line(60).split()[-1].decode()
        daemon.wait_warm()
        status = daemon.wait_engines("stt", "tts")
        maps = pathlib.Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes()
        assert str(root).encode() in maps
        programs = {pathlib.Path(os.readlink(f"/proc/{c['pid']}/exe")) for c in status["children"] if c["pid"]}
        assert root / "usr/lib/choir/choir-ear" in programs and root / "usr/lib/choir/choir-stt" in programs
        assert not [p for p in programs if str(p).startswith(str(BUILD))], programs
        assert daemon.post("/internal/chat/sync", {"text": "Say yes.", "request_id": "i1"})[0] == 200
        assert not (tmp_path / "no-cache/choir").exists() and not (tmp_path / "home/.cache").exists()
    finally:
        daemon.stop()
        log.close()


def test_what_is_missing_is_named(root, tmp_path):
    """Neither models in the usual place nor a folder in the settings: it says where they belong."""
    if pathlib.Path("/opt/nomad/models").exists():
        pytest.skip("this machine has /opt/nomad/models")
    done = subprocess.run([root / "usr/bin/choir", "models", "list", "--json"], env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not any(m.get("present") for m in json.loads(done.stdout))
    listed = subprocess.run([root / "usr/bin/choir", "models", "list"], env=environment(tmp_path, CHOIR_MODELS=str(CACHE / "models")), capture_output=True, text=True,
                            timeout=60, check=True).stdout
    assert "SmolLM2-135M-Instruct" in listed and " yes " in listed.splitlines()[1]
