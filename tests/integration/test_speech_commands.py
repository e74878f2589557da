"""choir say and choir transcribe, from outside."""
import json
import os
import pathlib
import subprocess
import wave

import pytest
from conftest import BUILD, Daemon

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir"
DATA = pathlib.Path(os.environ.get("CHOIR_DATA") or CACHE / "data")
JFK = DATA / "jfk.wav"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("say") / "state", "--set", "llm.base_url=http://127.0.0.1:1/v1",
                    "--set", "wyoming.stt_port=0", "--set", "wyoming.tts_port=0", "--set", "tts.service=flite")
    daemon.start()
    try:
        daemon.wait_engines("stt", "tts")
        yield daemon
    finally:
        daemon.stop()


def choir(house, *args, **kw):
    env = {**os.environ, "CHOIR_URL": house.url if house else "http://127.0.0.1:9"}
    return subprocess.run([str(BUILD / "choir"), *map(str, args)], capture_output=True, timeout=200, env=env, check=False, **kw)


def test_transcribe(house, tmp_path):
    done = choir(house, "transcribe", "--language", "en", JFK)
    assert done.returncode == 0 and b"ask not what your country can do for you" in done.stdout and done.stdout.endswith(b".\n")
    out = tmp_path / "jfk.srt"
    assert choir(house, "transcribe", "--format", "srt", "-o", out, JFK).returncode == 0
    assert out.read_text().startswith("1\n00:00:00,000 --> ")
    details = json.loads(choir(house, "transcribe", "--json", "-", input=JFK.read_bytes()).stdout)
    assert details["language"] == "en" and details["segments"]


def test_say(house, tmp_path):
    out = tmp_path / "a.wav"
    done = choir(house, "say", "-o", out, "--json", "Good morning to all of you.")
    assert done.returncode == 0 and json.loads(done.stdout) == {"file": str(out), "format": "wav", "bytes": out.stat().st_size}
    with wave.open(str(out)) as wav:
        assert wav.getframerate() == 24000
    assert b"morning" in choir(house, "transcribe", out).stdout.lower()
    slow, flac, piped = tmp_path / "slow.wav", tmp_path / "b.flac", choir(house, "say", "-", input=b"Good morning to all of you.")
    assert choir(house, "say", "--speed", "0.5", "-o", slow, "Good morning to all of you.").returncode == 0
    assert slow.stat().st_size > 1.5 * out.stat().st_size
    assert choir(house, "say", "-o", flac, "Good morning.").returncode == 0 and flac.read_bytes()[:4] == b"fLaC"
    assert piped.stdout[:4] == b"RIFF" and abs(len(piped.stdout) - out.stat().st_size) < 5000


@pytest.mark.parametrize("args, code, word", [
    (["say"], 2, "missing"), (["say", "two", "words"], 2, "quotes"), (["transcribe"], 2, "missing"),
    (["say", "--json", "x"], 2, "--output"), (["transcribe", "/no/such/file"], 1, "No such file"),
    (["say", "-o", "/no/such/folder/a.wav", "Hello."], 1, "No such file"), (["say", "-f", "mp3", "-o", "a.mp3", "Hello."], 1, "wav, flac, opus"),
    (["say", "--speed", "9", "Hello."], 1, "0.25"), (["say", "--voice", "hal", "Hello."], 1, "no voice 'hal'"),
    (["transcribe", __file__], 1, "no sound that can be read"), (["transcribe", "-f", "doc", JFK], 1, "verbose_json"),
])
def test_mistakes(house, args, code, word):
    done = choir(house, *args)
    assert done.returncode == code and word in done.stderr.decode() and done.stdout == b""


def test_without_a_daemon():
    for args in (["say", "Hello."], ["transcribe", JFK]):
        done = choir(None, *args)
        assert done.returncode == 1 and b"choir serve" in done.stderr
