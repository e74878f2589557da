"""./run --packages and packaging/ before anything is built: options, what counts as the same files, what is said."""
import os
import shutil
import subprocess

import pytest

from conftest import ROOT


def call(*words, code=0, cwd=ROOT, **env):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env={**os.environ, **env})
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_run_takes_the_options_together_only():
    assert "--packages DIR" in call("./run", "--help").stdout
    for words, said in ((("--packages",), "--packages needs a value"), (("--packages", ""), "needs a value"), (("--packages=",), "unknown option"),
                        (("--cached",), "--cached goes with --packages"), (("--packages", "x", "--cli"), "goes with --cached"),
                        (("--packages", "x", "--port", "9000"), "goes with --cached")):
        done = call("./run", *words, code=2)
        assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_nothing_in_the_cache_is_said(tmp_path):
    for words in (("./run", "--packages", tmp_path / "out", "--cached"), ("packaging/build", tmp_path / "out", "--cached")):
        done = call(*words, code=4, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert "were not built yet" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    done = call("packaging/build", tmp_path / "out", code=1, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "the engine is not built yet" in done.stderr
    call("packaging/build", code=2)
    call("packaging/build", "--nonsense", code=2)
    call("packaging/root", code=2)
    assert "no Debian root yet" in call("packaging/root", "run", "true", code=1, XDG_CACHE_HOME=str(tmp_path / "cache")).stderr


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_same_files_same_version(tmp_path):
    """The version follows what goes into the packages, and nothing else."""
    tree = tmp_path / "tree"
    call("git", "clone", "-q", "--depth", "1", f"file://{ROOT}", tree)

    def version():
        done = call("packaging/build", tmp_path / "out", "--cached", code=4, cwd=tree, XDG_CACHE_HOME=str(tmp_path / "cache"))
        return done.stderr.split("(")[1].split(")")[0]

    first = version()
    assert first == version()
    (tree / "tests/unit/base/test_text.c").write_text("changed\n")
    assert version() == first
    (tree / "src/base/text.c").write_text("changed\n")
    second = version()
    assert second != first
    (tree / "engine/gemv.c").write_text("changed\n")
    assert version() not in (first, second)
