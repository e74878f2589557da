#!/usr/bin/python3
"""choir-tts as a whole: words and mouth shapes against the sound itself, the first sound before the last, the choice of
the engine. Prints TAP.

usage: voice_test.py CHOIR_TTS CHOIR_PHONEMES

The referee is the sound: pauses by loudness, sibilants by the share of high frequencies, closed lips by the dip in
loudness that they leave. None of them knows about phonemes."""

import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from wire_client import CACHE, ERROR, TTS_CANCEL, TTS_DONE, TTS_JOB, TTS_MOUTH, TTS_PCM, Worker, WorkerError  # noqa: E402
import json  # noqa: E402

try:
    import numpy as np
except ImportError as error:
    print(f"1..0 # SKIP {error}; Debian: python3-numpy")
    sys.exit(0)

VOICE = CACHE / "models/en_US-joe-medium"
HOP = 120  # 5 ms
TEXTS = (
    "Maybe Bob bought my pumpkin pie, papa.", "She sells six sea shells, so she says.", "A big paper bag, a cup, and a soap bar.",
    "This is such a nice house, Susan.", "Stop, please, she said. Yes, of course.", "The boys push the blue bus past the shops.",
)
SHAPES = {"sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U"}


class Skip(Exception):
    """A part is missing."""


def start(engine, *options):
    companion = [sys.argv[2]] if engine in ("piper", "auto") else None
    worker = Worker([sys.argv[1], "--engine", engine, *options], phonemes=companion, timeout=120)
    try:
        worker.wait_ready()
    except WorkerError as error:
        worker.close()
        raise Skip(str(error)) from error
    return worker


def need_voice():
    if not Path(f"{VOICE}.decoder.onnx").exists():
        raise Skip(f"{VOICE}.decoder.onnx is missing")


def check_table(text, done):
    """Shapes cover the clause, words lie in it in order."""
    shapes, last = done["visemes"], 0
    assert shapes[0][0] == 0 and {name for _first, name in shapes} <= SHAPES, shapes
    assert all(a[0] < b[0] and a[1] != b[1] for a, b in zip(shapes, shapes[1:])) and shapes[-1][0] < done["samples"], shapes
    for row in done["words"]:
        assert len(row) == 5, (text, row)
        assert last <= row[3] < row[4] < done["samples"], (text, done["words"])
        last = row[3]


class Sound:
    def __init__(self, pcm):
        x = np.frombuffer(pcm, np.int16).astype(float)
        self.n = len(x) // HOP - 2
        power = np.array([np.mean(x[i * HOP : (i + 2) * HOP] ** 2) for i in range(self.n)]) + 1
        steep = np.diff(x, append=0)
        self.hiss = np.array([np.mean(steep[i * HOP : (i + 2) * HOP] ** 2) for i in range(self.n)]) / power
        self.db = 10 * np.log10(power)
        self.floor = np.percentile(self.db, 95) - 30

    def sibilant_onset(self, middle):
        at = middle
        while at > 0 and self.hiss[at - 1] > self.hiss[middle] / 2:
            at -= 1
        return at * HOP

    def pause(self, middle):
        """(begin, end) of the quiet around a place, or None."""
        if self.db[middle] >= self.floor:
            return None
        begin = end = middle
        while end < self.n - 1 and self.db[end] < self.floor:
            end += 1
        while begin > 0 and self.db[begin] < self.floor:
            begin -= 1
        return (begin + 1) * HOP, end * HOP


def onset_errors(pcm, done):
    """Samples between what the table says and what is heard; and for closed lips the distance to the dip."""
    sound, errors, dips = Sound(pcm), [], []
    table = done["visemes"] + [[done["samples"], "end"]]
    for (first, name), (behind, _next) in zip(table, table[1:]):
        a, b = first // HOP, min(behind // HOP, sound.n - 1)
        middle = min(a + (b - a) // 2, sound.n - 1)
        if name in ("SS", "CH") and behind - first > 1200:
            errors.append(sound.sibilant_onset(middle) - first)
        elif name == "sil" and first > 0 and behind < done["samples"] and (quiet := sound.pause(middle)):
            errors += [quiet[0] - first, quiet[1] - behind]
        elif name == "PP" and first > 2400 and b + 12 < sound.n:
            dip = (max(0, a - 12) + int(np.argmin(sound.db[max(0, a - 12) : b + 12])) + 1) * HOP
            dips.append(min(dip - first, 0) if dip < behind else dip - behind)
    return errors, dips


def check_onsets(worker, times):
    errors, dips = [], []
    for text in TEXTS * times:
        pcm, done = worker.speak(text)
        assert len(pcm) == 2 * done["samples"]
        check_table(text, done)
        more = onset_errors(pcm, done)
        errors += more[0]
        dips += more[1]
    errors, dips = np.abs(errors) / 24, np.abs(dips) / 24
    p95, closed = np.percentile(errors, 95), np.percentile(dips, 90)
    print(f"# {len(errors)} onsets: mean {errors.mean():.0f} ms, p95 {p95:.0f} ms; {len(dips)} closures: p90 {closed:.0f} ms from the dip")
    assert len(errors) > 25 and p95 <= 80, errors
    assert len(dips) > 10 and closed <= 80, dips


def test_piper_onsets():
    need_voice()
    worker = start("piper")
    check_onsets(worker, 2)  # its durations have a part of chance
    assert worker.close() == [0, 0]


def test_flite_onsets():
    worker = start("flite")
    check_onsets(worker, 1)
    assert worker.close() == [0]


def test_first_sound_comes_early():
    need_voice()
    worker = start("piper")
    text = "The weather in the mountains changes faster than anybody in the valley would ever believe"
    worker.send(TTS_JOB, text.encode())
    frames, early = [], []
    while True:
        kind, _session, _gen, _aux, payload = worker.receive()
        assert kind != ERROR, payload
        if kind == TTS_DONE:
            break
        if kind == TTS_MOUTH:  # before the sound it is about
            mouth = json.loads(payload)
            assert mouth["first"] == sum(frames) and mouth["visemes"][0][0] >= sum(frames) - 240, (mouth, frames)
            early += mouth["visemes"]
        else:
            assert early, "sound without mouth shapes"
            frames.append(len(payload) // 2)
    # The first shape of a stretch may repeat the last one before it; the rest is DONE's table.
    changes = [row for before, row in zip([[0, ""], *early], early, strict=False) if row[1] != before[1]]
    assert changes == [row for row in json.loads(payload)["visemes"]], (changes, payload)
    total = json.loads(payload)["samples"]
    print(f"# {len(frames)} pieces of {total} samples, the first {frames[0]}")
    assert sum(frames) == total and len(frames) >= 3 and frames[0] < 24000 * 0.4, frames
    # A cancel is seen between two pieces.
    worker.send(TTS_JOB, text.encode(), gen=2)
    worker.wait(TTS_PCM)
    worker.send(TTS_CANCEL, gen=2)
    worker.send(TTS_JOB, b"Yes.", gen=3)
    _kind, _session, gen, _aux, _payload = worker.wait(TTS_DONE)
    assert gen == 3, gen
    worker.close()


def test_whole_voice_stands_in():
    """Without the two halves the voice is used whole: sound and words, no table."""
    need_voice()
    with tempfile.TemporaryDirectory() as folder:
        for name in (".onnx", ".onnx.json"):
            (Path(folder) / f"voice{name}").symlink_to(f"{VOICE}{name}")
        worker = start("piper", "--model", f"{folder}/voice.onnx")
        pcm, done = worker.speak("Good morning.")
        worker.close()
    assert len(pcm) == 2 * done["samples"] > 24000 and "visemes" not in done, done
    assert all(len(row) == 3 and row[2] > 0 for row in done["words"]), done


def test_numbers_and_joined_words():
    need_voice()
    worker = start("piper")
    for text in ("It costs 23 dollars.", "Out of the box, Dr. Smith!", "One. Two. Three.", "na\u00efve \u2013 caf\u00e9"):
        _pcm, done = worker.speak(text)
        print(f"# {text}: {[row[3:] for row in done['words']]}")
        assert done["visemes"] and sum(len(row) == 5 for row in done["words"]) >= 2, done
    worker.close()


def test_auto():
    need_voice()
    worker = start("auto")
    ready = worker.ready
    print(f"# {ready['tier']}: {ready['reason']}")
    assert ready["tier"] == ("full" if ready["realtime"] < 0.7 else "light"), ready
    assert ready["engine"] == ("piper" if ready["tier"] == "full" else "flite") and f"{ready['realtime']:.2f}" in ready["reason"], ready
    assert worker.speak("Good morning.")[1]["samples"] > 12000
    worker.close()
    worker = start("auto", "--model", "/nowhere/voice.onnx")
    assert worker.ready["engine"] == "flite" and "/nowhere/voice" in worker.ready["reason"], worker.ready
    assert worker.speak("Good morning.")[1]["visemes"]
    worker.close()


def main():
    tests = {name[5:].replace("_", " "): run for name, run in globals().items() if name.startswith("test_")}
    print(f"1..{len(tests)}")
    failed = 0
    for i, (name, run) in enumerate(tests.items(), 1):
        begin = time.monotonic()
        try:
            run()
            print(f"# {time.monotonic() - begin:.0f} s\nok {i} - {name}", flush=True)
        except Skip as why:
            print(f"ok {i} - {name} # SKIP {why}", flush=True)
        except Exception as why:  # pylint: disable=broad-except
            failed += 1
            print(f"# line {why.__traceback__.tb_next.tb_lineno}: {type(why).__name__} {why}\nnot ok {i} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
