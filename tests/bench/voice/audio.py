"""Sound as numpy arrays of float32 in -1..1: files, rates, noise, and the echo of a small room."""

import wave

import numpy as np

RATE = 24000  # of every track and recording of the bench
STEP = RATE // 100  # 10 ms, the bench's clock


def read(path):
    """(samples, rate) of a 16-bit WAV file, mixed to mono, or of a .raw file, which is 16 kHz mono."""
    if str(path).endswith(".raw"):
        return np.fromfile(path, "<i2").astype(np.float32) / 32768, 16000
    with wave.open(str(path)) as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{path}: not 16 bit")
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        return data.reshape(-1, file.getnchannels()).mean(axis=1), file.getframerate()


def read_stereo(path):
    """(left, right, rate)"""
    with wave.open(str(path)) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        return data[0::2], data[1::2], file.getframerate()


def to_int16(samples):
    return np.clip(np.round(np.asarray(samples) * 32767), -32768, 32767).astype("<i2")


def to_float(pcm):
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


def joined(pieces):
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def write_stereo(path, left, right, rate=RATE):
    both = np.empty(2 * len(left), "<i2")
    both[0::2], both[1::2] = to_int16(left), to_int16(right)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(both.tobytes())


def resample(samples, old, new):
    """A whole recording to another rate, through its spectrum."""
    if old == new or len(samples) == 0:
        return np.asarray(samples, np.float32)
    pad = old // 10  # so that the end does not wrap into the beginning
    padded = np.concatenate([np.zeros(pad), samples, np.zeros(pad)])
    length = int(round(len(padded) * new / old))
    spectrum = np.fft.rfft(padded)
    bins = length // 2 + 1
    kept = np.zeros(bins, complex)
    n = min(bins, len(spectrum))
    kept[:n] = spectrum[:n]
    out = np.fft.irfft(kept, length) * (length / len(padded))
    start = int(round(pad * new / old))
    return out[start : start + int(round(len(samples) * new / old))].astype(np.float32)


class To16k:
    """24 kHz to 16 kHz piece by piece: two samples for one, a low-pass at 7.2 kHz, every third. Pieces must be even."""

    TAPS = 96

    def __init__(self):
        n = np.arange(self.TAPS) - (self.TAPS - 1) / 2
        cut = 7200 / (2 * RATE)
        self.filter = np.sinc(2 * cut * n) * 2 * cut * np.hanning(self.TAPS) * 2
        self.tail = np.zeros(self.TAPS - 1)
        self.phase = 0

    def __call__(self, piece):
        up = np.zeros(2 * len(piece))
        up[0::2] = piece
        data = np.concatenate([self.tail, up])
        self.tail = data[len(data) - (self.TAPS - 1) :]
        out = np.convolve(data, self.filter, "valid")[self.phase :: 3]
        self.phase = (self.phase - len(up)) % 3
        return out.astype(np.float32)


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def gain(db):
    return 10 ** (db / 20)


def hiss(n, seed):
    """Noise whose power falls with 3 dB an octave from 100 Hz on, as fans and streets have it; RMS 1."""
    random = np.random.default_rng(seed)
    spectrum = np.fft.rfft(random.standard_normal(n))
    f = np.fft.rfftfreq(n, 1 / RATE)
    spectrum /= np.sqrt(np.maximum(f, 100) / 100)
    out = np.fft.irfft(spectrum, n)
    return (out / rms(out)).astype(np.float32)


def bang(seed):
    """A door or a dropped book: 0.35 s of noise with a sharp onset; peak 1."""
    random = np.random.default_rng(seed)
    n = int(0.35 * RATE)
    burst = random.standard_normal(n) * np.exp(-np.arange(n) / (0.06 * RATE))
    burst = np.convolve(burst, np.hanning(24) / 12, "same")
    return (burst / np.max(np.abs(burst))).astype(np.float32)


def room(seed=1, rt60=0.25):
    """Impulse response of a small room: the direct sound, some early reflections, a tail that falls 60 dB in rt60 seconds.
    Its energy is 1, so that a level in dB is the level of the whole echo."""
    random = np.random.default_rng(seed)
    n = int(rt60 * RATE)
    response = random.standard_normal(n) * 10 ** (-3 * np.arange(n) / n) * 0.12
    response[: RATE // 200] = 0
    response[0] = 1
    for ms, level in ((3.1, 0.55), (5.7, -0.4), (9.2, 0.33), (13.4, -0.25), (19.8, 0.2)):
        response[int(ms * RATE / 1000)] += level
    return (response / np.sqrt(np.sum(response**2))).astype(np.float32)


class Echo:
    """What a microphone picks up of the loudspeaker: the agent's sound through a room, `delay_ms` late, `db` of its level,
    its clock off by `ppm`. Feed it what is played, step by step; it gives the microphone's part of the same step."""

    def __init__(self, delay_ms, db, ppm=0, seed=1):
        if delay_ms < 20:
            raise ValueError("an echo must be at least 20 ms late")
        self.response = room(seed) * gain(db)
        self.fft = 1 << (len(self.response) + STEP * 4).bit_length()
        self.spectrum = np.fft.rfft(self.response, self.fft)
        self.delay = delay_ms * RATE / 1000
        self.ratio = 1 + ppm * 1e-6
        self.heard = np.zeros(0, np.float32)  # the loudspeaker in the room, at its own clock
        self.tail = np.zeros(len(self.response) - 1, np.float32)
        self.first = 0  # sample number of heard[0]
        self.now = 0

    def step(self, played):
        n = len(played) + len(self.response) - 1
        sound = np.fft.irfft(np.fft.rfft(played, self.fft) * self.spectrum, self.fft)[:n].astype(np.float32)
        sound[: len(self.tail)] += self.tail
        self.heard = np.concatenate([self.heard, sound[: len(played)]])
        self.tail = sound[len(played) :]
        at = (self.now + np.arange(len(played))) * self.ratio - self.delay
        self.now += len(played)
        whole = np.floor(at).astype(int)
        part = (at - whole).astype(np.float32)
        index = whole - self.first
        good = (index >= 0) & (index + 1 < len(self.heard))
        index = np.where(good, index, 0)
        out = np.where(good, self.heard[index] * (1 - part) + self.heard[np.minimum(index + 1, len(self.heard) - 1)] * part, 0)
        keep = int(self.delay) + RATE
        if len(self.heard) > 4 * keep:
            self.first += len(self.heard) - keep
            self.heard = self.heard[-keep:]
        return out.astype(np.float32)
