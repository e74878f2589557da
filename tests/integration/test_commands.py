"""./run, ./test and the test runner's own reading of results."""
import os
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/run"))
from core import read_tap  # noqa: E402


def command(*args, env=None):
    return subprocess.run([str(ROOT / args[0]), *args[1:]], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(env or {})})


@pytest.mark.parametrize("name", ["run", "test", "scripts/lint", "tools/fetch-parts", "tools/build-engine", "tools/check-includes",
                                  "tools/check-names"])
def test_help(name):
    result = command(name, "--help")
    assert result.returncode == 0 and "xit codes:" in result.stdout


@pytest.mark.parametrize("args", [["run", "--prot", "1"], ["run", "--port"], ["run", "--port", "x"], ["run", "--port", "70000"],
                                  ["test", "--only", "nothing"], ["test", "--only"], ["scripts/lint", "nothing"]])
def test_wrong_usage_is_2(args):
    result = command(*args)
    assert result.returncode == 2 and result.stderr


@pytest.mark.parametrize("name", ["run", "test"])
def test_no_install_only_names_what_is_missing(name, tmp_path):
    for tool, text in (("dpkg-query", "echo 'installed python3'"), ("apt-get", "touch apt-get-was-called")):
        (tmp_path / tool).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / tool).chmod(0o755)
    result = command(name, "--no-install", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert result.returncode == 3
    assert "apt-get install build-essential" in result.stdout and " python3 " not in result.stdout
    assert not (ROOT / "apt-get-was-called").exists()


def kinds(text):
    return [r.kind for r in read_tap(text, "x")]


def test_tap_counts_every_case():
    assert kinds("1..3\nok 1 /a\nok 2 /b # SKIP no camera\nnot ok 3 /c\n# why\n") == ["passed", "skipped", "failed"]
    assert read_tap("1..1\nok 1 a # SKIP no camera\n", "x")[0].detail == "no camera"
    assert kinds("1..0 # SKIP no root\n") == ["skipped"]


@pytest.mark.parametrize("text", ["1..2\nok 1 a\n", "ok 1 a\n", "1..2\nok 1 a\nBail out! lost\n", ""])
def test_tap_that_ends_early_is_a_failure(text):
    assert "failed" in kinds(text)
