#!/usr/bin/python3
"""Hits and false alarms of the keyphrase spotter, through choir-ear, gate and all. A measurement, no test.

usage: spot_measure.py BUILD_DIR

Negative: the recordings of real speech in the cache, in which none of the phrases stands alone. Positive: each phrase
alone, spoken by Piper (twice at three speeds) and flite (two speeds). These voices are synthetic: the hits only compare
phrases and thresholds, they do not say what people will get."""

import array
import re
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/unit/speech"))
from ear_test import hear  # noqa: E402
from wire_client import CACHE, SPOT_BACKCHANNEL, SPOT_STOP, SPOT_WAKE, Worker, read_pcm  # noqa: E402

KINDS = {SPOT_STOP: "stop", SPOT_BACKCHANNEL: "backchannel", SPOT_WAKE: "wake"}
SPOKEN = {"mm-hmm": "mm hmm", "uh-huh": "uh huh", "i see": "I see"}
WAKE = "hey choir"


def phrases():
    source = (ROOT / "src/speech/spot_phrases.c").read_text(encoding="utf-8")
    return list(dict.fromkeys(re.findall(r'\{"([^"]+)", "[A-Z ]+", CHOIR_SPOT', source))) + [WAKE]


def at_16k(pcm, rate):
    command = ["sox", "-t", "raw", "-r", str(rate), "-e", "signed", "-b", "16", "-c", "1", "-", "-t", "raw", "-r", "16000", "-", "pad", "0.5", "0.5"]
    return subprocess.run(command, input=pcm, stdout=subprocess.PIPE, check=True).stdout


def recordings():
    for name in ("jfk", "beckett", "two_cities", "endgame_nagg_nell"):
        path = CACHE / f"data/{name}.wav"
        if path.exists():
            yield name, subprocess.run(["sox", str(path), "-t", "raw", "-r", "16000", "-c", "1", "-e", "signed", "-b", "16", "-", "gain", "-2"],
                                       stdout=subprocess.PIPE, check=True).stdout
    for path in sorted((CACHE / "data/pocketsphinx").glob("*/*.wav")):
        yield path.stem[-4:], read_pcm(path)


def main():
    build = Path(sys.argv[1]) / "src/speech"
    ear = Worker([str(build / "choir-ear"), "--turn-model", ""], timeout=300)
    ear.wait_ready()
    seconds, alarms = 0.0, []
    for name, pcm in recordings():
        seconds += len(pcm) / 32000
        for kind, phrase, at in hear(ear, pcm, 7, pace=0.15):
            alarms.append((KINDS[kind], f"{phrase} ({name} {at:.1f})"))
    print(f"{seconds:.0f} s of recorded speech, false alarms:")
    for kind in KINDS.values():
        print(f"  {kind}: {', '.join(text for k, text in alarms if k == kind) or 'none'}")
    hits = {phrase: [0, 0, 0] for phrase in phrases()}
    for engine, speed, times in (("piper", 0.9, 2), ("piper", 1, 2), ("piper", 1.2, 2), ("flite", 0.9, 1), ("flite", 1.1, 1)):
        companion = [str(build / "choir-phonemes")] if engine == "piper" else None
        voice = Worker([str(build / "choir-tts"), "--engine", engine, "--speed", str(speed)], phonemes=companion, timeout=300)
        voice.wait_ready()
        for phrase, count in hits.items():
            for _ in range(times):
                pcm, _done = voice.speak(SPOKEN.get(phrase, phrase) + ".")
                loud = max(1, max(abs(s) for s in array.array("h", pcm)))
                quiet = array.array("h", (s * 12000 // loud for s in array.array("h", pcm))).tobytes()
                heard = hear(ear, at_16k(quiet, 24000), 7)
                own = {k for k, p, _at in heard if p == phrase}
                count[0] += 1
                count[1] += bool(own)
                count[2] += not own and bool(heard)
        voice.close()
    print("phrase: heard, taken for another one, of")
    for phrase, (n, own, other) in hits.items():
        print(f"  {phrase}: {own}, {other}, {n}")
    print(f"all: {sum(c[1] for c in hits.values())} of {sum(c[0] for c in hits.values())}")
    ear.close()


if __name__ == "__main__":
    main()
