"""The daemon from outside: start, stop, children, bad settings, the page before the models."""
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from conftest import BUILD, alive


def run(*args, **env):
    return subprocess.run(
        [str(BUILD / "choir"), *args], capture_output=True, text=True, timeout=20, env={**os.environ, **env}
    )


def test_page_is_up_before_the_models(new_daemon):
    daemon = new_daemon(start=False)
    began = time.monotonic()
    daemon.start()
    with urllib.request.urlopen(daemon.url + "/", timeout=5) as page:
        body = page.read().decode()
    # 3 s is the promise for a second start; the watchdog leaves five times that.
    assert time.monotonic() - began < 15
    assert "<title>Mission Control</title>" in body
    with pytest.raises(urllib.error.HTTPError) as early:
        urllib.request.urlopen(daemon.url + "/health", timeout=5)
    assert early.value.code == 503


def test_stops_cleanly_on_sigterm(new_daemon):
    daemon = new_daemon()
    pids = [c["pid"] for c in daemon.children().values() if c["pid"]]
    assert pids
    assert daemon.stop() == 0
    assert [p for p in pids if alive(p)] == []


def test_no_child_survives_a_kill(new_daemon):
    daemon = new_daemon()
    daemon.wait_engines("vad", "stt", "tts")
    children = daemon.children()
    pids = {n: c["pid"] for n, c in children.items() if c["pid"]}
    assert {"llama-server", "choir-ear", "choir-stt", "choir-tts", "choir-phonemes"} <= set(pids)
    daemon.stop(signal.SIGKILL)
    end = time.monotonic() + 10
    while time.monotonic() < end and any(alive(p) for p in pids.values()):
        time.sleep(0.05)
    assert {n for n, p in pids.items() if alive(p)} == set()


def test_a_killed_worker_comes_back(new_daemon):
    daemon = new_daemon()
    daemon.wait_engines("vad", "stt", "tts")
    for name in ("choir-ear", "choir-tts", "choir-phonemes"):
        before = daemon.children()[name]
        os.kill(before["pid"], signal.SIGKILL)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            now = daemon.children()[name]
            if now["pid"] not in (0, before["pid"]) and now["state"] == "ready":
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"{name} did not come back: {daemon.children()[name]}")
        assert now["restarts"] > before["restarts"]


def test_second_daemon_on_one_state_is_refused(new_daemon):
    daemon = new_daemon()
    second = run("serve", "--port", "0", "--state", str(daemon.state))
    assert second.returncode == 1
    assert "another choir already uses" in second.stderr


def test_taken_port_is_one_sentence(new_daemon, tmp_path):
    daemon = new_daemon()
    port = daemon.url.rsplit(":", 1)[1]
    second = run("serve", "--port", port, "--state", str(tmp_path / "other"))
    assert second.returncode == 1
    assert port in second.stderr and len(second.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[vad]\nsilence_mss = 500\n", "silence_ms"),
        ("[vda]\nsilence_ms = 500\n", "vad"),
        ("[vad]\nsilence_ms = 50\n", "200"),
        ("[stt]\nservice = sphinx\n", "pocketsphinx"),
        ("[vad\n", "choir.conf"),
    ],
)
def test_bad_settings_say_what_is_accepted(tmp_path, text, expected):
    conf = tmp_path / "choir.conf"
    conf.write_text(text)
    result = run("serve", "--config", str(conf), "--port", "0", "--state", str(tmp_path / "s"))
    assert result.returncode == 1
    assert expected in result.stderr
    assert not (tmp_path / "s" / "history.db").exists()


def test_environment_of_the_original(new_daemon):
    daemon = new_daemon(env={"STT_SERVICE": "pocketsphinx", "TTS_SERVICE": "flite", "TOOL_SERVER_API_KEY": "not-for-the-log"})
    status = daemon.wait_engines("vad", "stt", "tts")
    assert "TOOL_SERVER_API_KEY is set, but no part" in daemon.log() and "not-for-the-log" not in daemon.log()
    assert status["engines"]["stt"]["engine"] == "pocketsphinx"
    assert status["engines"]["tts"]["engine"] == "flite"


def test_keys_stand_in_no_command_line_and_no_log(new_daemon):
    own = "sk-" + "0123456789abcdef" * 2
    daemon = new_daemon("--set", "log.levels=debug", env={"OPENAI_API_KEY": own})
    daemon.wait_warm()
    keys, lines = [own], []
    for child in daemon.children().values():
        if child["pid"] == 0:  # started on demand
            continue
        proc = pathlib.Path(f"/proc/{child['pid']}")
        lines.append((proc / "cmdline").read_bytes().decode())
        environment = dict(e.split("=", 1) for e in (proc / "environ").read_bytes().decode().split("\0") if "=" in e)
        keys += [value for name, value in environment.items() if name == "LLAMA_API_KEY"]
    assert len(keys) == 2 and len(keys[1]) >= 16
    for key in keys:
        assert key not in daemon.log() and not any(key in line for line in lines)
    _, status = daemon.get("/api/status")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(status["model"]["url"] + "/v1/chat/completions", b"{}", timeout=5)
    assert refused.value.code == 401


def test_settings_may_stand_in_drop_ins_alone(tmp_path):
    folder = tmp_path / "choir" / "choir.conf.d"
    folder.mkdir(parents=True)
    (folder / "10-ear.conf").write_text("[vad]\nsilence_ms = 800\n")
    shown = run("config", "show", XDG_CONFIG_HOME=str(tmp_path))
    assert re.search(r"^vad.silence_ms +800 .*10-ear.conf", shown.stdout, re.M), shown.stdout


def test_faster_whisper_is_read_as_whisper(new_daemon):
    daemon = new_daemon(env={"STT_SERVICE": "faster-whisper"})
    _, status = daemon.get("/api/status")
    assert status["engines"]["stt"]["engine"] == "whisper"


def test_other_addresses_are_refused_until_there_is_an_owner(tmp_path):
    result = run("serve", "--port", "0", "--state", str(tmp_path / "s"), "--set", "web.address=0.0.0.0")
    assert result.returncode == 1
    assert "loopback" in result.stderr


def test_missing_models_leave_the_page_and_say_so(new_daemon, tmp_path):
    daemon = new_daemon("--set", f"paths.models={tmp_path / 'nothing'}", "--set", f"paths.runtime={tmp_path / 'nothing'}")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        _, status = daemon.get("/api/status")
        what = {m["what"] for m in status["missing"]}
        engines = status["engines"]
        fallback = engines["stt"]["engine"] == "pocketsphinx" and engines["tts"]["engine"] == "flite"
        if "language model" in what and ({"speech recognition", "voice output"} <= what or fallback):
            break
        time.sleep(0.2)
    else:
        pytest.fail(f"status does not say what is missing: {status['missing']}")
    for entry in status["missing"]:
        assert entry["why"] and entry["remedy"]
    # Without ONNX Runtime the ear falls back to its energy gate.
    assert status["engines"]["vad"]["engine"] == "energy"


def test_metrics_are_complete_and_well_formed(new_daemon):
    daemon = new_daemon()
    daemon.wait_engines("vad", "stt", "tts")
    with urllib.request.urlopen(daemon.url + "/metrics", timeout=5) as answer:
        text = answer.read().decode()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    stages = {'choir_stage_seconds_count{stage="%s"}' % s for s in ("stt", "llm", "tts", "first_sound")}
    children = ("llama-server", "choir-ear", "choir-stt", "choir-tts", "choir-phonemes")
    wanted = stages | {
        "choir_turn_first_text_seconds_count", "choir_turns_queued", "choir_api_queue", "choir_history_queue",
        'choir_worker_queue_bytes{worker="choir-stt"}', "choir_log_dropped_total", 'choir_page_dropped_total{what="event"}',
        "choir_loop_lag_seconds_count", "choir_process_resident_bytes", "choir_http_connections",
    }
    wanted |= {'%s{child="%s"}' % (m, c) for m in ("choir_child_restarts_total", "choir_child_resident_bytes") for c in children}
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert wanted - values.keys() == set()
    assert all(float(values['choir_child_resident_bytes{child="%s"}' % c]) > 0 for c in children)


def test_host_and_origin_are_checked(new_daemon):
    daemon = new_daemon()
    for headers, code in (
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ):
        request = urllib.request.Request(daemon.url + "/internal/chat", b"{}", {"Content-Type": "application/json", **headers})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=5)
        assert refused.value.code == code, headers
