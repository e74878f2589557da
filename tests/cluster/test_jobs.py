"""The jobs and the commands that drive them, against one real Nomad and one real Consul in a network namespace.

The nodes of the lab are for what needs several machines; here whatever one agent shows is shown in seconds. Jobs run as
root and on loopback, so users, keys and tokens are the lab's matter.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from waiting import wait_for

jinja2 = pytest.importorskip("jinja2")

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CHOIR_BUILD", ROOT / "build"))
CHOIR = BUILD / "choir"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir"
JOBS = ROOT / "ansible/jobs"
LIGHT = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAMES = sorted(p.name.removesuffix(".nomad.j2") for p in JOBS.glob("*.nomad.j2") if p.name != "keep-logs.nomad.j2")


def names_of(path):
    """A flat YAML file, read without a YAML parser."""
    pairs = (line.split(": ", 1) for line in path.read_text(encoding="utf-8").splitlines() if line[:1].isalpha() and ": " in line)
    return {key: json.loads(value) for key, value in pairs if re.fullmatch(r'".*"|[0-9]+', value)}


def variables(folder, **more):
    return {**names_of(ROOT / "group_vars/names.yaml"), "cluster_datacenter": "dc1", "llama_user": "root", "target_user": "root",
            "nomad_models_dir": str(folder / "models"), "nomad_jobs_dir": str(folder / "jobs"), "choir_program": str(CHOIR),
            "choir_engine_dir": str(CACHE / "engine/11434"), "expert_memory_mb": 320, "embedding_count": 0, "stt_count": 0, "tts_count": 0,
            "stt_memory_mb": 300, "tts_memory_mb": 300, "pipecatapp_tls_port": 8443, "pipecatapp_memory_mb": 900, "pipecatapp_prefers": "worker", "pipecatapp_hosts": ["127.0.0.1", "localhost"],
            "pipecatapp_lan": False, "pipecatapp_benchmark_mode": False, "pipecatapp_stt_service": "auto", "pipecatapp_tts_service": "auto",
            "pipecatapp_llm_base_url": "", "pipecatapp_llm_model": "", "wyoming_allow": ["10.0.0.0/24"], "consul_connect": False,
            "hashicorp_bin_dir": str(CACHE / "cluster/bin"), "experts": [{"name": "main"}, {"name": "coding"}], **more}


def render(folder, **more):
    """As Ansible's template module does."""
    house = jinja2.Environment(loader=jinja2.FileSystemLoader(JOBS), trim_blocks=True, undefined=jinja2.StrictUndefined)
    house.filters["bool"] = bool
    target = folder / "jobs"
    target.mkdir(exist_ok=True)
    for name in NAMES:
        text = house.get_template(f"{name}.nomad.j2").render(variables(folder, **more))
        # What needs an installation: tokens and keys in /etc.
        text = re.sub(r', *"--consul-token-file", "[^"]*"', "", text)
        text = re.sub(r'\n *"--consul-token-file", "[^"]*",', "", text)
        text = re.sub(r'(CONSUL_HTTP_TOKEN_FILE +=) ".*"', r'\1 ""', text)
        text = re.sub(r'\n *"-token-file=[^"]*",', "", text)
        text = re.sub(r'\n *"--set", "experts.key_file=[^"]*",', "", text).replace('"/opt/root', f'"{folder}/agent')
        (target / f"{name}.nomad").write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    return target


class Dev:
    """consul agent -dev and nomad agent -dev."""

    def __init__(self, folder):
        self.folder, self.space, self.started = folder, f"choir-jobs-{os.getpid()}", []
        self.bins = CACHE / "cluster/bin"
        self.env = {k: v for k, v in os.environ.items() if not re.match(r"AWS_CA_BUNDLE|NOMAD_|CONSUL_|CHOIR_(URL|EXPERT|MODEL)|.*_proxy$", k, re.I)}
        self.env |= {"CHOIR_MODELS": str(folder / "models"), "CHOIR_ENGINE": str(CACHE / "engine/11434"), "HOME": str(folder), "TMPDIR": str(folder),
                     "CHOIR_MODEL_LIST": str(ROOT / "group_vars/models.yaml"), "XDG_CACHE_HOME": str(CACHE.parent)}

    def start(self):
        subprocess.run(["ip", "netns", "add", self.space], check=True)
        self.inside(["ip", "link", "set", "lo", "up"], check=True)
        models = self.folder / "models"
        models.mkdir()
        (models / LIGHT).symlink_to(CACHE / "models" / LIGHT)
        (models / "all-MiniLM-L6-v2.Q8_0.gguf").symlink_to(CACHE / "models/all-MiniLM-L6-v2.Q8_0.gguf")
        (models / "broken.gguf").write_bytes(b"GGUF" + bytes(2000))
        config = self.folder / "nomad.hcl"
        config.write_text('plugin "raw_exec" {\n  config {\n    enabled = true\n  }\n}\nclient {\n  options {\n    "fingerprint.denylist" = "env_aws,env_gce,env_azure"\n  }\n'
                          '  meta {\n    choir_cpu = "avx2"\n    choir_gbps = "10.0"\n    choir_gmacs = "20"\n    choir_ram_mb = "8000"\n  }\n}\n', encoding="utf-8")
        self.agent("consul", "agent", "-dev", "-node=dev")
        self.agent("nomad", "agent", "-dev", "-node=dev", f"-config={config}", f"-data-dir={self.folder / 'nomad'}")
        self.wait("the agents", 60, lambda: self.get(4646, "/v1/nodes")[0]["Status"] == "ready" and ":" in self.get(8500, "/v1/status/leader"))
        return self

    def agent(self, name, *words):
        log = open(self.folder / f"{name}.log", "wb")
        self.started.append(subprocess.Popen(["ip", "netns", "exec", self.space, self.bins / name, *words], env=self.env, stdout=log, stderr=log,
                                             stdin=subprocess.DEVNULL, start_new_session=True))
        log.close()

    def inside(self, words, **options):
        return subprocess.run(["ip", "netns", "exec", self.space, *map(str, words)], env={**self.env, **options.pop("env", {})}, capture_output=True,
                              text=True, timeout=options.pop("timeout", 120), check=options.pop("check", False), **options)

    def choir(self, *words, code=0, **options):
        done = self.inside([CHOIR, *words], **options)
        assert done.returncode == code, f"choir {' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def get(self, port, path, method="GET", body=None):
        words = ["curl", "-sS", "--fail-with-body", "-m", "20", "-X", method, f"http://127.0.0.1:{port}{path}"] + (["-d", json.dumps(body)] if body is not None else [])
        return json.loads(self.inside(words, check=True).stdout or "null")

    def allocs(self, job, space="default"):
        return sorted(self.get(4646, f"/v1/job/{job}/allocations?namespace={space}"), key=lambda a: a["CreateIndex"])

    def scale(self, job, group, count):
        self.get(4646, f"/v1/job/{job}/scale", "POST", {"Count": count, "Target": {"Group": group}})

    def passing(self, service):
        return self.get(8500, f"/v1/health/service/{service}?passing=1")

    wait = staticmethod(wait_for)

    def stop(self):
        for job in self.get(4646, "/v1/jobs?namespace=*") if self.started else []:
            if not job["Stop"]:
                self.get(4646, f"/v1/job/{urllib.request.quote(job['ID'], safe='')}?purge=true&namespace={job['Namespace']}", "DELETE")
        end = time.monotonic() + 30
        while self.tasks() and time.monotonic() < end:
            time.sleep(0.2)
        for process in reversed(self.started):
            process.send_signal(signal.SIGINT)
        for process in self.started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self.tasks():  # by id, and only what runs in our own namespace
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.space], check=False)

    def tasks(self):
        agents = {p.pid for p in self.started}
        found = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True, check=False).stdout.split()
        return [int(p) for p in found if int(p) not in agents]


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    if shutil.which("ip") is None or not (CACHE / "cluster/bin/nomad").exists():
        pytest.skip("no Nomad: tools/get-cluster-bins could not make it")
    cluster = Dev(tmp_path_factory.mktemp("dev"))
    try:
        cluster.start()
        render(cluster.folder)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def expert(dev):
    """The expert main, submitted as a person would."""
    dev.choir("jobs", "submit", dev.folder / "jobs/llama-expert.nomad", "--wait", "120", timeout=180)
    return dev


# ---- the files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_rendered_job_is_valid_and_formatted(dev, name):
    path = dev.folder / f"jobs/{name}.nomad"
    done = dev.inside([dev.bins / "nomad", "job", "validate", path])
    assert done.returncode == 0 and "warning" not in done.stdout.lower(), done.stdout + done.stderr
    text = path.read_text(encoding="utf-8")
    done = dev.inside([dev.bins / "nomad", "fmt", "-"], input=text)
    assert done.returncode == 0 and done.stdout.splitlines() == text.splitlines(), done.stderr
    assert dev.inside([dev.bins / "nomad", "fmt", "-check", path]).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_no_job_asks_for_more_than_the_smallest_node_has(dev, name):
    """1.5 GB, of which Nomad leaves 300 MB to the system."""
    job = dev.get(4646, "/v1/jobs/parse", "POST", {"JobHCL": (dev.folder / f"jobs/{name}.nomad").read_text(), "Canonicalize": True})
    for group in job["TaskGroups"]:
        tasks = group["Tasks"]
        assert max(sum(t["Resources"]["MemoryMB"] for t in tasks if not t["Lifecycle"]),
                   *(t["Resources"]["MemoryMB"] for t in tasks if t["Lifecycle"]), 0) <= 1200


@pytest.mark.parametrize("name", NAMES)
def test_what_serves_can_be_scaled_at_any_time(dev, name):
    job = dev.get(4646, "/v1/jobs/parse", "POST", {"JobHCL": (dev.folder / f"jobs/{name}.nomad").read_text(), "Canonicalize": True})
    if job["Type"] == "service":
        assert job["Update"]["MaxParallel"] == 0


# ---- an expert --------------------------------------------------------------------------------------------------------


def test_an_expert_registers_itself_and_answers(expert):
    entry, = expert.passing("llama-api-main")
    assert f"model={LIGHT.removesuffix('.Q4_1.gguf')}" in entry["Service"]["Tags"] and "ctx=4096" in entry["Service"]["Tags"]
    assert "fallback" not in entry["Service"]["Tags"]
    alloc, = [a for a in expert.allocs("llama-expert") if a["ClientStatus"] == "running"]
    assert entry["Service"]["ID"] == f"choir-expert-{alloc['ID']}"
    rows = json.loads(expert.choir("expert", "list", "--json").stdout)
    assert [(r["name"], r["passing"]) for r in rows] == [("main", True)]


def test_submitting_again_changes_nothing(expert):
    before = expert.get(4646, "/v1/job/llama-expert")["Version"]
    assert "unchanged" in expert.choir("jobs", "submit", expert.folder / "jobs/llama-expert.nomad").stdout
    assert expert.get(4646, "/v1/job/llama-expert")["Version"] == before


def test_health_asks_a_real_question(expert):
    text = expert.choir("health").stdout
    lines = text.splitlines()
    assert lines[0] == "--- Starting Cluster-Wide LLM Health Check ---" and lines[-1] == "--- Health Check Complete ---"
    assert "--- Checking service: llama-api-main ---" in lines and "PASSED for llama-api-main" in text
    answer = json.loads(expert.choir("health", "--json").stdout)
    assert answer["healthy"] and answer["expected"] == answer["found"] == 1 and len(answer["experts"][0]["answer"]) > 3


def test_health_is_red_when_experts_are_missing(expert):
    assert "2 expected" in expert.choir("health", "--expect", "2", code=1).stdout


def test_the_health_job_prints_the_lines_and_its_logs_outlive_it(expert):
    path = expert.folder / "jobs/health-check.nomad"
    expert.choir("jobs", "submit", path, "--wait", "90", timeout=120)
    expert.choir("jobs", "submit", path, "--wait", "90", timeout=120)  # a second run is a run
    assert len(expert.allocs("health-check")) == 2
    said = expert.choir("logs", "health-check").stdout
    assert "PASSED for llama-api-main" in said and "--- Health Check Complete ---" in said
    kept = "/v1/kv/choir/logs/default/health-check?raw=1"
    last = expert.allocs("health-check")[-1]["ID"]
    expert.wait("the kept logs", 30, lambda: expert.get(8500, kept)["alloc"] == last)
    expert.get(4646, "/v1/job/health-check?purge=true", "DELETE")
    expert.get(4646, "/v1/system/gc", "PUT")
    expert.wait("the end of the job", 30, lambda: "health-check" not in [j["ID"] for j in expert.get(4646, "/v1/jobs")])
    done = expert.choir("logs", "health-check")
    assert "PASSED for llama-api-main" in done.stdout and "does not know" in done.stderr
    assert "kept nothing" in expert.choir("logs", "nobody", code=1).stderr


def test_sleep_and_wake_straight_after_one_another(expert):
    for _ in range(3):
        expert.scale("llama-expert", "expert", 0)
        expert.scale("llama-expert", "expert", 1)
    expert.scale("llama-expert", "expert", 0)
    expert.wait("gone from Consul", 30, lambda: expert.get(8500, "/v1/health/service/llama-api-main") == [])
    answer = json.loads(expert.choir("health", "--json").stdout)
    assert answer["healthy"] and answer["asleep"] == ["main"] and answer["found"] == 0
    # Neither a new submission nor healing wakes what sleeps.
    assert "unchanged" in expert.choir("jobs", "submit", expert.folder / "jobs/llama-expert.nomad").stdout
    healed = json.loads(expert.choir("jobs", "heal", "--json").stdout)
    assert healed["healed"] == 0 and {"sleeping"} == {j["done"] for j in healed["jobs"] if j["job"] == "llama-expert"}
    expert.scale("llama-expert", "expert", 1)
    expert.wait("back in Consul", 60, lambda: len(expert.passing("llama-api-main")) == 1)


def server_of(expert):
    """Pid of the llama-server of the running allocation: the tree below its executor."""
    alloc, = [a for a in expert.allocs("llama-expert") if a["ClientStatus"] == "running"]
    for pid in expert.tasks():
        try:
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
            name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if name == "llama-server" and f"NOMAD_ALLOC_ID={alloc['ID']}".encode() in environment:
            return pid
    return None


def test_a_killed_server_comes_back(expert):
    expert.wait("the server", 60, lambda: len(expert.passing("llama-api-main")) == 1 and server_of(expert))
    victim = server_of(expert)
    os.kill(victim, signal.SIGKILL)
    expert.wait("another one", 60, lambda: server_of(expert) not in (None, victim) and len(expert.passing("llama-api-main")) == 1)


def test_a_hung_server_is_healed(expert):
    """Stopped, not dead: Nomad sees it run, Consul's check fails, and healing restarts it."""
    victim = expert.wait("the server", 60, lambda: len(expert.passing("llama-api-main")) == 1 and server_of(expert))
    os.kill(victim, signal.SIGSTOP)
    expert.wait("a failing check", 60, lambda: expert.get(8500, "/v1/health/state/critical"))
    healed = json.loads(expert.choir("jobs", "heal", "--json", "--wait", "90", timeout=150).stdout)
    assert healed["healed"] == 1 and healed["failed"] == 0, healed
    assert [j["done"] for j in healed["jobs"] if j["job"] == "llama-expert"] == ["healed"]
    assert len(expert.passing("llama-api-main")) == 1
    assert server_of(expert) != victim


def test_logs_follow(expert):
    follower = subprocess.Popen(["ip", "netns", "exec", expert.space, str(CHOIR), "logs", "llama-expert", "-f"], env=expert.env,
                                stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        os.set_blocking(follower.stdout.fileno(), False)
        text = ""

        def serves():
            nonlocal text
            text += follower.stdout.read() or ""
            return "llama-api-main serves SmolLM2-135M-Instruct" in text

        expert.wait("what it wrote", 30, serves)
        assert follower.poll() is None
    finally:
        follower.terminate()
        follower.wait(10)


# ---- deploy -----------------------------------------------------------------------------------------------------------


def test_deploy_falls_back_and_says_so(dev):
    models = json.dumps([{"name": "broken", "filename": "broken.gguf", "memory_mb": 350}, {"name": "absent", "filename": "absent.gguf", "memory_mb": 400}])
    dev.choir("expert", "deploy", "coding", "--namespace", "experts", "--models", models, "--file", dev.folder / "jobs/llama-expert.nomad",
              "--save", dev.folder / "jobs/llama-expert-coding.nomad", "--wait", "120", timeout=180)
    entry, = dev.passing("llama-api-coding")
    assert "fallback" in entry["Service"]["Tags"] and "model=SmolLM2-135M-Instruct" in entry["Service"]["Tags"]
    assert "broken" in entry["Service"]["Meta"]["why"] and "absent is not on this node" in entry["Service"]["Meta"]["why"]
    assert "experts" in [n["Name"] for n in dev.get(4646, "/v1/namespaces")]
    assert "light model" in dev.choir("expert", "list").stdout
    again = dev.choir("expert", "deploy", "coding", "--namespace", "experts", "--models", models, "--file", dev.folder / "jobs/llama-expert.nomad", "--json")
    assert json.loads(again.stdout)["changed"] is False
    # The saved file alone is the same job.
    assert "unchanged" in dev.choir("jobs", "submit", dev.folder / "jobs/llama-expert-coding.nomad").stdout
    dev.get(4646, "/v1/job/llama-expert-coding?purge=true&namespace=experts", "DELETE")


@pytest.mark.parametrize("words, said", [
    (["deploy"], "needs the expert's name"),
    (["deploy", "a b"], "letters"),
    (["deploy", "x", "--service", "creative"], "llama-api-"),
    (["deploy", "x", "--count", "-1"], "range"),
    (["start", "--port", "99999"], "range"),
    (["start", "--rpc-service", "x"], "go together"),
    (["nothing"], "there is no 'nothing'"),
    (["batch"], "needs --model"),
])
def test_wrong_usage_is_one_sentence(dev, words, said):
    done = dev.choir("expert", *words, code=2)
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_deploy_refuses_a_bad_list_and_too_much_memory(dev):
    file = ["--file", dev.folder / "jobs/llama-expert.nomad"]
    assert "list of models must be JSON" in dev.choir("expert", "deploy", "x", "--models", "{", *file, code=1).stderr
    assert "without folders" in dev.choir("expert", "deploy", "x", "--models", '[{"filename": "../x"}]', *file, code=1).stderr
    assert "more than any node has" in dev.choir("expert", "deploy", "x", "--memory-mb", "999999", *file, code=1).stderr


def test_plan(dev):
    row, = json.loads(dev.choir("expert", "plan", "--json").stdout)
    assert row["node"] == "dev" and row["cpu"] == "avx2" and row["gb_s"] == 10.0 and row["ram_mb"] <= 8000
    assert row["model"] == "Qwen2.5-3B-Instruct" and 4 < row["tokens_per_second"] < 6  # 10 GB/s over 2.1 GB
    text = dev.choir("expert", "deploy", "coding", "--dry-run", "--file", dev.folder / "jobs/llama-expert.nomad").stdout
    assert "best model that fits" in text and "1 replica(s)" in text
    assert "llama-expert-coding" not in [j["ID"] for j in dev.get(4646, "/v1/jobs")]


# ---- batch jobs -------------------------------------------------------------------------------------------------------


def test_benchmark_writes_lines_and_the_plan_knows_them(dev):
    output = dev.folder / "bench.jsonl"
    text = (dev.folder / "jobs/benchmark.nomad").read_text().replace("/var/log/llama_benchmarks.jsonl", str(output))
    text = text.replace('"expert", "bench",', '"expert", "bench", "--prompt", "4", "--tokens", "4", "--repeat", "1",')
    path = dev.folder / "jobs/benchmark-here.nomad"
    path.write_text(text, encoding="utf-8")
    dev.choir("jobs", "submit", path, "--wait", "300", timeout=360, code=1)  # broken.gguf fails, and that is said
    rows = {row["model"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert rows[LIGHT]["status"] == "success" and rows[LIGHT]["tokens_per_second"] > 0 and rows[LIGHT]["rc"] == 0
    assert rows["broken.gguf"]["status"] == "failed" and rows["broken.gguf"]["rc"] != 0
    assert {"timestamp", "stdout", "stderr"} <= rows[LIGHT].keys()
    models = json.dumps([{"filename": LIGHT, "memory_mb": 320}])
    row, = json.loads(dev.choir("expert", "plan", "--json", env={"CHOIR_EXPERT_MODELS": models}).stdout)
    assert row["from"] == "benchmark" and row["tokens_per_second"] == pytest.approx(rows[LIGHT]["tokens_per_second"], abs=0.01)


def test_batch_answers_a_dispatched_prompt(dev):
    dev.choir("jobs", "submit", dev.folder / "jobs/llamacpp-batch.nomad")
    sent = dev.get(4646, "/v1/job/llamacpp-batch/dispatch", "POST", {"Meta": {"model_name": "SmolLM2-135M-Instruct", "prompt": "Name three birds.", "max_tokens": "20"}})
    dev.wait("its end", 300, lambda: dev.allocs(urllib.request.quote(sent["DispatchedJobID"], safe=""))[0]["ClientStatus"] in ("complete", "failed"))
    assert len(dev.choir("logs", "llamacpp-batch", "--lines", "50").stdout.strip()) > 10
    states = {j["job"]: j["status"] for j in json.loads(dev.choir("jobs", "--json").stdout)}
    assert states["llamacpp-batch"] == "on demand"


def test_embeddings_are_served_when_waked(dev):
    dev.choir("jobs", "submit", dev.folder / "jobs/embedding.nomad")
    assert dev.passing("llama-embedding") == []
    dev.scale("embedding", "embedding", 1)
    entry, = dev.wait("the service", 60, lambda: dev.passing("llama-embedding"))
    vector = dev.get(entry["Service"]["Port"], "/v1/embeddings", "POST", {"input": "hello"})["data"][0]["embedding"]
    assert len(vector) == 384
    dev.get(4646, "/v1/job/embedding?purge=true", "DELETE")


# ---- healing ----------------------------------------------------------------------------------------------------------

LOOP = """job "{name}" {{
  type = "service"
  update {{
    max_parallel = 0
  }}
  group "g" {{
    count = 1
    restart {{
      attempts = 0
      mode     = "fail"
    }}
    reschedule {{
      attempts       = 1
      interval       = "24h"
      delay          = "5s"
      delay_function = "constant"
      unlimited      = false
    }}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sh"
        args    = ["-c", "test -e {flag} && exec sleep 600; echo no flag; exit 3"]
      }}
      resources {{
        memory = {memory}
      }}
    }}
  }}
}}
"""


def test_heal_starts_what_is_dead_and_touches_nothing_else(dev):
    flag, path = dev.folder / "flag", dev.folder / "jobs/dead.nomad"
    path.write_text(LOOP.format(name="dead", flag=flag, memory=32), encoding="utf-8")
    dev.choir("jobs", "submit", path, "--wait", "0")

    def ended(count):
        states = [a["ClientStatus"] for a in dev.allocs("dead")]
        return len(states) >= count and set(states) == {"failed"}

    dev.wait("it has failed twice and Nomad gave up", 60, lambda: ended(2))
    done = dev.choir("jobs", "submit", path, "--wait", "1", code=1)
    assert "0 of 1 run: Exit Code: 3" in done.stderr
    healthy = [a["ID"] for job in dev.get(4646, "/v1/jobs") for a in dev.allocs(urllib.request.quote(job["ID"], safe="")) if a["ClientStatus"] == "running"]
    done = dev.choir("jobs", "heal", "--dry-run")
    assert re.search(r"^dead +would be healed", done.stdout, re.M)
    done = dev.choir("jobs", "heal", "--wait", "6", code=1)
    assert re.search(r"^dead +not healed: .*Exit Code: 3", done.stdout, re.M)
    dev.wait("the new one has failed, too", 60, lambda: ended(3))
    flag.touch()
    done = dev.choir("jobs", "heal", "--wait", "60", timeout=120)
    assert re.search(r"^dead +healed", done.stdout, re.M)
    assert set(healthy) <= {a["ID"] for job in dev.get(4646, "/v1/jobs") for a in dev.allocs(urllib.request.quote(job["ID"], safe="")) if a["ClientStatus"] == "running"}
    before = [j["JobModifyIndex"] for j in dev.get(4646, "/v1/jobs")]
    assert json.loads(dev.choir("jobs", "heal", "--json").stdout)["healed"] == 0
    assert before == [j["JobModifyIndex"] for j in dev.get(4646, "/v1/jobs")]
    dev.get(4646, "/v1/job/dead?purge=true", "DELETE")
    # A purged job of a file comes back.
    done = dev.choir("jobs", "heal", path, timeout=90)
    assert re.search(r"^dead +submitted", done.stdout, re.M)
    dev.get(4646, "/v1/job/dead?purge=true", "DELETE")


def test_what_fits_nowhere_says_why(dev):
    path = dev.folder / "jobs/huge.nomad"
    path.write_text(LOOP.format(name="huge", flag="/", memory=9999999), encoding="utf-8")
    done = dev.choir("jobs", "submit", path, "--wait", "3", code=1)
    assert "memory is used up" in done.stderr
    dev.get(4646, "/v1/job/huge?purge=true", "DELETE")


def test_without_nomad_and_consul_it_is_one_sentence(dev):
    for words in (["jobs"], ["health"], ["expert", "list"], ["expert", "plan"]):
        done = dev.choir(*words, code=1, env={"NOMAD_ADDR": "127.0.0.1:9", "CONSUL_HTTP_ADDR": "127.0.0.1:9"})
        assert "answers at http://127.0.0.1:9" in done.stderr and done.stderr.count("\n") == 1


# ---- the agent and its forwarder --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent(dev):
    dev.choir("jobs", "submit", dev.folder / "jobs/pipecatapp.nomad", "--var", "benchmark_mode=true", "--var", "stt_service=pocketsphinx",
              "--var", "tts_service=flite", "--wait", "0")
    forward = subprocess.Popen(["ip", "netns", "exec", dev.space, str(CHOIR), "forward", "--port", "8000"], env=dev.env, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, start_new_session=True)
    dev.wait("the agent", 120, lambda: dev.passing("pipecat-app"))
    yield dev
    forward.terminate()
    forward.wait(10)


def test_every_node_forwards_to_the_agent(agent):
    status = agent.get(8000, "/api/status")
    assert status["engines"]["stt"]["engine"] in ("pocketsphinx", "none", "") or "pocketsphinx" in json.dumps(status["engines"])
    entry, = agent.passing("pipecat-app")
    assert entry["Service"]["Port"] != 8000 and agent.get(8000, "/health") == {"status": "ok"}


def test_the_latency_block_is_in_its_log(agent):
    agent.get(8000, "/internal/chat/sync", "POST", {"text": "Say yes.", "request_id": "b1"})
    said = agent.wait("the block", 30, lambda: (lambda t: t if "BENCHMARK RESULTS" in t else None)(agent.choir("logs", "pipecat-app").stdout))
    assert "--- BENCHMARK RESULTS ---" in said and "LLM Time to First Token:" in said


def test_a_connection_waits_while_the_agent_moves(agent):
    alloc, = [a for a in agent.allocs("pipecat-app") if a["ClientStatus"] == "running"]
    agent.get(4646, f"/v1/client/allocation/{alloc['ID']}/restart", "POST", {"AllTasks": False})
    assert "Mission Control" in agent.inside(["curl", "-sS", "-m", "60", "http://127.0.0.1:8000/"], check=True).stdout


# ---- Consul's mesh ----------------------------------------------------------------------------------------------------


def test_with_consul_connect_the_agent_asks_through_the_proxies(agent):
    folder = agent.folder / "mesh"
    folder.mkdir()
    (folder / "models").symlink_to(agent.folder / "models")
    jobs = render(folder, consul_connect=True, experts=[{"name": "main"}])
    agent.choir("jobs", "submit", jobs / "llama-expert.nomad", "--wait", "120", timeout=180)
    agent.choir("jobs", "submit", jobs / "pipecatapp.nomad", "--wait", "120", timeout=180)
    agent.wait("the expert's proxy", 60, lambda: agent.passing("llama-mesh-main"))
    assert "llama-mesh" not in agent.choir("expert", "list").stdout and len(agent.passing("llama-api-main")) == 1
    listed, = agent.wait("the expert by its proxy", 60, lambda: [e for e in agent.get(8000, "/api/cluster")["experts"]["list"] if e["name"] == "main"])
    port = int(re.search(r"127\.0\.0\.1:(\d+)", json.dumps(listed)).group(1))
    assert port != agent.passing("llama-api-main")[0]["Service"]["Port"]
    said = agent.choir("tools", "call", "route_to_expert.ask", '{"expert":"main","query":"Name one colour."}', "--state", folder / "agent").stdout
    assert re.search(r"[A-Za-z]{3}", said)
    agent.get(8500, "/v1/config", "PUT", {"Kind": "service-intentions", "Name": "llama-api-main", "Sources": [{"Name": "pipecat-app", "Action": "deny"}]})
    ping = ["curl", "-fsS", "-m", "10", f"http://127.0.0.1:{port}/health"]
    agent.wait("the refusal", 30, lambda: agent.inside(ping).returncode)
    agent.get(8500, "/v1/config/service-intentions/llama-api-main", "DELETE")
    agent.wait("the way again", 30, lambda: agent.inside(ping).returncode == 0)
