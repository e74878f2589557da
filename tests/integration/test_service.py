"""choir service: the unit that it writes, and what it refuses. A real start at boot is in tests/cluster/test_service.py."""
import os
import shutil
import subprocess

import pytest

from conftest import BUILD


def choir(*words, code=0, env=None):
    done = subprocess.run([str(BUILD / "choir"), "service", *map(str, words)], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, **(env or {})})
    assert done.returncode == code, done.stdout + done.stderr
    return done


def lines(text):
    return [line for line in text.splitlines() if line and not line.startswith(("#", "["))]


def test_unit_of_the_machine(tmp_path):
    text = choir("show", "--run-as", "nobody", "--lan", "--state", tmp_path / "a b%c", "--config", "/etc/choir/x.conf").stdout
    shown = lines(text)
    assert f'ExecStart="{(BUILD / "choir").resolve()}" serve --lan --state "{tmp_path}/a b%%c" --config "/etc/choir/x.conf"' in shown
    for wanted in ("User=nobody", "NoNewPrivileges=yes", "ProtectSystem=full", "CapabilityBoundingSet=", "Restart=on-failure", "WantedBy=multi-user.target"):
        assert wanted in shown
    # these would take the sandbox's own /proc away from the tools
    assert not {"ProtectKernelTunables=yes", "ProtectHostname=yes", "RestrictSUIDSGID=yes", "ProtectProc=invisible", "RestrictNamespaces=yes"} & set(shown)


def test_unit_of_a_person():
    shown = lines(choir("show", "--user").stdout)
    assert "WantedBy=default.target" in shown and not [l for l in shown if l.startswith("User=")]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.parametrize("kind", ["system", "user"])
def test_systemd_reads_it(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    unit = tmp_path / "choir.service"
    unit.write_text(choir("show", *(["--user"] if kind == "user" else ["--run-as", "daemon"])).stdout)
    done = subprocess.run(["systemd-analyze", "verify", f"--{kind}", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False)
    about_it = [l for l in done.stderr.splitlines() if "choir.service" in l]
    assert not about_it, done.stderr
    unit.write_text(unit.read_text().replace("Type=exec", "Type=nonsense"))  # the check can fail
    done = subprocess.run(["systemd-analyze", "verify", f"--{kind}", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False)
    assert "nonsense" in done.stderr or "choir.service" in done.stderr


def test_refusals():
    sentence = choir("show", "--run-as", "root", code=1).stderr
    assert "does not run as root" in sentence and len(sentence.splitlines()) == 1
    assert "no user 'nobody-at-all'" in choir("show", "--run-as", "nobody-at-all", code=1).stderr
    plain = subprocess.run(["env", "-u", "SUDO_USER", str(BUILD / "choir"), "service", "show"], capture_output=True, text=True, timeout=60, check=False)
    assert plain.returncode == 1 and "--run-as NAME" in plain.stderr
    if not os.path.isdir("/run/systemd/system"):
        for words in (("install", "--run-as", "nobody"), ("remove",), ("install", "--user")):
            assert "not started by systemd" in choir(*words, code=1).stderr
    for words in ((), ("dance",), ("install", "remove"), ("install", "--user", "--run-as", "nobody")):
        choir(*words, code=2)
