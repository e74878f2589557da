"""A machine's own microphone and speaker: a recording is the microphone, a file is the speaker (ALSA's file plugin over
its null plugin), real engines between them."""
import array
import fcntl
import math
import os
import pathlib
import socket
import struct
import subprocess
import threading
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

    def all_answered():  # the speaker stops for a second twice: a slow machine may answer in between
        entries = answered()
        asked = " ".join(entry["text"] for entry in entries or [] if entry["role"] == "user")
        return entries if "country" in asked.lower() else None

    entries = wait_for("an answer to the whole question", 180, all_answered)
    assert entries[-1]["text"].strip()
    seconds = loud(played(tmp_path))
    assert seconds > 0.4, f"{seconds} s of sound came out of the speaker"
    # What is in the conversation as heard was played: at 25 letters a second nobody speaks.
    assert seconds > len(entries[-1]["text"]) / 25
    assert daemon.children()["choir-card"]["rss_kb"] < 16000
    assert daemon.get("/api/status")[1]["memory_kb"] < 25 * 1024
    assert daemon.stop() == 0


class Room:
    """choir-card in a room: what its speaker plays comes back to its microphone about 100 ms later at -12 dB. Two FIFOs carry the
    sound, in real time, as the program paces it."""

    DELAY, GAIN = RATE * 6 // 100, 0.25

    def __init__(self, folder, *arguments):
        env = {**os.environ, **alsa(folder)}
        for name in ("speaker.raw", "microphone.raw"):
            os.mkfifo(folder / name)
        self.folder, self.heard = folder, array.array("h")
        threading.Thread(target=self.air, daemon=True).start()
        self.daemon, worker = socket.socketpair()
        self.process = subprocess.Popen(
            [str(CARD), "--microphone", "desk", "--speaker", "desk", "--fd", str(worker.fileno()), *arguments],
            pass_fds=[worker.fileno()], env=env)
        worker.close()
        self.ready = threading.Event()
        threading.Thread(target=self.listen, daemon=True).start()

    def air(self):
        with open(self.folder / "microphone.raw", "wb", buffering=0) as mic, \
                open(self.folder / "speaker.raw", "rb", buffering=0) as speaker:
            # A pipe holds 0.7 s: without a limit the way of the sound would depend on who starts late.
            fcntl.fcntl(mic, fcntl.F_SETPIPE_SZ, 8192)
            fcntl.fcntl(speaker, fcntl.F_SETPIPE_SZ, 4096)
            mic.write(bytes(2 * self.DELAY))
            while data := speaker.read(4096):
                sound = array.array("h", data + bytes(len(data) & 1))
                try:
                    mic.write(array.array("h", (int(s * self.GAIN) for s in sound)).tobytes())
                except BrokenPipeError:
                    return

    def listen(self):
        data = b""
        while part := self.daemon.recv(65536):
            data += part
            while len(data) >= 24 and len(data) >= 24 + struct.unpack_from("<I", data, 16)[0]:
                kind, length = struct.unpack_from("<H", data, 4)[0], struct.unpack_from("<I", data, 16)[0]
                if kind == 1:
                    self.ready.set()
                if kind == 72:
                    self.heard.frombytes(data[24:24 + length])
                data = data[24 + length:]

    def send(self, kind, item, payload=b""):
        self.daemon.sendall(struct.pack("<IHHIIII", 0x31574843, kind, 0, 0, item, len(payload), 0) + payload)

    def close(self):
        self.daemon.shutdown(socket.SHUT_RDWR)
        self.process.wait(10)


def rms(samples):
    return math.sqrt(sum(s * s for s in samples) / max(1, len(samples)))


def echo_loss(folder, voice, *arguments):
    """Decibels by which the echo is weaker in what choir-card heard than in the room."""
    folder.mkdir()
    room = Room(folder, *arguments)
    assert room.ready.wait(20), "choir-card did not get ready"
    for at in range(0, len(voice), 4800):  # 200 ms at a time: the queue holds five seconds
        room.send(64, 1, voice[at:at + 4800].tobytes())
        time.sleep(0.19)
    room.send(65, 1)
    time.sleep(0.5)
    room.close()
    assert room.process.returncode == 0
    # The filter has had four seconds to learn.
    left = rms(room.heard[16000 * 5:16000 * 10])
    before = rms(voice[24000 * 5:24000 * 10]) * Room.GAIN
    return 20 * math.log10(before / max(left, 0.1))


def test_its_own_voice_does_not_come_back(tmp_path):
    with wave.open(str(DATA / "jfk.wav")) as file:
        pcm = array.array("h", file.readframes(file.getnframes()))
    voice = array.array("h", (pcm[i * 2 // 3] for i in range(len(pcm) * 3 // 2)))  # 16 to 24 kHz
    assert -3 < echo_loss(tmp_path / "plain", voice, "--no-echo-cancellation") < 6
    losses = []
    for attempt in range(3):  # the room is a program: without a processor it has gaps
        losses.append(echo_loss(tmp_path / str(attempt), voice))
        if losses[-1] > 12:
            return
    pytest.fail(f"the echo is weaker by {losses} dB only")


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
