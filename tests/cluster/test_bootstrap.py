"""bootstrap.sh on bare nodes, a role each: a controller, all, embedded, a model server elsewhere; a failure injected at every
step; a second run that changes nothing. ./test --full. Each test runs alone, too: what it stands on is made then. By hand,
keeping the nodes: CHOIR_FULL=1 CHOIR_LAB_KEEP=mine python -m pytest -s tests/cluster/test_bootstrap.py -k continue"""
import os
import pathlib
import re
import shlex
import subprocess
import time

import pytest

from checkout import CONTROLLER, HOME, bootstrap, lab_name, nomad, send, steps
from conftest import ROOT, TestLab, wait_for

pytestmark = pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="part of ./test --full")
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"

# What must not move when bootstrap.sh runs again: configuration, units, tokens, the time since the services started.
PICTURE = """
for f in /etc/consul.d/* /etc/nomad.d/* /etc/choir/tokens/* /etc/systemd/system/choir-* /etc/systemd/system/{consul,nomad}.service \
         /home/debian/choir/inventory.yaml /home/debian/choir/group_vars/all.yaml; do
  [ ! -f "$f" ] || stat -c '%n %i %Y %s %a %U' "$f"
done
systemctl show -p ExecMainStartTimestampMonotonic consul nomad choir-join-server choir-depot
"""
ANSWER = re.compile(r"[A-Za-z]{2}")


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


def with_password(lab, node, command, prompt, password):
    """As somebody who logs in by SSH and has to type the password: what was printed, and how often it was asked for."""
    with subprocess.Popen([str(ROOT / "tests/cluster/lab"), "ssh", node, "-tt", f"cd {HOME} && {command}"], env=lab.env, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        said, asked, end = b"", 0, time.monotonic() + 600
        while chunk := os.read(child.stdout.fileno(), 4096):
            assert time.monotonic() < end, said
            said += chunk
            if said.count(prompt) > asked:
                asked += 1
                child.stdin.write(password.encode() + b"\n")
                child.stdin.flush()
        return child.wait(), said.decode(errors="replace"), asked


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
    assert boss.sh("controller", "ls /etc/systemd/system | grep -E '^(choir|consul|nomad)' || true") == ""
    assert boss.sh("controller", "ls -d /etc/choir /etc/consul.d /etc/nomad.d /var/lib/choir-join* 2> /dev/null || true") == ""
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


def says(lab, node, text, state="/opt/pipecatapp"):
    done = lab.call("exec", node, "choir", "chat", "--once", text, "--url", f"unix:{state}/choir.sock", timeout=300)
    return done.stdout if done.returncode == 0 and ANSWER.search(done.stdout) else None


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
def model_server(solo):
    """A real llama-server outside of the node, at the lab's control side; and what it was asked."""
    server = CACHE / "engine/11434/bin/llama-server"
    log = f"/tmp/{solo.name}-llama.log"
    with open(log, "w", encoding="utf-8") as output:
        child = solo.start("ctl", str(server), "-m", str(CACHE / "models" / MODEL), "--host", "10.88.0.1", "--port", "8081", "-c", "4096", "-t", "1", "--alias", "outside",
                           "--metrics", stdout=output, stderr=output)
    try:
        wait_for("the model server", 120, lambda: solo.call("ctl", "curl", "-fsS", "http://10.88.0.1:8081/health").returncode == 0)
        yield lambda: float(re.search(r"^llamacpp:tokens_predicted_total (\S+)", solo.call("ctl", "curl", "-fsS", "http://10.88.0.1:8081/metrics").stdout, re.M)[1])
    finally:
        child.terminate()
        child.wait(30)


def test_embedded_with_an_outside_model(solo, model_server):
    said = embedded(solo, "--external-model-server", env="LLM_BASE_URL=http://10.88.0.1:8081/v1 LLM_MODEL=outside")
    assert "Set-up code" in said
    before = model_server()
    print(wait_for("an answer from outside", 120, lambda: says(solo, "solo", "Say good morning.")))
    assert model_server() > before, "the model server was not asked"
    assert solo.sh("solo", f"cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' ' ' | grep -c 'm[o]dels/{MODEL}' || true") == "0", "a language model runs here, too"


def test_embedded_goes_again(solo):
    bootstrap(solo, "solo", "--role", "embedded")
    done = bootstrap(solo, "solo", "--uninstall", "--yes")
    assert "kept /var/backups/choir-" in done.stdout, done.stdout
    assert solo.sh("solo", "systemctl is-active choir || true") == "inactive"
    left = solo.sh("solo", "ls -d /etc/choir /opt/pipecatapp /opt/nomad /usr/bin/choir /etc/systemd/system/choir.service /var/lib/choir 2> /dev/null; getent passwd pipecatapp; true")
    assert left == "", left


# --- everything on one machine

@pytest.fixture(scope="module")
def alone(roots):  # pylint: disable=unused-argument
    name, stays = lab_name("o")
    lab = TestLab(name)
    try:
        lab.up("one", "--bare")
        send(lab, "one")
        yield lab
    finally:
        if not stays:
            lab.down()


def test_all_on_one_machine_answers(alone):
    done = bootstrap(alone, "one")
    assert [s for s in steps(done.stdout) if s[1] != "ok"] == [] and steps(done.stdout)[-1][0] == "owner", done.stdout
    for word in (f"http://{CONTROLLER}:8000", "Set-up code", "/etc/consul.d/management_token", f"http://{CONTROLLER}:4646"):
        assert word in done.stdout, done.stdout
    print(wait_for("an answer of the default model", 300, lambda: says(alone, "one", "Say good morning.")))
    listed = alone.sh("one", "choir expert list; choir jobs")
    assert re.search(r"^main +ready", listed, re.M) and re.search(r"^pipecat-app +healthy", listed, re.M), listed
    page = alone.call("ctl", "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"https://{CONTROLLER}:8443/setup").stdout
    assert page == "200", page


# Commands of the original's README and of docs/names.md, as typed on the controller by its root.
TYPED = [
    ("nomad job run /opt/nomad/jobs/benchmark.nomad", "llama-benchmark"),
    ("nomad job run /opt/nomad/jobs/llama-expert.nomad", "llama-expert"),
    ("nomad job stop -purge llamacpp-rpc", "llamacpp-rpc"),
    ("nomad job run /opt/nomad/jobs/llamacpp-rpc.nomad", "llamacpp-rpc"),
    ("ansible-playbook heal_cluster.yaml", "failed=0"),
    ("ansible-playbook run_health_check.yaml", "failed=0"),
    ("ansible-playbook -i inventory.yaml playbook.yaml --tags preflight", "failed=0"),
    ("ansible-playbook status-check.yaml", "failed=0"),
    ("choir health", "main"),
    ("choir logs pipecat-app", ""),
    ("choir expert list", "ready"),
    ("curl -fsS http://127.0.0.1:8500/v1/status/leader", ":8300"),
    ("curl -fsS http://127.0.0.1:4646/v1/jobs", "pipecat-app"),
    ("curl -fsS http://127.0.0.1:8000/health", "ok"),
]


@pytest.mark.parametrize("command, says_so", TYPED, ids=[c for c, _ in TYPED])
def test_names_run_as_typed(alone, command, says_so):
    if not alone.sh("one", "ls /opt/pipecatapp/choir.sock 2> /dev/null", check=False):
        bootstrap(alone, "one")
    done = alone.call("exec", "one", "bash", "-lc", f"cd {HOME} && PATH=$PATH:/srv/choir/bin && {command} 2>&1", timeout=600)
    assert done.returncode == 0 and says_so in done.stdout, done.stdout[-3000:]


def test_the_playbook_as_the_original_tells_to_type_it(alone):
    if not alone.sh("one", "ls /opt/pipecatapp/choir.sock 2> /dev/null", check=False):
        bootstrap(alone, "one")
    code, said, asked = with_password(alone, "one", "ansible-playbook -i inventory.yaml playbook.yaml --ask-become-pass --tags preflight,common,consul", b"BECOME password", "any")
    assert code == 0 and asked == 1 and "changed=0" in said and "failed=0" in said, said[-3000:]
