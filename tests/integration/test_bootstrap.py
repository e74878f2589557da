"""bootstrap.sh without a node: arguments, plans, --clean, and what it does about failures, with programs of the test's own in
front of the path. What it does to a real machine is in tests/cluster/test_bootstrap.py."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest
from conftest import ROOT

TOKEN = "cj1." + "0" * 48 + "." + "f" * 64
ALL = ("--role --controller-ip --token --token-file --tags --user --external-model-server --purge-jobs --clean --debug --continue --leave-services-running --benchmark "
       "--deploy-docker --home-assistant-debug --dry-run --status --uninstall --purge --yes --help").split()


@pytest.fixture
def tree(tmp_path):
    """The files that bootstrap.sh needs, in a checkout of their own."""
    made = tmp_path / "choir"
    made.mkdir()
    for name in ("bootstrap.sh", "playbook.yaml", "inventory.yaml", "ansible.cfg", "uninstall.yaml"):
        shutil.copy2(ROOT / name, made / name)
    for name in ("scripts", "tools", "group_vars", "ansible"):
        shutil.copytree(ROOT / name, made / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q", "."], cwd=made, check=True)
    subprocess.run(["git", "add", "-A"], cwd=made, check=True)
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "t"], cwd=made, check=True)
    return made


def run(tree, *words, env=None, stdin=None):
    options = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run([tree / "bootstrap.sh", *words], capture_output=True, text=True, timeout=120, cwd="/",
                          env={**{k: v for k, v in os.environ.items() if k not in ("LLM_BASE_URL", "LLM_MODEL")}, **(env or {})}, **options)


def files(tree):
    return {p.relative_to(tree): p.read_bytes() for p in tree.rglob("*") if p.is_file() and ".git" not in p.parts}


def test_help_names_every_option(tree):
    for word in ("-h", "--help"):
        done = run(tree, word)
        assert done.returncode == 0 and "examples:" in done.stdout and "Exit codes:" in done.stdout
        assert [o for o in ALL if o not in done.stdout] == []


@pytest.mark.parametrize("words, hint", [
    (["--role", "king"], "not 'king'"), (["--role"], "needs a value"), (["--fly"], "'--fly'"), (["now"], "'now'"),
    (["--role", "worker"], "--controller-ip"), (["--role=worker", "--controller-ip", "10.0.0.1; reboot"], "--controller-ip wants"),
    (["--role", "worker", "--controller-ip", "10.0.0.1", "--token", "abc"], "sudo choir nodes token"),
    (["--role", "worker", "--controller-ip", "10.0.0.1", "--token-file", "/nowhere"], "cannot read"),
    (["--controller-ip", "10.0.0.1"], "--role worker only"), (["--role", "embedded", "--tags", "consul"], "--tags goes with"),
    (["--tags", "nonsense"], "'nonsense'"), (["--tags", "../x"], "'../x'"), (["--user", "root"], "not be root"), (["--user", "a b"], "name of a user"),
    (["--external-model-server"], "LLM_BASE_URL"), (["--purge"], "--uninstall only"), (["--continue"], "nothing to continue"), (["--carry", "/etc/passwd"], "this script itself"),
])
def test_wrong_usage_changes_nothing(tree, words, hint):
    before = files(tree)
    done = run(tree, *words)
    assert done.returncode == (1 if "--carry" in words else 2)
    assert hint in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
    assert files(tree) == before


@pytest.mark.parametrize("words, steps, never", [
    ([], ["check", "tools", "inventory", "choir", "preflight", "common", "consul", "nomad", "join", "owner"], ["register"]),
    (["--role", "controller"], ["consul", "nomad", "join"], ["owner", "pipecatapp", "register"]),
    (["--role", "worker", "--controller-ip", "10.0.0.1", "--token", TOKEN], ["check", "tools", "register", "provision"], ["consul", "inventory"]),
    (["--role", "embedded"], ["check", "build", "service", "owner"], ["consul", "nomad", "inventory"]),
    (["--tags", "consul,nomad"], ["inventory", "consul", "nomad"], ["preflight", "join", "owner"]),
    (["--deploy-docker", "--benchmark", "--purge-jobs"], ["docker", "purge-jobs", "benchmark"], []),
])
def test_a_dry_run_says_the_plan_and_does_nothing(tree, words, steps, never):
    before = files(tree)
    done = run(tree, *words, "--dry-run")
    assert done.returncode == 0, done.stderr
    named = re.findall(r"^ *\d+  (\S+)", done.stdout, re.M)
    assert [s for s in steps if s not in named] == [] and [s for s in never if s in named] == []
    assert "Nothing was done." in done.stdout and files(tree) == before


def test_an_external_model_server_leaves_out_models(tree):
    done = run(tree, "--external-model-server", "--dry-run", env={"LLM_BASE_URL": "http://10.0.0.20:8081/v1"})
    named = re.findall(r"^ *\d+  (\S+)", done.stdout, re.M)
    assert done.returncode == 0 and "models" not in named and "consul" in named
    assert run(tree, "--external-model-server", "--dry-run", env={"LLM_BASE_URL": "ftp://x"}).returncode == 2


def test_clean_lists_asks_and_deletes_exactly_what_git_would(tree):
    (tree / ".gitignore").write_text("*.o\n")
    subprocess.run(["git", "add", ".gitignore"], cwd=tree, check=True)
    (tree / "a.o").write_text("x")
    (tree / "notes").mkdir()
    (tree / "notes/b").write_text("x")
    listed = subprocess.run(["git", "clean", "-fdxn"], cwd=tree, capture_output=True, text=True, check=True).stdout
    done = run(tree, "--clean", stdin="n\n")
    assert done.returncode == 0 and listed in done.stdout and "Nothing was deleted" in done.stdout and (tree / "a.o").exists()
    assert run(tree, "--clean").returncode == 0 and (tree / "a.o").exists()  # nobody there to ask
    done = run(tree, "--clean", stdin="y\n")
    assert done.returncode == 0 and not (tree / "a.o").exists() and not (tree / "notes").exists() and (tree / "playbook.yaml").exists()
    assert "Nothing to delete" in run(tree, "--clean").stdout
    shutil.rmtree(tree / ".git")
    assert run(tree, "--clean").returncode == 1


def test_status_needs_nothing(tree):
    done = run(tree, "--status")
    assert done.returncode == 0 and "has not run in this folder" in done.stdout and "consul" in done.stdout
    (tree / ".bootstrap_state").write_text("role=all\nbegun=today\ndone=check\ndone=role:common\n")
    done = run(tree, "--status")
    assert "check common" in done.stdout and "--continue" in done.stdout


def test_uninstall_asks_first(tree):
    done = run(tree, "--uninstall", "--dry-run")
    assert done.returncode == 0 and "nothing was done" in done.stdout
    if os.geteuid() == 0:
        done = run(tree, "--uninstall", stdin="n\n")
        assert done.returncode == 0 and "Nothing was changed." in done.stdout and "stay" in done.stdout


# A machine of the test's own: what bootstrap.sh calls is in front of the path and writes down that it was called.

STAND_IN = """#!/bin/bash
name=${0##*/}
[ "$name" != ansible-playbook ] || { tags=''; while [ $# -gt 1 ]; do [ "$1" != --tags ] || tags=$2; shift; done; set -- "$tags"; }
echo "$name $*" >> "$STAND_IN_LOG"
case " $STAND_IN_FAIL " in
  *" $name:$1 "*) [ -n "$STAND_IN_SAY" ] && echo "fatal: [x]: FAILED! => {\\"msg\\": \\"$STAND_IN_SAY\\"}"; exit 3 ;;
esac
case $name in
  dpkg-query) echo -n installed ;;
  hostname) echo testbox ;;
  ip) echo '1: x inet 10.9.9.9/24 scope global src 10.9.9.9 uid 0' ;;
  getent) exit 2 ;;
esac
exit 0
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the steps run as root")


@pytest.fixture
def machine(tree, tmp_path):
    """Only `--tags` runs here: it has the steps that touch nothing but the checkout."""
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name in ("ansible-playbook", "apt-get", "dpkg-query", "hostname", "ip", "systemctl", "getent"):
        (stand_ins / name).write_text(STAND_IN)
        (stand_ins / name).chmod(0o755)
    packages = tmp_path / "packages"
    (packages / "models").mkdir(parents=True)
    (packages / "SHA256SUMS").write_text("")
    text = (tree / "group_vars/all.yaml").read_text()
    text = re.sub(r"^choir_packages_dir:.*", f"choir_packages_dir: {packages}", text, flags=re.M)
    (tree / "group_vars/all.yaml").write_text(re.sub(r"^choir_models_dir:.*", f"choir_models_dir: {packages}/models", text, flags=re.M))
    steps = tree / "scripts/bootstrap/steps.sh"  # whether this is Debian with systemd is the other test's
    steps.write_text(steps.read_text().replace("step_check() {", "step_check() {\n  return 0"))
    log = tmp_path / "calls"

    def bootstrap(*words, fail="", say=""):
        log.write_text("")
        (packages / "SHA256SUMS").write_text(f"{'0' * 64}  x\n" if fail == "packages" else
                                             "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  empty\n")
        (packages / "empty").write_text("")
        done = run(tree, *words, env={"PATH": f"{stand_ins}:{os.environ['PATH']}", "STAND_IN_LOG": str(log), "STAND_IN_FAIL": fail, "STAND_IN_SAY": say})
        return done, [l.split()[1] for l in log.read_text().splitlines() if l.startswith("ansible-playbook") and len(l.split()) > 1]

    return tree, bootstrap


@needs_root
def test_a_run_a_second_run_and_what_it_prints(machine):
    tree, bootstrap = machine
    done, ran = bootstrap("--tags", "common,consul,nomad")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran == ["common", "consul", "nomad"]
    lines = re.findall(r"^\d\d:\d\d:\d\d +(\d+)/7 +(\S+) +ok, \d+ s$", done.stdout, re.M)
    assert [n for n, _ in lines] == [str(i) for i in range(1, 8)] and lines[-1][1] == "nomad"
    assert "http://10.9.9.9:8500" in done.stdout and "/etc/consul.d/management_token" in done.stdout and "Next" in done.stdout
    book = (tree / "inventory.yaml").read_text()
    assert "testbox:" in book and "ansible_host: 10.9.9.9" in book and "localhost:" not in book
    assert [l for l in (ROOT / "inventory.yaml").read_text().splitlines() if l.strip().startswith("#") and l not in book.splitlines()] == []
    assert bootstrap("--tags", "common,consul,nomad")[1] == ["common", "consul", "nomad"]  # every role looks again
    assert (tree / "inventory.yaml").read_text() == book
    assert (tree / ".bootstrap.log").stat().st_mode & 0o777 == 0o600


@needs_root
@pytest.mark.parametrize("fail, before, after", [
    ("ansible-playbook:common", [], ["common", "consul", "nomad"]),
    ("ansible-playbook:consul", ["common"], ["consul", "nomad"]),
    ("ansible-playbook:nomad", ["common", "consul"], ["nomad"]),
    ("packages", [], ["common", "consul", "nomad"]),
    ("hostname:", [], ["common", "consul", "nomad"]),
])
def test_continue_goes_on_after_the_last_good_step(machine, fail, before, after):
    tree, bootstrap = machine
    done, ran = bootstrap("--tags", "common,consul,nomad", fail=fail, say="no leader in 120 s")
    assert done.returncode == 1 and "FAILED" in done.stdout and "--continue" in done.stdout
    if fail.startswith("ansible"):
        assert "no leader in 120 s" in done.stdout and [r for r in ran if r not in fail] == before
    done, ran = bootstrap("--continue", "--tags", "common,consul,nomad")
    assert done.returncode == 0 and ran == after
    assert done.stdout.count("done before") == 7 - len(re.findall(r" ok, ", done.stdout))
    done, ran = bootstrap("--continue", "--tags", "common,consul,nomad")
    assert done.returncode == 0 and ran == [] and done.stdout.count("done before") == 7


@needs_root
def test_continue_remembers_what_was_asked_for(machine):
    tree, bootstrap = machine
    done, ran = bootstrap("--tags", "common,nomad", "--user", "anna", "--leave-services-running", fail="ansible-playbook:nomad", say="x")
    assert done.returncode == 1 and ran == ["common", "nomad"]
    assert re.search("^target_user: anna$", (tree / "group_vars/all.yaml").read_text(), re.M)  # for playbooks called by hand, and for workers
    done, ran = bootstrap("--continue")
    assert done.returncode == 0 and ran == ["nomad"] and "--leave-services-running" in done.stdout, done.stdout
    assert bootstrap("--tags", "common")[0].returncode == 0
    assert re.search("^target_user: anna$", (tree / "group_vars/all.yaml").read_text(), re.M)


@needs_root
def test_a_failing_program_is_quoted(machine):
    """Of a task that failed the program's own words, not Ansible's about its exit code."""
    tree, bootstrap = machine
    say = 'non-zero return code\\", \\"rc\\": 1, \\"stderr\\": \\"there is no leader\\", \\"stdout\\": \\"'.replace('\\"', '"')
    done, _ = bootstrap("--tags", "common", fail="ansible-playbook:common", say=say)
    assert "\nthere is no leader\n" in done.stdout and "non-zero" not in done.stdout, done.stdout


@needs_root
def test_debug_keeps_the_log_before(machine):
    tree, bootstrap = machine
    assert bootstrap("--tags", "common", "--debug", fail="ansible-playbook:common", say="first")[0].returncode == 1
    log = tree / "playbook_output.log"
    assert "first" in log.read_text()
    assert bootstrap("--tags", "common", "--debug", "--continue")[0].returncode == 0
    assert "first" in (tree / "playbook_output.log.before_changes").read_text() and "first" not in log.read_text()


@needs_root
def test_sudo_gets_no_secret_in_its_arguments(tree):
    """As somebody else: sudo is called once, by a stand-in here, and its command line (which it logs) has neither token nor address."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="choir-sudo-"))
    try:
        folder.chmod(0o755)
        shutil.copytree(tree, folder / "choir", symlinks=True)
        (folder / "bin").mkdir()
        (folder / "out").mkdir(mode=0o777)
        (folder / "out").chmod(0o777)
        (folder / "bin/sudo").write_text('#!/bin/sh\necho "$*" >> "$OUT/argv"\nfor last; do :; done\nstat -c %a "$last" > "$OUT/mode"; cat "$last" > "$OUT/carried"; rm "$last"\n')
        (folder / "bin/sudo").chmod(0o755)
        done = subprocess.run(["runuser", "-u", "nobody", "--", "env", f"PATH={folder / 'bin'}:{os.environ['PATH']}", f"OUT={folder / 'out'}",
                               "LLM_BASE_URL=http://10.1.1.1/v1", folder / "choir/bootstrap.sh", "--role", "worker", "--controller-ip", "10.0.0.1", "--token", TOKEN],
                              capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        argv = (folder / "out/argv").read_text()
        assert argv.count("\n") == 1 and "--carry" in argv and TOKEN not in argv and "10.0.0.1" not in argv
        assert (folder / "out/mode").read_text() == "600\n"
        carried = (folder / "out/carried").read_text().split("\0")
        assert TOKEN in carried and "http://10.1.1.1/v1" in carried
    finally:
        shutil.rmtree(folder)


def test_the_password_is_in_no_variable():
    text = (ROOT / "bootstrap.sh").read_text() + (ROOT / "scripts/bootstrap/steps.sh").read_text()
    assert "sudo -S" not in text and "BECOME_PASS" not in text and not re.search(r"read [^\n]*-s", text)


def test_shellcheck_is_silent():
    done = subprocess.run(["shellcheck", "-x", "bootstrap.sh", "scripts/bootstrap/steps.sh"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
