"""Roles by themselves under Molecule, delegated to a node of the lab; only with ./test --full."""
import os
import pathlib
import subprocess

import pytest

from conftest import VENV

HERE = pathlib.Path(__file__).resolve().parent


@pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="only with --full")
@pytest.mark.parametrize("role", ["preflight", "consul"])
def test_role(role, small_lab, tmp_path):
    small_lab.up("one")
    config = pathlib.Path(small_lab.call("ssh-config", check=True).stdout.strip())
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(small_lab.call("inventory", check=True).stdout, encoding="utf-8")
    env = {**small_lab.env, "CHOIR_ROOT": HERE.parents[1], "CHOIR_INVENTORY": inventory, "NO_COLOR": "1",
           "ANSIBLE_HOME": tmp_path / "ansible", "MOLECULE_EPHEMERAL_DIRECTORY": tmp_path / "molecule"}
    done = subprocess.run([HERE / "lab", "ctl", VENV / "molecule", "test", "-s", role], cwd=HERE, env={k: str(v) for k, v in env.items()},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
