"""choir service on a machine that was started by systemd: now, after a restart of the machine, and gone again."""
import json
import os
import pathlib

import pytest

from conftest import wait_for

STORE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir/cluster/packages"

pytestmark = [pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="only with --full"),
              pytest.mark.skipif(not (STORE / "set.json").exists(), reason="the packages were not built: ./run --packages DIR")]


def status(lab):
    text = lab.sh("one", "choir status --json --url http://127.0.0.1:8000 2> /dev/null; true")
    return json.loads(text) if text.startswith("{") else None


def test_starts_with_the_machine(small_lab):
    lab = small_lab
    lab.up("one", "--memory", "2500")
    lab.sh("one", "cd /tmp && cp /srv/choir/packages/choir*.deb . && dpkg -i choir*.deb && mkdir -p /opt/nomad && ln -s /srv/choir/models /opt/nomad/models", timeout=300)
    refused = lab.call("exec", "one", "choir", "service", "install")
    assert refused.returncode == 1 and "--run-as NAME" in refused.stderr
    refused = lab.call("exec", "one", "runuser", "-u", "debian", "--", "choir", "service", "install", "--run-as", "debian")
    assert refused.returncode == 1 and "needs root" in refused.stderr
    said = lab.sh("one", "choir service install --run-as debian", timeout=120)
    assert "Choir runs" in said and "set-up code" in said
    wait_for("the page answers", 120, lambda: status(lab))
    assert lab.sh("one", "systemctl is-enabled choir; systemctl is-active choir").split() == ["enabled", "active"]
    assert lab.sh("one", "ps -o user= -C choir | sort -u") == "debian"
    assert "Set-up code" in lab.sh("one", "journalctl -u choir -o cat")
    sandbox = lab.sh("one", "journalctl -u choir -o cat | grep -c 'bubblewrap does not work' || true")
    assert sandbox == "0", "the unit's hardening took the sandbox away"
    again = lab.sh("one", "systemctl show -p ExecMainStartTimestampMonotonic choir; choir service install --run-as debian > /dev/null; systemctl show -p ExecMainStartTimestampMonotonic choir",
                   timeout=120).split()
    assert again[0] == again[1], "a second install with the same options restarted it"

    lab.call("stop", "one", check=True)
    lab.up("one")
    wait_for("the page answers after a restart of the machine", 180, lambda: status(lab))

    lab.sh("one", "kill -9 $(systemctl show -p MainPID --value choir)")
    wait_for("it is started again", 120, lambda: status(lab))

    # somebody else's unit stays
    lab.sh("one", "choir service remove", timeout=120)
    assert lab.sh("one", "systemctl is-active choir; ls /etc/systemd/system/choir.service 2> /dev/null; true") == "inactive"
    assert lab.sh("one", "ls /home/debian/.local/state/choir/history.db") == "/home/debian/.local/state/choir/history.db"
    lab.sh("one", "printf '[Service]\\nExecStart=/bin/true\\n' > /etc/systemd/system/choir.service")
    refused = lab.call("exec", "one", "choir", "service", "remove")
    assert refused.returncode == 1 and "is not from choir service install" in refused.stderr
