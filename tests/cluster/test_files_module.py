"""The module choir_files, which brings a role's files to a node in one trip."""
import json
import os
import pathlib
import re
import subprocess
import sys

from house import ROOT

ANSIBLE = pathlib.Path(sys.executable).parent / "ansible"


def write(files, *options, **arguments):
    """(changed, written, message); None for changed where it failed."""
    owner = {"owner": str(os.getuid()), "group": str(os.getgid())}
    words = [ANSIBLE, "localhost", "-c", "local", "-m", "choir_files", "-a", json.dumps({"files": files, **owner, **arguments}), *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "ANSIBLE_NOCOLOR": "1"})
    said = done.stdout + done.stderr
    result = json.loads(re.search(r"^localhost \| .* => (\{.*^\})", said, re.M | re.S).group(1))
    return (None if result.get("failed") or "FAILED" in said else result["changed"]), result.get("written"), result.get("msg", "")


def test_files_of_a_role(tmp_path):
    one, two = tmp_path / "deep/one", tmp_path / "two"
    files = [{"dest": str(one), "content": "the key\n", "mode": "0640"}, {"dest": str(two), "content": "settings\n", "validate": "grep -q settings %s"}]
    assert write(files, "--check")[0] is True and not one.exists()
    assert write(files) == (True, [str(one), str(two)], "")
    assert one.read_text() == "the key\n" and one.stat().st_mode & 0o777 == 0o640 and two.stat().st_mode & 0o777 == 0o644
    before = one.stat().st_mtime_ns
    assert write(files)[:2] == (False, []) and one.stat().st_mtime_ns == before
    two.chmod(0o666)
    assert write(files)[:2] == (True, [str(two)]) and two.stat().st_mode & 0o777 == 0o644
    files[1]["content"] = "nonsense\n"
    changed, _, said = write(files)
    assert changed is None and "would not be valid, so it was left as it is" in said and two.read_text() == "settings\n"
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith((".", "tmp"))]
