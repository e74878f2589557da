"""bootstrap.sh on bare nodes: a controller, embedded, a model server elsewhere; a failure injected at every step; a second run that
changes nothing. test_one_machine.py has the role all, test_join.py the workers. ./test --full. Each test runs alone, too: what it
stands on is made then. By hand, keeping the nodes:
CHOIR_FULL=1 CHOIR_LAB_KEEP=mine python -m pytest -s tests/cluster/test_bootstrap.py -k continue"""
import os
import re
import shlex

import pytest

from checkout import CONTROLLER, HOME, MODEL, PICTURE, bootstrap, lab_name, model_server, nomad, says, send, steps, traces, with_password
from conftest import TestLab, wait_for

pytestmark = pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="part of ./test --full")


@pytest.fixture
def boss(town):
    town.controller()
    return town.lab


def test_controller_on_a_bare_node(town):
    said = town.controller()
    found = steps(said)
    assert [s for s in found if s[1] != "ok"] == []
    names = [n for n, _ in found]
    assert names[:3] == ["check", "tools", "inventory"] and names[-1] == "join" and {"consul", "nomad"} <= set(names)
    assert len(re.findall(r"^\d\d:\d\d:\d\d +\d+/\d+ +\S+ +ok, \d+ s$", said, re.M)) == len(names)
    for word in (f"http://{CONTROLLER}:8500", f"http://{CONTROLLER}:4646", "/etc/consul.d/management_token", "/etc/nomad.d/management_token", "no agent yet", "Next"):
        assert word in said, said
    boss = town.lab
    assert boss.sh("controller", "systemctl is-active consul nomad choir-join-server choir-join-apply.path").split() == ["active"] * 4
    assert boss.sh("controller", "stat -c '%a %U' /etc/consul.d/management_token") == "600 root"
    assert "controller" in boss.sh("controller", f"{HOME}/tools/inventory list controller_nodes")
    assert boss.sh("controller", f"stat -c %U {HOME}/inventory.yaml {HOME}/.bootstrap_state").split() == ["debian"] * 2


def test_what_only_looks_changes_nothing(boss):
    before = boss.sh("controller", PICTURE)
    text = bootstrap(boss, "controller", "--status").stdout
    assert re.search("role (controller|all)", text) and "finished" in text and re.search(r"^consul +active$", text, re.M), text
    assert "/etc/consul.d/management_token (root only)" in text and "choir-node" in text, text
    text = bootstrap(boss, "controller", "--role", "controller", "--dry-run").stdout
    assert "Nothing was done." in text and " join " in text
    assert "examples:" in bootstrap(boss, "controller", "-h").stdout
    done = bootstrap(boss, "controller", "--role", "worker", check=False)
    assert done.returncode == 2 and "--controller-ip" in done.stderr
    assert boss.sh("controller", PICTURE) == before


def test_a_second_run_changes_nothing(boss):
    before = boss.sh("controller", PICTURE)
    done = bootstrap(boss, "controller", "--role", "controller")
    assert [s for s in steps(done.stdout) if s[1] != "ok"] == []
    assert boss.sh("controller", PICTURE) == before
    assert boss.sh("controller", f"grep -c 'changed=[1-9]' {HOME}/.bootstrap.log || true") == "0"


# What a step calls that no step before it calls.
CALLS = {"check": ["dpkg"], "tools": ["dpkg-query", "apt-get"], "choir": ["sha256sum"], "join": ["install"]}


def breaks(boss, step):
    """Programs of that step fail, in a folder that is put in front of the path."""
    condition = f'case " $* " in *" --tags {step} "*) exit 9 ;; esac' if step not in CALLS else "exit 9"
    for program in CALLS.get(step, ["ansible-playbook"]):
        boss.sh("controller", f"mkdir -p /root/broken; printf '%s\\n' '#!/bin/bash' {shlex.quote(condition)} "
                              f"'PATH=${{PATH#*:}}; exec {program} \"$@\"' > /root/broken/{program}; chmod 755 /root/broken/{program}")
    if step == "inventory":
        boss.sh("controller", f"cp -p {HOME}/inventory.yaml /root/book && echo '  - broken: [' >> {HOME}/inventory.yaml")


def mends(boss):
    boss.sh("controller", f"rm -rf /root/broken; [ ! -f /root/book ] || {{ cp -p /root/book {HOME}/inventory.yaml; rm /root/book; }}")


def test_continue_after_a_failure_at_each_step(boss):
    """One pass in which each step fails once: --continue does that step and stops in the next."""
    planned = bootstrap(boss, "controller", "--role", "controller", "--dry-run").stdout.splitlines()
    names = [line.split()[1] for line in planned if line[:3].strip().isdigit()]
    assert len(names) > 8
    for position, step in enumerate(names):
        breaks(boss, step)
        words = ["--role", "controller"] if position == 0 else ["--continue"]
        try:
            done = bootstrap(boss, "controller", *words, path="/root/broken", check=False)
        finally:
            mends(boss)
        found = steps(done.stdout)
        assert done.returncode == 1 and found[-1] == (step, "FAILED"), done.stdout
        assert "--continue" in done.stdout and len(found) == position + 1
        assert f"done={step}" not in boss.sh("controller", f"cat {HOME}/.bootstrap_state").split()
    found = steps(bootstrap(boss, "controller", "--continue").stdout)
    assert found[:-1] == [(n, "done before") for n in names[:-1]] and found[-1] == (names[-1], "ok")


def test_continue_with_three_failures_in_a_short_run(boss):
    """The same with few steps, and the options of the first call are remembered."""
    for position, step in enumerate(("check", "choir", "consul")):
        breaks(boss, step)
        try:
            done = bootstrap(boss, "controller", *(["--tags", "consul", "--leave-services-running"] if position == 0 else ["--continue"]), path="/root/broken", check=False)
        finally:
            mends(boss)
        assert done.returncode == 1 and steps(done.stdout)[-1] == (step, "FAILED"), done.stdout
    done = bootstrap(boss, "controller", "--continue")
    assert steps(done.stdout) == [(n, "done before") for n in ("check", "tools", "inventory", "choir")] + [("consul", "ok")]
    assert "--leave-services-running" in done.stdout


def test_debug_writes_everything_to_its_file(boss):
    bootstrap(boss, "controller", "--tags", "preflight", "--debug")
    text = boss.sh("controller", f"cat {HOME}/playbook_output.log")
    assert "TASK [preflight : " in text and "EXEC /bin/sh" in text
    assert boss.sh("controller", f"stat -c %a {HOME}/playbook_output.log") == "600"
    bootstrap(boss, "controller", "--debug", "--continue")
    assert "TASK [preflight : " in boss.sh("controller", f"cat {HOME}/playbook_output.log.before_changes")


def test_another_user_and_a_password_that_is_asked_for_once(boss):
    done = bootstrap(boss, "controller", "--user", "debian", "--tags", "security", check=False)
    assert done.returncode == 1 and "may do everything as root without a password" in done.stdout, done.stdout
    boss.sh("controller", "mv /etc/sudoers.d/lab /root/lab-sudo && echo debian:open-sesame | chpasswd")
    try:
        code, said, asked = with_password(boss, "controller", "./bootstrap.sh --user debian --tags common,security", b"Password of debian", "open-sesame")
        assert code == 0 and asked == 1, said
        assert "owns /home/debian/choir" in said and "open-sesame" not in said  # who runs the agent could change what root runs
        assert boss.sh("controller", "stat -c %U /opt/debian; id -nG debian").split()[0] == "debian"
        assert boss.sh("controller", f"grep '^target_user:' {HOME}/group_vars/all.yaml") == "target_user: debian"
    finally:
        boss.sh("controller", f"mv /root/lab-sudo /etc/sudoers.d/lab; gpasswd -d debian choir; sed -i 's/^target_user:.*/target_user: pipecatapp/' {HOME}/group_vars/all.yaml")
    bootstrap(boss, "controller", "--tags", "common")
    assert boss.sh("controller", "stat -c %U /opt/pipecatapp") == "pipecatapp"


def test_docker_only_when_it_is_asked_for(boss):
    assert boss.sh("controller", "command -v dockerd || true") == ""
    done = bootstrap(boss, "controller", "--tags", "preflight", "--deploy-docker")
    assert ("docker", "ok") in steps(done.stdout), done.stdout
    assert boss.sh("controller", "systemctl is-enabled docker; docker version --format '{{.Server.Version}}'").split()[0] == "enabled"
    boss.sh("controller", "systemctl disable --now docker.service docker.socket; apt-get -q -y purge docker.io > /dev/null", timeout=300)


def test_nodes_without_an_agent_are_those_of_nomad(boss):
    said = boss.sh("controller", "choir nodes")
    assert re.search(r"^controller +alive +controller +10\.88\.0\.10", said, re.M) and "No agent answers" in said and "choir expert list" in said, said
    boss.sh("controller", "systemctl stop nomad")
    try:
        done = boss.call("exec", "controller", "choir", "nodes")
        assert done.returncode == 1 and "no Choir answers" in done.stderr
    finally:
        boss.sh("controller", "systemctl start nomad")
    wait_for("Nomad is back", 60, lambda: "controller" in boss.sh("controller", "choir nodes 2> /dev/null", check=False))


def test_purge_jobs_names_what_it_removes(boss):
    job = 'job "llama-benchmark" {\n type = "batch"\n group "g" {\n task "t" {\n driver = "raw_exec"\n config {\n command = "/bin/sleep"\n args = ["900"]\n }\n }\n }\n}\n'
    boss.sh("controller", f"printf '%s' {shlex.quote(job)} > /root/j.nomad")
    nomad(boss, "controller", "nomad job run -detach /root/j.nomad", check=True)
    done = bootstrap(boss, "controller", "--tags", "nomad", "--purge-jobs")
    assert "purged the job llama-benchmark" in done.stdout, done.stdout
    assert "llama-benchmark" not in nomad(boss, "controller", "nomad job status")


def test_uninstall_keeps_a_copy_and_leaves_nothing_running(boss):
    """And bootstrap.sh may make it anew: whoever needs the controller after this gets it so."""
    assert "Nothing was changed" in boss.call("exec", "controller", "bash", "-c", f"cd {HOME} && ./bootstrap.sh --uninstall", stdin="n\n").stdout
    done = bootstrap(boss, "controller", "--uninstall", "--yes")
    boss.sh("controller", "rm -f /root/first-run")
    assert "kept /var/backups/choir-" in done.stdout
    assert boss.sh("controller", "systemctl is-active consul nomad choir-join-server choir-depot || true").split() == ["inactive"] * 4
    assert traces(boss, "controller") == []
    assert "etc/consul.d/management_token" in boss.sh("controller", "tar tzf /var/backups/choir-*.tar.gz")


# --- one machine

@pytest.fixture(scope="module")
def solo(roots):  # pylint: disable=unused-argument
    """A small bare machine, with the packages and the models in their folders."""
    name, stays = lab_name("s")
    lab = TestLab(name)
    try:
        lab.up("solo", "--bare", "--memory", "1500")
        send(lab, "solo")
        yield lab
    finally:
        if not stays:
            lab.down()


def embedded(lab, *words, env=""):
    done = bootstrap(lab, "solo", "--role", "embedded", *words, env=env)
    assert [s for s in steps(done.stdout) if s[1] != "ok"] == [] and "http://127.0.0.1:8000" in done.stdout, done.stdout
    assert lab.sh("solo", "systemctl is-active choir; systemctl is-enabled choir").split() == ["active", "enabled"]
    assert lab.sh("solo", f"ls -d {HOME}/build ~debian/.cache/choir ~root/.cache/choir 2> /dev/null || true") == ""  # nothing was built or fetched
    return done.stdout


def test_embedded_on_a_small_machine(solo):
    said = embedded(solo)
    assert re.search(r"Set-up code \w{4}-\w{4}", said), said
    print(wait_for("an answer of the default model", 300, lambda: says(solo, "solo", "Say good morning.")))
    began = solo.sh("solo", "systemctl show -p ExecMainStartTimestampMonotonic choir")
    embedded(solo)
    assert solo.sh("solo", "systemctl show -p ExecMainStartTimestampMonotonic choir") == began, "a second run restarted it"
    assert solo.sh("solo", "sed -n 's/^oom_kill //p' /sys/fs/cgroup/memory/memory.oom_control 2> /dev/null", check=False) in ("", "0"), "memory ran out"


@pytest.fixture
def outside(solo):
    with model_server(solo) as written:
        yield written


def test_embedded_with_an_outside_model(solo, outside):
    said = embedded(solo, "--external-model-server", env="LLM_BASE_URL=http://10.88.0.1:8081/v1 LLM_MODEL=outside")
    assert "Set-up code" in said
    before = outside()
    print(wait_for("an answer from outside", 120, lambda: says(solo, "solo", "Say good morning.")))
    assert outside() > before, "the model server was not asked"
    assert solo.sh("solo", f"cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' ' ' | grep -c 'm[o]dels/{MODEL}' || true") == "0", "a language model runs here, too"


def test_embedded_goes_again(solo):
    bootstrap(solo, "solo", "--role", "embedded")
    done = bootstrap(solo, "solo", "--uninstall", "--yes")
    assert "kept /var/backups/choir-" in done.stdout, done.stdout
    assert solo.sh("solo", "systemctl is-active choir || true") == "inactive"
    left = solo.sh("solo", "ls -d /etc/choir /opt/pipecatapp /opt/nomad /usr/bin/choir /etc/systemd/system/choir.service /var/lib/choir 2> /dev/null; getent passwd pipecatapp; true")
    assert left == "", left
