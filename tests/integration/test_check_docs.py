"""tools/check-docs finds what is wrong in a small checkout, each thing by file and line, and nothing in the same one set right."""
import importlib.machinery
import importlib.util
import pathlib
import subprocess
import sys

import pytest
from conftest import BUILD, ROOT

RIGHT = {
    "README.md": "# House\n\n[role](ansible/roles/common/README.md#users) and [here](#house)\n\n```sh\nchoir models list --json\n"
                 "./start --loud   # a script\nansible-playbook play.yaml -e colour=red --tags common --limit HOST\n"
                 "sudo systemctl status choir-lamp\n```\n\nSee `start`, `[web] port`, `choir expert deploy NAME --dry-run`, `docs/dependencies.md`.\n",
    "start": "#!/bin/sh\necho '--loud: louder'\n",
    "play.yaml": "- name: A play\n  hosts: all\n  tasks:\n    - name: Say\n      debug:\n        msg: \"{{ colour }} {{ lamp_watts }}\"\n",
    "docs/playbooks/play.md": "# play.yaml\n\n| variable | |\n|---|---|\n| `colour` | which |\n",
    "docs/dependencies.md": "# Dependencies\n\nlampd\n",
    "ansible/roles/common/README.md": "# common\n\n## Users\n\n`lamp_watts`\n",
    "ansible/roles/common/vars/main.yaml": "common_packages: [lampd]\n",
    "ansible/roles/common/templates/choir-lamp.service.j2": "[Service]\n",
    "group_vars/all.yaml": "lamp_watts: 5\n",
    "docs/names.md": "| original | status | here | check |\n|---|---|---|---|\n| `--loud`, `play.yaml` | kept | | |\n| `--soft` | later | | |\n\n"
                     "| command | test | in |\n|---|---|---|\n| `./start --loud` | `test_loud` | `tests/test_start.py` |\n"
                     "| `ansible-playbook play.yaml` | `test_play` | `tests/test_start.py` |\n",
    "tests/test_start.py": "WORDS = ['ansible-playbook', 'play.yaml']\n\n\ndef run(*words):\n    return ['./start', *words]\n\n\n"
                           "def test_loud():\n    \"\"\"--soft\"\"\"\n    run('--loud')\n\n\ndef test_play():\n    run(WORDS)\n",
}
WRONG = [
    ("README.md", "#users", "#nobody", "has no heading for #nobody"),
    ("README.md", "common/README.md#users", "common/ABOUT.md", "there is no ansible/roles/common/ABOUT.md"),
    ("README.md", "(#house)", "(#shed)", "README.md:3: README.md has no heading for #shed"),
    ("README.md", "models list", "models burn", "choir models has no burn"),
    ("README.md", "--json", "--yaml", "choir models has no --yaml"),
    ("README.md", "choir models", "choir mdoels", "choir has no command mdoels"),
    ("README.md", "--dry-run", "--wet-run", "choir expert has no --wet-run"),
    ("README.md", "./start", "./stop", "stop is not an executable file here"),
    ("README.md", "--loud", "--silent", "start has no --silent"),
    ("README.md", "play.yaml", "plya.yaml", "there is no playbook plya.yaml"),
    ("README.md", "colour=red", "color=red", "no playbook and no role reads color"),
    ("README.md", "--tags common", "--tags commno", "no role and no task has the tag commno"),
    ("README.md", "choir-lamp", "choir-candle", "nothing here makes a unit choir-candle"),
    ("README.md", "[web] port", "[web] prot", "there is no setting [web] prot"),
    ("README.md", "`docs/dependencies.md`", "`docs/depndencies.md`", "there is no docs/depndencies.md"),
    ("docs/playbooks/play.md", "`colour`", "`color`", "docs/playbooks/play.md:5: no role and no playbook reads color"),
    ("docs/playbooks/play.md", None, None, "play.yaml: there is no docs/playbooks/play.md"),
    ("ansible/roles/common/README.md", "`lamp_watts`", "", "no document names lamp_watts"),
    ("play.yaml", "lamp_watts", "colour", "no role and no playbook reads lamp_watts"),
    ("play.yaml", "{{ colour }}", "{{ colour }} {{ lamp_shade | default('') }}", "its page does not name the variable lamp_shade"),
    ("tests/test_start.py", "run('--loud')", "run('--help')", "test_loud does not type --loud"),
    ("tests/test_start.py", "run(WORDS)", "run()", "test_play does not type ansible-playbook"),
    ("tests/test_start.py", "def test_play", "def test_game", "tests/test_start.py has no test_play"),
    ("docs/names.md", "| later |", "| kept |", "no test types --soft"),
    ("docs/names.md", "| `ansible-playbook play.yaml` | `test_play` | `tests/test_start.py` |\n", "", "no test types play.yaml"),
    ("docs/dependencies.md", "lampd", "", "docs/dependencies.md does not name lampd"),
]


@pytest.fixture(scope="module")
def tool():
    """The tool's code, loaded once: twenty processes would cost seconds."""
    spec = importlib.util.spec_from_loader("check_docs", importlib.machinery.SourceFileLoader("check_docs", str(ROOT / "tools/check-docs")))
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


def problems(tool, folder, files, helps):
    for name, text in files.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    docs = tool.Docs(pathlib.Path(folder), BUILD.resolve())
    docs.helps.update(helps)
    found = [problem for _, check in tool.CHECKS for problem in check(docs)]
    helps.update({words: answer for words, answer in docs.helps.items() if words[0] == docs.build / "choir"})
    return found


def test_what_is_right_passes(tool, tmp_path):
    assert problems(tool, tmp_path, RIGHT, {}) == []


def test_every_fault_is_found(tool, tmp_path):
    """Each fault in a checkout of its own, so that none hides another."""
    helps = {}
    for number, (name, old, new, told) in enumerate(WRONG):
        files = dict(RIGHT)
        if old is None:
            del files[name]
        else:
            assert old in files[name], old
            files[name] = files[name].replace(old, new)
        found = problems(tool, tmp_path / str(number), files, helps)
        assert any(told in line for line in found), f"{name}: {old!r} to {new!r}: {found}"


@pytest.mark.parametrize("words", [["--build", "/nowhere"], ["--frobnicate"]])
def test_wrong_usage(words):
    done = subprocess.run([ROOT / "tools/check-docs", *words], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2 and done.stderr
