#!/usr/bin/python3
"""choir-ear as a whole: verdicts about the end of a turn beside the voice activity, and keyphrases. Prints TAP.

usage: ear_test.py CHOIR_EAR"""

import struct
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from wire_client import (CACHE, EAR_AUDIO, EAR_CLOSE, EAR_HEARD, EAR_OPEN, EAR_SPOT, EAR_TURN, EAR_VERDICT, EAR_WINDOW,  # noqa: E402
                         ERROR, SPOT_BACKCHANNEL, SPOT_STOP, SPOT_WAKE, STATUS, Worker, read_pcm)
import json  # noqa: E402

ACOUSTIC = Path("/usr/share/pocketsphinx/model/en-us/en-us")
BLOCK = 64 * 1024  # bytes, 2 s
FORWARD = CACHE / "data/pocketsphinx/goforward.raw"


class Skip(Exception):
    """A part is missing."""


def need(*paths):
    for path in paths:
        if not Path(path).exists():
            raise Skip(f"{path} is missing")


def start(*options):
    worker = Worker([sys.argv[1], *options], timeout=90)
    return worker, worker.wait_ready()


def warm(worker):
    """The STATUS that says what a verdict costs."""
    return json.loads(worker.wait(STATUS)[4])


def verdict(worker, pcm, gen):
    worker.send(EAR_TURN, pcm, gen=gen)
    _kind, _session, got, _aux, payload = worker.wait(EAR_VERDICT)
    assert got == gen, (got, gen)
    return struct.unpack("<f", payload)[0]


def test_verdicts():
    """The reference is the model under ONNX Runtime in Python on the features of pipecat: 0.974 and 0.006."""
    need(CACHE / "models/smart-turn-v3.2-cpu.onnx", CACHE / "runtime/libonnxruntime.so", CACHE / "data/jfk.wav")
    worker, ready = start()
    assert "turn_ms" not in ready, ready
    cost = warm(worker)["turn_ms"]
    pcm = read_pcm(CACHE / "data/jfk.wav")
    said, cut = verdict(worker, pcm[: int(3.2 * 32000)], 1), verdict(worker, pcm[: 4 * 32000], 2)
    print(f"# {cost:.0f} ms each; complete {said:.3f}, cut off {cut:.3f}")
    assert abs(said - 0.974) < 0.04 and cut < 0.05
    assert 0 <= verdict(worker, b"", 3) <= 1
    # Only the newest question of a session is answered, besides the one that may be at work already.
    for gen in range(10, 20):
        worker.send(EAR_TURN, pcm[: 4 * 32000], gen=gen)
    answered = []
    while not answered or answered[-1] != 19:
        answered.append(worker.wait(EAR_VERDICT)[2])
    assert len(answered) <= 3, answered
    assert worker.close() == [0]


def test_windows_do_not_wait():
    need(CACHE / "models/smart-turn-v3.2-cpu.onnx", CACHE / "models/silero_vad_16k_op15.onnx", CACHE / "data/jfk.wav")
    worker, _ready = start()
    warm(worker)
    pcm = read_pcm(CACHE / "data/jfk.wav")
    worker.send(EAR_OPEN)
    worker.send(EAR_TURN, pcm[: 8 * 32000], gen=1)
    for at in range(0, 40 * 1024, 1024):
        worker.send(EAR_AUDIO, pcm[at : at + 1024], aux=at // 2)
    windows = before = 0
    judged = False
    while windows < 40 or not judged:
        kind = worker.receive()[0]
        judged |= kind == EAR_VERDICT
        windows += kind == EAR_WINDOW
        before += kind == EAR_WINDOW and not judged
    print(f"# {before} of 40 windows before the verdict")
    assert before >= 20, before
    worker.close()


def hear(worker, pcm, kinds, session=5, pace=0.0):
    """[(kind, phrase, seconds)] of a recording, a second of silence behind it. pace: of real time; above 4 s, the
    spotter drops what it is given too fast."""
    worker.send(EAR_OPEN, session=session)
    worker.send(EAR_SPOT, session=session, flags=kinds)
    pcm = pcm[: len(pcm) // 1024 * 1024] + bytes(32 * 1024)
    heard = []
    for block in range(0, len(pcm), BLOCK):
        part = pcm[block : block + BLOCK]
        for at in range(0, len(part), 1024):
            worker.send(EAR_AUDIO, part[at : at + 1024], session=session, aux=(block + at) // 2)
        windows = 0
        while windows < len(part) // 1024:
            kind, _session, _gen, aux, payload = worker.receive()
            windows += kind == EAR_WINDOW
            if kind == EAR_HEARD:
                heard.append((worker.flags, payload.decode(), aux / 16000))
            assert kind != ERROR, payload
        time.sleep(len(part) / 32000 * pace)
    worker.send(EAR_SPOT, session=session, flags=0)
    worker.socket.settimeout(1)
    try:
        while True:
            kind, _session, _gen, aux, payload = worker.receive()
            if kind == EAR_HEARD:
                heard.append((worker.flags, payload.decode(), aux / 16000))
    except TimeoutError:
        worker.socket.settimeout(90)
    return heard


def test_keyphrases():
    need(ACOUSTIC, FORWARD)
    worker, ready = start("--wake", "go forward", "--turn-model", "")
    assert ready["spot"] is True
    pcm = read_pcm(FORWARD)
    heard = hear(worker, pcm, SPOT_WAKE)
    assert len(heard) == 1 and heard[0][:2] == (SPOT_WAKE, "go forward") and 1.0 < heard[0][2] < 1.4, heard
    assert not [h for h in hear(worker, pcm, SPOT_STOP | SPOT_BACKCHANNEL) if h[0] == SPOT_WAKE]
    assert hear(worker, pcm, 0) == []
    assert not hear(worker, bytes(64000), 7)
    # The position counts on from the session's first sample.
    worker.send(EAR_CLOSE, session=5)
    late = [h[2] for h in hear(worker, bytes(48 * 1024) + pcm, SPOT_WAKE)]
    assert len(late) == 1 and abs(late[0] - heard[0][2] - 48 * 512 / 16000) < 0.15, (late, heard)
    assert worker.close() == [0]


def test_many_listeners():
    """Sixteen sessions listen; the seventeenth is told why it does not."""
    need(ACOUSTIC, FORWARD)
    worker, _ready = start("--wake", "go forward", "--turn-model", "")
    pcm = read_pcm(FORWARD)
    pcm = pcm[: len(pcm) // 1024 * 1024]
    heard, errors = set(), []

    def take():
        kind, session, _gen, _aux, payload = worker.receive()
        if kind == EAR_HEARD:
            heard.add(session)
        elif kind == ERROR:
            errors.append((session, payload.decode()))
        return kind == EAR_WINDOW

    for session in range(17):
        windows = 0
        worker.send(EAR_SPOT, session=session, flags=SPOT_WAKE)
        for at in range(0, len(pcm), 1024):
            worker.send(EAR_AUDIO, pcm[at : at + 1024], session=session, aux=at // 2)
        while windows < len(pcm) // 1024:
            windows += take()
    end = time.monotonic() + 60
    while (len(heard) < 16 or not errors) and time.monotonic() < end:
        take()
    print(f"# {worker.rss_kb() // 1024} MB with {len(heard)} listeners")
    assert len(heard) == 16 and len(errors) == 1 and "16 sessions" in errors[0][1], (heard, errors)
    assert worker.rss_kb() < 450 * 1024  # twice that of a build without sanitizers
    worker.close()


def test_what_is_missing_is_said():
    worker, ready = start("--turn-model", "/nowhere/turn.onnx", "--acoustic-model", "/nowhere/en")
    assert ready["spot"] is False and "pocketsphinx-en-us" in ready["detail"], ready
    status = warm(worker)
    assert "turn_ms" not in status and "silence alone" in status["detail"], status
    worker.send(EAR_TURN, bytes(3200), gen=1)
    worker.send(EAR_SPOT, flags=7)
    assert len(worker.listen(bytes(4096))) == 4
    worker.close()
    worker, ready = start("--turn-model", "", "--wake", "oh")
    assert "too short" in ready["detail"], ready
    worker.close()


def main():
    tests = {name[5:].replace("_", " "): run for name, run in globals().items() if name.startswith("test_")}
    print(f"1..{len(tests)}")
    failed = 0
    for i, (name, run) in enumerate(tests.items(), 1):
        try:
            run()
            print(f"ok {i} - {name}", flush=True)
        except Skip as why:
            print(f"ok {i} - {name} # SKIP {why}", flush=True)
        except Exception as why:  # pylint: disable=broad-except
            failed += 1
            print(f"# line {why.__traceback__.tb_next.tb_lineno}: {type(why).__name__} {why}\nnot ok {i} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
