"""bootstrap.sh without a word, to an answer; again, to nothing; with each option that a person may give; and every command of the
original README as it is typed (docs/names.md, "As typed"). ./test --full. The tests build on the first one, which any of them does when
it runs alone. By hand, keeping the node: CHOIR_FULL=1 CHOIR_LAB_KEEP=mine python -m pytest -s tests/cluster/test_one_machine.py -k typed"""
import json
import os
import re

import pytest

from checkout import CONTROLLER, HOME, MODEL, PICTURE, bootstrap, lab_name, model_server, nomad, says, send, steps, with_password
from conftest import TestLab, wait_for

pytestmark = pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="part of ./test --full")
JOBS = "curl -fsS http://127.0.0.1:4646/v1/jobs | tr '{' '\\n' | grep -o '\"JobModifyIndex\":[0-9]*' | sort"  # batch jobs too


@pytest.fixture(scope="module")
def bare(roots):  # pylint: disable=unused-argument
    name, stays = lab_name("o")
    lab = TestLab(name)
    try:
        lab.up("one", "--bare")
        send(lab, "one")
        yield lab
    finally:
        if not stays:
            lab.down()
            assert lab.left_over() == []


@pytest.fixture
def one(bare):
    """bootstrap.sh has run there."""
    if not bare.sh("one", "ls /opt/pipecatapp/choir.sock 2> /dev/null", check=False):
        bootstrap(bare, "one")
        wait_for("the agent answers", 300, lambda: says(bare, "one", "Say yes."))
    return bare


def typed(lab, command, timeout=600):
    """By the controller's root, in the copy of the checkout: exit code and everything that was printed."""
    done = lab.call("exec", "one", "bash", "-lc", f"cd {HOME} && PATH=$PATH:/srv/choir/bin && {command} 2>&1", timeout=timeout)
    return done.returncode, done.stdout


def test_all_on_one_machine_answers(bare):
    done = bootstrap(bare, "one")
    assert [s for s in steps(done.stdout) if s[1] != "ok"] == [] and steps(done.stdout)[-1][0] == "owner", done.stdout
    for word in (f"http://{CONTROLLER}:8000", "Set-up code", "/etc/consul.d/management_token", f"http://{CONTROLLER}:4646"):
        assert word in done.stdout, done.stdout
    print(wait_for("an answer of the default model", 300, lambda: says(bare, "one", "Say good morning.")))
    listed = bare.sh("one", "choir expert list; choir jobs")
    assert re.search(r"^main +ready", listed, re.M) and re.search(r"^pipecat-app +healthy", listed, re.M), listed
    page = bare.call("ctl", "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"https://{CONTROLLER}:8443/setup").stdout
    assert page == "200", page


def test_a_second_run_of_all_changes_nothing(one):
    before, jobs = one.sh("one", PICTURE), one.sh("one", JOBS)
    assert jobs
    done = bootstrap(one, "one")
    assert [s for s in steps(done.stdout) if s[1] != "ok"] == [], done.stdout
    assert one.sh("one", f"grep -n 'changed=[1-9]' {HOME}/.bootstrap.log; grep -n '^changed:' {HOME}/.bootstrap.log; true") == ""
    assert one.sh("one", PICTURE) == before and one.sh("one", JOBS) == jobs


# Commands of the original's README and of docs/names.md, as typed on the controller by its root, and a word of what they print.
TYPED = [
    ("nomad job run /opt/nomad/jobs/pipecatapp.nomad", "pipecat-app"),
    ("nomad job run /opt/nomad/jobs/llama-expert.nomad", "llama-expert"),
    ("nomad job stop -purge llamacpp-rpc", "llamacpp-rpc"),
    ("nomad job run /opt/nomad/jobs/llamacpp-rpc.nomad", "llamacpp-rpc"),
    ("nomad job run /opt/nomad/jobs/health-check.nomad", "health-check"),
    ("nomad job run /opt/nomad/jobs/benchmark.nomad", "llama-benchmark"),
    ("ansible-playbook heal_cluster.yaml", "failed=0"),
    ("ansible-playbook run_health_check.yaml", "failed=0"),
    ('ansible-playbook deploy_expert.yaml -e "job_name=creative-expert service_name=llama-api-creative namespace=experts '
     'model_list={{ creative_writing_models }} worker_count=1"', "failed=0"),
    ("ansible-playbook -i inventory.yaml playbook.yaml --tags preflight", "failed=0"),
    ("ansible-playbook status-check.yaml", "failed=0"),
    ("ansible-playbook e2e-tests.yaml", "failed=0"),
    ("choir health", "main"),
    ("choir nodes", "controller"),
    ("choir logs pipecat-app", ""),
    ("choir logs health-check", "Health Check Complete"),
    ("choir expert list", "ready"),
    ("curl -fsS http://127.0.0.1:8500/v1/status/leader", ":8300"),
    ("curl -fsS http://127.0.0.1:4646/v1/jobs", "pipecat-app"),
    ("curl -fsS http://127.0.0.1:8000/health", "ok"),
]


@pytest.mark.parametrize("command, says_so", TYPED, ids=[c[:60] for c, _ in TYPED])
def test_names_run_as_typed(one, command, says_so):
    code, said = typed(one, command)
    assert code == 0 and says_so in said, said[-3000:]


# testing/README.md: a script for each part. The last one has no sound card here, which it says with code 77.
PARTS = {"agent": 0, "speech": 0, "models": 0, "memory": 0, "tools": 0, "page": 0, "consul": 0, "nomad": 0, "experts": 0, "microphone": 77}


@pytest.mark.parametrize("part", PARTS)
def test_each_part_by_itself(one, part):
    code, said = typed(one, f"testing/{part} --state /opt/pipecatapp")
    assert code == PARTS[part], said[-3000:]


def test_the_playbook_as_the_original_tells_to_type_it(one):
    code, said, asked = with_password(one, "one", "ansible-playbook -i inventory.yaml playbook.yaml --ask-become-pass", b"BECOME password", "any")
    assert code == 0 and asked == 1 and re.search(r"changed=0 .*failed=0", said), said[-3000:]


def test_it_measures_itself_and_logs_everything_when_asked(one):
    """--benchmark and --home-assistant-debug; what was a choice for one run is no choice for the next."""
    typed(one, "nomad job stop -purge llama-benchmark; rm -f /var/log/llama_benchmarks.jsonl")
    done = bootstrap(one, "one", "--benchmark", "--home-assistant-debug")
    assert steps(done.stdout)[-1] == ("benchmark", "ok"), done.stdout
    assert "choir logs pipecat-app" in done.stdout
    line = json.loads(wait_for("a line of the job llama-benchmark", 240, lambda: one.sh("one", "tail -1 /var/log/llama_benchmarks.jsonl 2> /dev/null", check=False)))
    assert line["status"] == "success" and line["tokens_per_second"] > 0 and line["model"], line
    wait_for("the agent answers", 120, lambda: says(one, "one", "Say yes."))
    assert one.sh("one", "choir logs pipecat-app | grep -c ' DEBUG \\| debug ' || true") != "0"


def test_a_model_server_elsewhere_answers(one):
    """--external-model-server: nothing is fetched or built, and the answer comes from there."""
    with model_server(one) as written:
        done = bootstrap(one, "one", "--external-model-server", env="LLM_BASE_URL=http://10.88.0.1:8081/v1 LLM_MODEL=outside")
        assert [s for s in steps(done.stdout) if s[1] != "ok"] == [], done.stdout
        before = written()
        print(wait_for("an answer from outside", 120, lambda: says(one, "one", "Say good morning.")))
        assert written() > before, "the model server was not asked"
        assert one.sh("one", f"ps -u pipecatapp -o args= | grep -c 'm[o]dels/.*{MODEL}' || true") == "0", "the agent runs a language model of its own, too"
    bootstrap(one, "one")
    wait_for("an answer of its own model again", 300, lambda: says(one, "one", "Say good morning."))


def test_purged_jobs_come_back(one):
    """--purge-jobs stops and removes Choir's jobs, names them, and the roles start them again; what was said and learned stays."""
    one.sh("one", "choir memory add 'The kettle is called Gustav.' --state /opt/pipecatapp")
    done = bootstrap(one, "one", "--purge-jobs")
    for job in ("pipecat-app", "llama-expert"):
        assert f"purged the job {job}" in done.stdout, done.stdout
    wait_for("the agent answers", 300, lambda: says(one, "one", "Say yes."))
    assert "Gustav" in one.sh("one", "choir memory list --state /opt/pipecatapp")
    assert "main" in nomad(one, "one", "choir expert list")


def test_uninstall_with_purge_takes_everything(one):
    done = bootstrap(one, "one", "--uninstall", "--purge", "--yes")
    assert "models, history, memory, settings and tokens are removed" in done.stdout
    left = one.sh("one", "ls -d /etc/choir /etc/consul.d /etc/nomad.d /opt/nomad /opt/consul /opt/pipecatapp* /var/lib/choir* /usr/bin/choir 2> /dev/null; "
                         "ls /var/backups/choir-* 2> /dev/null; systemctl is-active consul nomad; true")
    assert left.split() == ["inactive", "inactive"], left
