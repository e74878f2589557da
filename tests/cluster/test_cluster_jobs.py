"""./test --full: jobs that sleep or are run by hand, each placed on a node, answering, and with the memory that it needs beside
the memory that it reserves; then the switch consul_connect on and off again."""
import json
import os
import re
import statistics

import pytest

from house import NODES
from test_cluster import EXPERT, answers, healthy
from waiting import wait_for

pytestmark = [pytest.mark.timeout(2700), pytest.mark.skipif(os.environ.get("CHOIR_FULL") != "1", reason="part of ./test --full")]

LIGHT = "SmolLM2-135M-Instruct.Q4_1.gguf"
SAY = "The sky is blue and the grass is green."
# Speaks a sentence with one server and lets the other one write down what it heard: the stock Wyoming client.
TALK = """
import asyncio, sys
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart
from wyoming.client import AsyncTcpClient
from wyoming.tts import Synthesize

async def main(tts, stt, text):
    async with AsyncTcpClient(*tts) as voice, AsyncTcpClient(*stt) as ear:
        await voice.write_event(Synthesize(text=text).event())
        await ear.write_event(Transcribe().event())
        samples = 0
        while (event := await voice.read_event()):
            if event.type in ("audio-start", "audio-chunk", "audio-stop"):
                samples += len(event.payload or b"") // 2
                await ear.write_event(event)
            if event.type in ("audio-stop", "error"):
                break
        while (event := await ear.read_event()) and not Transcript.is_type(event.type):
            assert event.type != "error", event.data
        print(samples, Transcript.from_event(event).text)

a, b, c, d, text = sys.argv[1:]
asyncio.run(asyncio.wait_for(main((a, int(b)), (c, int(d)), text), 200))
"""


def job(house, name):
    return house.nomad(f"/v1/job/{name}")


def reserved(house, name):
    """MB of the tasks that run side by side."""
    return sum(t["Resources"]["MemoryMB"] for g in job(house, name)["TaskGroups"] for t in g["Tasks"] if not t["Lifecycle"])


def needed(house, node, port):
    """MB of the process that listens there and of all that belong to its task, each at its highest. Pages of a file that several
    programs have mapped count for each."""
    script = f"""
pid=$(ss -Hltnp sport = :{port} | grep -o 'pid=[0-9]*' | head -1 | cut -d= -f2)
alloc=$(tr '\\0' '\\n' < /proc/$pid/environ | sed -n 's/^NOMAD_ALLOC_ID=//p')
for p in /proc/[0-9]*; do
  tr '\\0' '\\n' < $p/environ 2> /dev/null | grep -q "^NOMAD_ALLOC_ID=$alloc" || continue
  echo "$(cat $p/comm) $(sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' $p/status)"
done"""
    rows = [line.split() for line in house.lab.sh(node, script).splitlines()]
    assert rows, f"nothing listens on port {port} of {node}"
    return sum(int(kb) for _, kb in rows) / 1024, {name: int(kb) // 1024 for name, kb in rows}


def wake(house, name, group, service):
    house.scale(name, group, 1)
    return wait_for(f"{service} passes", 180, lambda: house.passing(service))[0]


def tell(house, name, node, port):
    """The figure goes into the report, and the reservation must hold it."""
    found, parts = needed(house, node, port)
    house.report.add(f"memory of the job {name}: needed, reserved", f"{found:.0f} MB ({', '.join(f'{k} {v}' for k, v in parts.items())}), {reserved(house, name)} MB")
    assert found <= reserved(house, name), parts


def run_batch(house, name):
    """A batch job from its file; returns its allocations once all have ended."""
    text = house.lab.sh("controller", f". /etc/profile.d/choir-cluster.sh; choir jobs submit /opt/nomad/jobs/{name}.nomad --wait 300", timeout=360, check=False)
    ended = ("complete", "failed", "lost")
    wait_for(f"{name} ends", 300, lambda: (a := house.nomad(f"/v1/job/{job_name(name)}/allocations")) and all(x["ClientStatus"] in ended for x in a))
    return house.nomad(f"/v1/job/{job_name(name)}/allocations"), text


def job_name(file):
    return {"benchmark": "llama-benchmark"}.get(file, file)


def test_sentence_vectors(house):
    house.boot()  # test_cluster.py has switched the nodes off
    wait_for("three nodes are ready", 180, lambda: [n["Status"] for n in house.nomad("/v1/nodes")].count("ready") == 3)
    wait_for("one expert", 240, lambda: healthy(house, 1))
    node, address, port = wake(house, "embedding", "embedding", "llama-embedding")
    said = house.lab.sh(node, "curl -sS -m 60 -H \"Authorization: Bearer $(cat /etc/choir/expert.key)\" -H 'Content-Type: application/json' "
                              f"-d '{{\"input\": \"hello\"}}' http://{address}:{port}/v1/embeddings")
    assert len(json.loads(said)["data"][0]["embedding"]) == 384
    tell(house, "embedding", node, port)
    house.scale("embedding", "embedding", 0)


def test_one_node_speaks_and_another_writes_it_down(house, tmp_path):
    script = tmp_path / "talk.py"
    script.write_text(TALK)
    tts = wake(house, "tts", "tts", "wyoming-tts")
    stt = wake(house, "stt", "stt", "wyoming-stt")
    done = house.lab.call("ctl", "python3", script, tts[1], tts[2], stt[1], stt[2], SAY, timeout=240, check=True)
    samples, heard = done.stdout.strip().split(" ", 1)
    house.report.add("spoken on a node, written down on another", f"{int(samples)} samples, {heard!r}")
    assert re.search(r"sky is blue", heard, re.I), heard
    for name, (node, _, port) in (("tts", tts), ("stt", stt)):
        tell(house, name, node, port)
        house.scale(name, name, 0)


def test_health_check_and_benchmark(house):
    allocations, _ = run_batch(house, "health-check")
    assert allocations[0]["ClientStatus"] == "complete", allocations
    logs = house.lab.sh("controller", ". /etc/profile.d/choir-cluster.sh; choir logs health-check")
    assert f"PASSED for {EXPERT}" in logs, logs
    with house.report.phase("llama-benchmark on all nodes"):
        allocations, said = run_batch(house, "benchmark")
    assert sorted(a["NodeName"] for a in allocations if a["ClientStatus"] == "complete") == sorted(NODES), (said, allocations)
    for name in NODES:
        row = json.loads(house.lab.sh(name, "tail -1 /var/log/llama_benchmarks.jsonl"))
        assert row["status"] == "success" and row["tokens_per_second"] > 0
        house.report.add(f"llama-bench on {name}", f"{row['tokens_per_second']:.1f} tokens a second")
    listed = json.dumps([{"filename": LIGHT, "memory_mb": 320}])
    plan = json.loads(house.lab.sh("controller", f". /etc/profile.d/choir-cluster.sh; CHOIR_EXPERT_MODELS='{listed}' choir expert plan --json"))
    assert {row["node"]: row["from"] for row in plan} == dict.fromkeys(NODES, "benchmark"), plan


def test_memory_of_expert_and_agent(house):
    answers(house)
    node, _, port = house.passing(EXPERT)[0]
    tell(house, "llama-expert", node, port)
    node, _, port = house.passing("pipecat-app")[0]
    tell(house, "pipecat-app", node, port)


def mesh_port(house):
    """Where the agent asks the expert main, once that is its own proxy."""
    node = house.agent_node()
    answer = json.loads(house.lab.sh(node, "curl -sS -m 10 --unix-socket /opt/pipecatapp/choir.sock http://localhost/api/cluster"))
    listed = next(e for e in answer["experts"]["list"] if e["name"] == "main")
    found = re.search(r"http://127\.0\.0\.1:(\d+)", json.dumps(listed))
    return found and int(found.group(1))


def times(house, node, urls, path, data, count):
    """Median milliseconds of each, asked in turns over new connections."""
    body = f"-H 'Content-Type: application/json' -d '{data}'" if data else ""
    asks = " ".join(f"$(curl -fsS -m 60 -o /dev/null -w %{{time_total}} -H \"$key\" {body} {url}{path})" for url in urls)
    rows = house.lab.sh(node, f'key="Authorization: Bearer $(cat /etc/choir/expert.key)"; for i in $(seq {count}); do echo {asks}; done', timeout=300).splitlines()
    return [statistics.median(float(row.split()[i]) for row in rows) * 1000 for i in range(len(urls))]


def proxies(house):
    """{node: [MB of each proxy of Consul's]}."""
    found = {}
    for name in NODES:
        rows = house.lab.sh(name, "ps -eo rss=,args=").splitlines()
        found[name] = [int(row.split()[0]) // 1024 for row in rows if re.search(r"consul connect proxy", row)]
    return found


def test_the_mesh_on_and_off_again(house):
    with house.report.phase("playbook, with consul_connect"):
        recap, output = house.play("playbook.yaml", variables={"consul_connect": True})
    assert not any(f["failed"] or f["unreachable"] for f in recap.values()), output[-4000:]
    try:
        port = wait_for("the agent asks through its proxy", 240, lambda: mesh_port(house))
        wait_for("the expert's proxy", 120, lambda: house.passing("llama-mesh-main"))
        wait_for("an answer through both proxies", 120, lambda: house.ask_expert("main", "Say yes.")[0] == 0)
        answers(house)
        agent = house.agent_node()
        expert, address, direct = house.passing(EXPERT)[0]
        urls = [f"http://{address}:{direct}", f"http://127.0.0.1:{port}"]
        house.report.add("the mesh: the agent's node, the expert's node", f"{agent}, {expert}")
        for what, path, data, count in (("a new connection, with its answer", "/health", None, 30),
                                        ("a first token, prompt warm", "/completion", '{"prompt": "The lighthouse", "n_predict": 1}', 15)):
            plain, through = times(house, agent, urls, path, data, count)
            house.report.add(f"{what}: directly, through both proxies (median of {count})", f"{plain:.1f} ms, {through:.1f} ms")
        house.report.add("memory of the proxies", "; ".join(f"{n} {', '.join(f'{mb} MB' for mb in found)}" for n, found in proxies(house).items() if found))
        house.report.add("memory of Consul and its proxies", ", ".join(f"{n} {house.memory(n)['consul']} MB" for n in NODES))
        house.consul("/v1/config", {"Kind": "service-intentions", "Name": EXPERT, "Sources": [{"Name": "pipecat-app", "Action": "deny"}]}, method="PUT")
        ping = f"curl -fsS -m 5 -o /dev/null http://127.0.0.1:{port}/health"
        wait_for("whom no intention allows does not get through", 60, lambda: house.lab.call("exec", agent, "bash", "-c", ping).returncode)
        house.consul(f"/v1/config/service-intentions/{EXPERT}", method="DELETE")
        wait_for("the way again", 60, lambda: house.lab.call("exec", agent, "bash", "-c", ping).returncode == 0)
        recap, output = house.play("playbook.yaml", variables={"consul_connect": True})
        assert not any(f["failed"] or f["unreachable"] or f["changed"] for f in recap.values()), (recap, output[-4000:])
    finally:
        recap, output = house.play("playbook.yaml")
    assert not any(f["failed"] or f["unreachable"] for f in recap.values()), output[-4000:]
    wait_for("the agent asks directly again", 240, lambda: house.agent_node() and not mesh_port(house))
    wait_for("no proxy is left", 60, lambda: not any(proxies(house).values()) and house.passing("llama-mesh-main") == [])
    wait_for("one expert", 120, lambda: healthy(house, 1))
    answers(house)
