"""The command line from outside: exit codes, help, JSON, a conversation, and Ctrl-C in a real terminal."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from conftest import BUILD, ROOT

COMMANDS = ["serve", "chat", "talk", "say", "transcribe", "status", "models", "config", "bench"]


def choir(*args, url=None, timeout=60, **kw):
    env = {k: v for k, v in os.environ.items() if k not in ("CHOIR_URL", "WEB_PORT")}
    if url:
        env["CHOIR_URL"] = url
    env |= kw.pop("env", {})
    return subprocess.run([str(BUILD / "choir"), *map(str, args)], capture_output=True, text=True, timeout=timeout,
                          env=env, **kw)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_usage_examples_and_exit_codes(command):
    result = choir(command, "--help")
    assert result.returncode == 0
    for word in ("Usage:", "xamples:", "Exit codes:"):
        assert word in result.stdout


def test_manual_page_names_every_command_and_option():
    page = (ROOT / "docs/man/choir.1").read_text().replace("\\-", "-")
    for command in COMMANDS:
        assert f"choir {command}" in page
        for option in re.findall(r"--([a-z-]+)", choir(command, "--help").stdout):
            assert option in page or option.startswith("help"), f"{command} --{option}"
    rendered(ROOT / "docs/man/choir.1")


@pytest.mark.parametrize("words", [["tools"], ["audit"], ["memory", "list"], ["approve"], ["owner", "list"]])
def test_where_no_daemon_runs_they_say_so(words, tmp_path):
    result = choir(*words, "--state", tmp_path)
    assert result.returncode == 1 and f"no Choir answers at {tmp_path}/choir.sock; start it with" in result.stderr


def rendered(path):
    done = subprocess.run(["man", "--warnings", "-l", str(path)], capture_output=True, text=True,
                          env={**os.environ, "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANWIDTH": "200"})
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("command", ["approve", "audit", "cert", "memory", "owner", "token"])
def test_commands_with_a_page_of_their_own(command):
    """Each option and action of --help is in the page, and the page promises no option that is not there."""
    told = choir(command, "--help").stdout
    page = rendered(ROOT / f"docs/man/choir-{command}.1")
    own = page.split("EXAMPLES")[0]
    options = set(re.findall(r"--([a-z-]+)", told)) - {"help", "lan", "url"}
    assert options == set(re.findall(r"--([a-z-]+)", own)) - {"lan"}
    usage = told.split("Usage:")[1].split("Help Options")[0]
    for action in re.findall(r"\b([a-z]+)\b", usage.split("]", 1)[1]):
        assert re.search(rf"^ +{action}\b", page, re.M), action
    for part in ("SYNOPSIS", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"):
        assert part in page
    assert f"'{'docs/man/choir-' + command + '.1'}'" in (ROOT / "meson.build").read_text()  # installed


@pytest.mark.parametrize("args, hint", [
    ([], "Commands:"), (["stauts"], "did you mean 'status'"), (["status", "now"], "'now'"), (["status", "--jsn"], "--help"),
    (["models", "use"], "needs the name"), (["models", "forget"], "forget"), (["config", "check"], "one file"),
    (["talk", "only.talk"], "recording"), (["chat", "hello"], "--once"), (["bench", "../x"], "not the name"),
])
def test_wrong_usage_is_2_with_a_hint(args, hint):
    result = choir(*args)
    assert result.returncode == 2
    assert hint in result.stderr and result.stdout == ""


def test_without_a_daemon_it_says_how_to_start_one(tmp_path):
    script = tmp_path / "a.talk"
    script.write_text("sleep 1ms\n")
    for args in (["status"], ["chat", "--once", "hello"], ["talk", script, tmp_path / "a.wav"]):
        result = choir(*args, url="http://127.0.0.1:9")
        assert result.returncode == 1
        assert "start it with ./run or choir serve" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_config_reference_is_right_and_a_wrong_file_is_named(tmp_path):
    reference = choir("config")
    assert reference.returncode == 0 and "[vad]" in reference.stdout
    file = tmp_path / "choir.conf"
    file.write_text(re.sub(r"^#(\w+=.+)$", r"\1", reference.stdout, flags=re.M))
    checked = choir("config", "check", file)
    assert checked.returncode == 0, checked.stderr
    file.write_text("[vad]\nsilense_ms=700\n")
    wrong = choir("config", "check", file)
    assert wrong.returncode == 1 and "silence_ms" in wrong.stderr


def test_config_show_tells_where_a_value_comes_from(tmp_path):
    shown = json.loads(choir("config", "show", "--json", "--config", tmp_path / "none.conf", env={"WEB_PORT": "9123"}).stdout)
    assert shown["web.port"]["value"] == "9123" and "environment" in shown["web.port"]["origin"]


def test_models_list_is_json_and_names_the_default():
    listed = choir("models", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "SmolLM2" in listed.stdout
    json.loads(listed.stdout)
    assert choir("models", "use", "no-such-model", "--url", "http://127.0.0.1:9").returncode == 1


def test_bench_lists_what_is_there():
    listed = choir("bench")
    assert listed.returncode == 0
    assert choir("bench", "no-such-bench").returncode == 1


def test_bad_script_names_the_line(warm_daemon, tmp_path):
    script = tmp_path / "bad.talk"
    script.write_text("sleep 5ms\nplay nothing.wav\n")
    result = choir("talk", script, tmp_path / "out.wav", url=warm_daemon.url)
    assert result.returncode == 1 and "line 2" in result.stderr


def test_status_and_chat(warm_daemon):
    status = choir("status", "--json", url=warm_daemon.url)
    assert json.loads(status.stdout)["model"]["name"]
    assert "\033" not in choir("status", url=warm_daemon.url).stdout
    answer = json.loads(choir("chat", "--json", "--once", "Say hello.", url=warm_daemon.url).stdout)
    assert answer["status"] == "completed" and answer["reply"] and answer["text"] == "Say hello."
    piped = choir("chat", "--json", url=warm_daemon.url, input="Say one.\n\nSay two.")
    assert [json.loads(line)["text"] for line in piped.stdout.splitlines()] == ["Say one.", "Say two."]


def read_until(fd, what, seconds=60):
    data, end = "", time.monotonic() + seconds
    while time.monotonic() < end and not re.search(what, data):
        if select.select([fd], [], [], 0.2)[0]:
            try:
                data += os.read(fd, 4096).decode(errors="replace")
            except OSError:
                break
    assert re.search(what, data), data
    return data


def ends(pid, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(code)
        time.sleep(0.05)
    return pytest.fail("Ctrl-C did not end it")


def stopped(url):
    """Whether the answer was; FALSE where it was over before the key came, which then leaves: the machine was busy for a second."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(str(BUILD / "choir"), ["choir", "chat", "--url", url], {**os.environ, "NO_COLOR": "1"})
    try:
        read_until(fd, r"you\s")
        os.write(fd, b"Tell me a very long story about the sea.\n")
        read_until(fd, r"choir \w+")
        os.write(fd, b"\x03")
        shown = read_until(fd, r"\[stopped\]\s+you|\^C\r\n")
        if "[stopped]" in shown:
            os.write(fd, b"\x03")
        assert ends(pid) == 130
        return "[stopped]" in shown
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(fd)


def test_ctrl_c_stops_the_answer_then_leaves(warm_daemon):
    assert any(stopped(warm_daemon.url) for _ in range(4))
