"""./run before it does anything heavy: options, missing packages, what is installed under /etc/choir."""
import os
import pathlib
import stat
import subprocess

import pytest
from conftest import ROOT


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run(*args, **env):
    return subprocess.run([str(ROOT / "run"), *args], capture_output=True, text=True, timeout=60, env={**os.environ, **env},
                          stdin=subprocess.DEVNULL)


@pytest.fixture
def machine(tmp_path):
    """A PATH in front of the real one: dpkg-query knows all packages but two, apt-get writes down what it is asked."""
    tools = tmp_path / "bin"
    tools.mkdir()
    real = subprocess.run(["sh", "-c", "command -v dpkg-query"], capture_output=True, text=True).stdout.strip()
    script(tools / "dpkg-query", f'"{real}" "$@" | grep -v -e " libwslay-dev$" -e " flite1-dev$"\n')
    script(tools / "apt-get", f'echo "$@" >> "{tmp_path}/apt"; exit 100\n')
    script(tools / "id", "echo 0\n")
    return {"PATH": f"{tools}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_help_names_every_option():
    result = run("--help")
    assert result.returncode == 0
    for word in ("--setup-only", "--port", "--state", "--cli", "--no-install", "examples:", "Exit codes:"):
        assert word in result.stdout


@pytest.mark.parametrize("args", [["--prot", "1"], ["--port"], ["--port", "x"], ["--port=0"], ["--port", "70000"], ["--state"]])
def test_wrong_usage_is_2_and_one_sentence(args):
    result = run(*args)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1 and "./run --help" in result.stderr


def test_no_install_says_what_is_missing_and_installs_nothing(machine, tmp_path):
    result = run("--setup-only", "--no-install", **machine)
    assert result.returncode == 3
    assert "apt-get install" in result.stdout and "libwslay-dev" in result.stdout and "flite1-dev" in result.stdout
    assert not (tmp_path / "apt").exists()


def test_packages_that_cannot_be_installed_are_one_sentence(machine, tmp_path):
    result = run("--setup-only", **machine)
    assert result.returncode == 1
    assert "Debian packages missing: libwslay-dev flite1-dev" in result.stdout
    asked = (tmp_path / "apt").read_text()
    assert "libwslay-dev flite1-dev" in asked and "cmake" not in asked
    assert "could not be installed" in result.stderr and "again" in result.stderr


def test_installed_settings_are_never_written_over(tmp_path):
    def install():
        subprocess.run([str(ROOT / "tools/install-settings")], check=True, env={**os.environ, "DESTDIR": str(tmp_path)}, timeout=30)

    install()
    etc = tmp_path / "etc/choir"
    shipped = {p.name for p in pathlib.Path(ROOT / "prompts").glob("*.txt")}
    assert {p.name for p in (etc / "prompts").iterdir()} == shipped and "router.txt" in shipped
    assert (etc / "models.yaml").exists() and (etc / "commands.gram").exists()
    (etc / "prompts/router.txt").write_text("mine\n")
    (etc / "prompts/tron_agent.txt").unlink()
    install()
    assert (etc / "prompts/router.txt").read_text() == "mine\n"
    assert (etc / "prompts/tron_agent.txt").exists()
