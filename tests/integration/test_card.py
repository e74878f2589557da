"""A machine's own microphone and speaker: a recording is the microphone, a file is the speaker (ALSA's file plugin over
its null plugin), real engines between them."""
import array
import os
import pathlib
import subprocess
import time
import wave

import pytest

from conftest import BUILD

DATA = pathlib.Path(os.environ.get("CHOIR_DATA", pathlib.Path.home() / ".cache/choir/data"))
RATE = 48000
ALSA = "/usr/share/alsa/alsa.conf"
CARD = next((path for path in (BUILD / "src/speech/choir-card", BUILD / "choir-card") if path.exists()), None)

pytestmark = pytest.mark.skipif(
    CARD is None or not pathlib.Path(ALSA).exists(), reason="choir-card was not built (libasound2-dev)"
)

CONFIG = """
pcm.desk {
  type asym
  playback.pcm { type plug slave { pcm { type file file "%(out)s" format raw slave.pcm { type null } }
                                   format S16_LE channels 1 rate 48000 } }
  capture.pcm { type plug slave { pcm { type file file "/dev/null" infile "%(mic)s" format raw slave.pcm { type null } }
                                  format S16_LE channels 1 rate 48000 } }
}
"""


def alsa(folder):
    """Settings for ALSA alone: nothing of the machine's own devices is touched."""
    config = folder / "asound.conf"
    config.write_text(CONFIG % {"out": folder / "speaker.raw", "mic": folder / "microphone.raw"})
    return {"ALSA_CONFIG_PATH": f"{ALSA}:{config}"}


def record(folder, *parts):
    """The microphone: seconds of silence, or paths of recordings."""
    sound = array.array("h")
    for part in parts:
        if isinstance(part, (int, float)):
            sound.extend([0] * int(part * RATE))
            continue
        with wave.open(str(part)) as file:
            assert file.getnchannels() == 1 and file.getsampwidth() == 2
            pcm, rate = array.array("h", file.readframes(file.getnframes())), file.getframerate()
        step = rate / RATE
        for i in range(int(len(pcm) / step) - 1):
            at = i * step
            low = int(at)
            sound.append(int(pcm[low] + (pcm[min(low + 1, len(pcm) - 1)] - pcm[low]) * (at - low)))
    (folder / "microphone.raw").write_bytes(sound.tobytes())


def played(folder):
    path = folder / "speaker.raw"
    sound = array.array("h")
    data = path.read_bytes() if path.exists() else b""
    sound.frombytes(data[: len(data) & ~1])
    return sound


def loud(sound):
    """Seconds of 20 ms windows above -40 dBFS."""
    window = RATE // 50
    return sum(0.02 for at in range(0, len(sound) - window, window) if max(sound[at:at + window:8], default=0) > 330)


def wait_for(what, seconds, condition):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"{what}: not within {seconds} s")


def card_status(daemon):
    return daemon.get("/api/status")[1]["card"]


def test_a_question_at_the_microphone_is_answered_by_the_speaker(new_daemon, tmp_path):
    # The recording starts with the device: silence first, until the engines are there.
    record(tmp_path, 20, DATA / "jfk.wav", 400)
    daemon = new_daemon(
        "--set", "voice.microphone=desk", "--set", "voice.speaker=desk", "--set", "llm.max_tokens=40",
        env=alsa(tmp_path),
    )
    daemon.wait_warm()
    daemon.wait_engines("vad", "stt", "tts")
    status = wait_for("the card", 30, lambda: card_status(daemon) if card_status(daemon)["ready"] else None)
    assert "48000 Hz" in status["detail"]
    before = loud(played(tmp_path))
    assert before == 0, "something was played before anybody spoke"
    conversation = daemon.get("/api/conversations")[1]["current"]

    def answered():
        entries = daemon.get(f"/api/conversations/{conversation}")[1]["entries"]
        return entries if entries and entries[-1]["role"] == "assistant" else None

    entries = wait_for("an answer in the conversation", 180, answered)
    asked = " ".join(entry["text"] for entry in entries if entry["role"] == "user").lower()
    assert "country" in asked, asked
    assert entries[-1]["text"].strip()
    seconds = loud(played(tmp_path))
    assert seconds > 0.4, f"{seconds} s of sound came out of the speaker"
    # What is in the conversation as heard was played: at 25 letters a second nobody speaks.
    assert seconds > len(entries[-1]["text"]) / 25
    assert daemon.children()["choir-card"]["rss_kb"] < 16000
    assert daemon.get("/api/status")[1]["memory_kb"] < 25 * 1024
    assert daemon.stop() == 0


def test_a_device_that_is_not_there_stops_nothing(new_daemon, tmp_path):
    daemon = new_daemon("--set", "voice.microphone=nosuchdevice", env=alsa(tmp_path))
    status = wait_for(
        "the reason in the status", 30,
        lambda: next((m for m in daemon.get("/api/status")[1]["missing"] if "microphone" in m["what"]), None),
    )
    assert "nosuchdevice" in status["why"]
    assert "[voice]" in status["remedy"]
    card = card_status(daemon)
    assert not card["ready"] and "nosuchdevice" in card["detail"]
    assert daemon.get("/v1/models")[0] == 200
    wait_for("another try", 60, lambda: daemon.children()["choir-card"]["restarts"] >= 1)
    assert daemon.stop() == 0


def test_a_card_that_dies_comes_back_with_a_new_session(new_daemon, tmp_path):
    record(tmp_path, 300)
    daemon = new_daemon("--set", "voice.microphone=desk", env=alsa(tmp_path))
    wait_for("the card", 30, lambda: card_status(daemon)["ready"])
    assert daemon.get("/api/status")[1]["sessions"] == 1
    os.kill(daemon.children()["choir-card"]["pid"], 9)
    wait_for("the card again", 60, lambda: card_status(daemon)["ready"] and daemon.children()["choir-card"]["restarts"] == 1)
    assert daemon.get("/api/status")[1]["sessions"] == 1
    assert daemon.stop() == 0


def test_off_means_that_nothing_runs(new_daemon):
    daemon = new_daemon()
    assert card_status(daemon) == {"microphone": "off"}
    assert "choir-card" not in daemon.children()
    assert daemon.stop() == 0


@pytest.mark.parametrize("arguments, code, words", [
    (["--microphone", "nosuchdevice"], 1, "nosuchdevice"),
    (["--nonsense"], 2, "choir-card --help"),
])
def test_the_program_says_what_is_wrong(arguments, code, words):
    done = subprocess.run([str(CARD), *arguments, "--fd", "1"] if code == 1 else [str(CARD), *arguments],
                          capture_output=True, timeout=30, check=False)
    assert done.returncode == code
    assert words in done.stderr.decode()
