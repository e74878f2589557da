"""The dialogue builder: caller tracks out of real recordings, and the truth about them.

tests/data/voice/clips.json says where speech begins and ends in each recording, dialogues.json what is said when, and
truth.json (made by `run --write-truth`, compared by the tests) when each utterance's speech, pauses and end are."""

import json
from dataclasses import dataclass
from pathlib import Path

import audio
import numpy as np
from audio import RATE, gain, rms

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests/data/voice"
SPEECH_DB = -23.0  # every clip's level while it speaks
FLOOR_DB = -66.0  # a microphone's own noise, always there
SIDETALK_DB = -12.0  # somebody else in the room, against the caller
ROLES = ("turn", "interruption", "backchannel", "noise", "sidetalk")


class Problem(Exception):
    """Said to the person in one sentence."""


@dataclass
class Utterance:
    """sound at RATE; speech: [[first, last], ...] and pauses in ms from its beginning; text as it is in the truth files."""

    role: str
    sound: np.ndarray
    speech: list
    pauses: list
    text: str

    def truth(self):
        return {"role": self.role, "ms": to_ms(len(self.sound)), "speech": self.speech, "pauses": self.pauses, "text": self.text}


def to_ms(samples):
    return round(samples * 1000 / RATE)


def to_samples(ms):
    return round(ms * RATE / 1000)


def load(name):
    return json.loads((DATA / name).read_text(encoding="utf-8"))


class Builder:
    """data: folder of the recordings. speak(words) -> samples at RATE, for what nobody has recorded (backchannels)."""

    def __init__(self, data, speak=None):
        self.data, self.speak = Path(data), speak
        self.clips = load("clips.json")["clips"]
        self.cache = {}

    def _recording(self, file):
        if file not in self.cache:
            path = self.data / file
            if not path.is_file():
                raise Problem(f"{path} is missing: run tools/fetch-parts --set test and tools/prepare-models --test-data")
            self.cache[file] = audio.read(path)
        return self.cache[file]

    def clip(self, name):
        """(samples, first sound, end of the last sound) at RATE, at the level of all clips, its edges faded over 10 ms."""
        if name not in self.clips:
            raise Problem(f"there is no clip '{name}' in {DATA / 'clips.json'}")
        spec = self.clips[name]
        sound, rate = self._recording(spec["file"])
        sound = audio.resample(sound[round(spec["from"] * rate) : round(spec["to"] * rate)], rate, RATE)
        first, last = (round((at - spec["from"]) * RATE) for at in spec["speech"])
        sound = sound * (gain(SPEECH_DB) / max(rms(sound[first:last]), 1e-6))
        return faded(np.clip(sound, -1, 1)), first, min(last, len(sound)), spec["text"]

    def part(self, name):
        if name == "bang":
            sound = audio.bang(7) * gain(-8)
            return sound, 0, len(sound), ""
        if name.startswith("flite:"):
            words = name[6:].replace("-", " ")
            if not self.speak:
                raise Problem(f"'{name}' needs the flite voice of choir-tts")
            sound = self.speak(words)
            loud = np.flatnonzero(np.abs(sound) > np.max(np.abs(sound)) * gain(-27))
            first, last = int(loud[0]), int(loud[-1]) + 1
            return sound * (gain(SPEECH_DB) / rms(sound[first:last])), first, last, words
        return self.clip(name)

    def utterance(self, role, parts):
        """Joins parts; a number is the time in ms between the last sound before it and the first sound behind it."""
        if role not in ROLES:
            raise Problem(f"'{role}' is no role of an utterance; it is one of {', '.join(ROLES)}")
        pieces, speech, pauses, text, at, wanted = [], [], [], [], 0, None
        for part in parts:
            if isinstance(part, (int, float)):
                wanted = to_samples(part)
                continue
            sound, first, last, words = self.part(part)
            if wanted is not None:
                gap = wanted - (at - speech[-1][1]) - first
                if gap < 0:
                    raise Problem(f"a pause of {to_ms(wanted)} ms is shorter than the edges of the clips around it")
                pieces.append(np.zeros(gap, np.float32))
                pauses.append([speech[-1][1], speech[-1][1] + wanted])
                at += gap
                wanted = None
            pieces.append(sound)
            speech.append([at + first, at + last])
            at += len(sound)
            text.append(words)
        sound = np.concatenate(pieces) * (gain(SIDETALK_DB) if role == "sidetalk" else 1)
        spans = lambda list_: [[to_ms(a), to_ms(b)] for a, b in list_]  # noqa: E731
        return Utterance(role, sound.astype(np.float32), spans(speech), spans(pauses), " ".join(text))

    def dialogue(self, spec):
        """The utterances of a dialogue by the number of their step."""
        return {i: self.utterance(step[1], step[2]) for i, step in enumerate(spec["steps"]) if step[0] == "say"}


def faded(sound, ms=10):
    n = min(to_samples(ms), len(sound) // 2)
    ramp = np.linspace(0, 1, n, dtype=np.float32)
    out = np.array(sound, np.float32)
    out[:n] *= ramp
    out[len(out) - n :] *= ramp[::-1]
    return out


def all_truth(builder):
    """What truth.json holds: flite's words are left out, for their length is the voice's, not ours."""
    truth = {}
    for spec in load("dialogues.json")["dialogues"]:
        for i, step in enumerate(spec["steps"]):
            if step[0] == "say" and not any(str(p).startswith("flite:") for p in step[2]):
                truth[f"{spec['name']}/{i}"] = builder.utterance(step[1], step[2]).truth()
    return truth


def write_truth(builder):
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in all_truth(builder).items())
    about = "When the speech, the pauses and the end of each utterance are, in ms from its beginning. Made by tests/bench/voice/run --write-truth."
    (DATA / "truth.json").write_text(f'{{\n "about": {json.dumps(about)},\n "utterances": {{\n{lines}\n }}\n}}\n', encoding="utf-8")


def background(spec, n, seed):
    """The sound that lies under a whole dialogue: the microphone's floor, and noise at snr_db below the caller."""
    loop = 10 * RATE  # noise has no seam: it is made periodic
    sound = audio.hiss(loop, seed) * gain(FLOOR_DB)
    if "noise" in spec:
        sound = sound + audio.hiss(loop, seed + 1) * gain(SPEECH_DB - spec["noise"]["snr_db"])
    return np.resize(sound, n).astype(np.float32)
