"""Talks to a worker (choir-ear, choir-stt, choir-tts) over the frames of src/speech/wire.h. Standard library only."""

import json
import os
import signal
import socket
import struct
import subprocess
import time
import wave
from pathlib import Path

MAGIC = 0x31574843
READY, ERROR, STATUS = 1, 2, 3
EAR_OPEN, EAR_CLOSE, EAR_AUDIO, EAR_WINDOW = 16, 17, 18, 19
EAR_TURN, EAR_SPOT, EAR_VERDICT, EAR_HEARD = 20, 21, 24, 25
SPOT_STOP, SPOT_BACKCHANNEL, SPOT_WAKE = 1, 2, 4
STT_JOB, STT_CANCEL, STT_TEXT = 32, 33, 34
TTS_JOB, TTS_CANCEL, TTS_PCM, TTS_DONE, TTS_MOUTH = 48, 49, 50, 51, 52

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "choir"


class WorkerError(Exception):
    """The worker said ERROR, or died."""


class Worker:
    """One process. phonemes: argv of choir-phonemes, joined to the worker's descriptor 4."""

    def __init__(self, argv, phonemes=None, timeout=60, env=None, quiet=True):
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno()]
        self.children = []
        sink = subprocess.DEVNULL if quiet else None
        if phonemes:
            left, right = socket.socketpair()
            fds.append(left.fileno())
            self.children.append(self._spawn(phonemes, [right.fileno()], env, sink))
            right.close()
        self.process = self._spawn(argv, fds, env, sink)
        self.children.append(self.process)
        theirs.close()
        if phonemes:
            left.close()
        self.socket = ours
        self.socket.settimeout(timeout)
        self.buffer = b""
        self.ready = None
        self.flags = 0  # of the last frame

    @staticmethod
    def _spawn(argv, fds, env, sink):
        """The program sees fds as 3, 4, ... ; they are moved up first, as dup2 could overwrite one of them."""

        def place():
            high = [os.dup(os.dup2(fd, 100 + i)) for i, fd in enumerate(fds)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)

        full = dict(os.environ, **(env or {}))
        return subprocess.Popen(
            argv, env=full, preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL, stderr=sink, stdout=sink
        )

    def send(self, kind, payload=b"", session=1, gen=1, aux=0, flags=0):
        header = struct.pack("<IHHIIII", MAGIC, kind, flags, session, gen, len(payload), aux)
        self.socket.sendall(header + payload)

    def receive(self):
        """(type, session, gen, aux, payload) of the next frame."""
        while True:
            if len(self.buffer) >= 24:
                magic, kind, self.flags, session, gen, length, aux = struct.unpack("<IHHIIII", self.buffer[:24])
                if magic != MAGIC:
                    raise WorkerError("bad magic")
                if len(self.buffer) >= 24 + length:
                    payload = self.buffer[24 : 24 + length]
                    self.buffer = self.buffer[24 + length :]
                    return kind, session, gen, aux, payload
            chunk = self.socket.recv(1 << 16)
            if not chunk:
                raise WorkerError(f"died with {describe(self.process.wait(10))}")
            self.buffer += chunk

    def wait(self, wanted):
        """The next frame of a type; ERROR raises."""
        while True:
            frame = self.receive()
            if frame[0] == ERROR:
                raise WorkerError(frame[4].decode())
            if frame[0] == wanted:
                return frame

    def wait_ready(self):
        self.ready = json.loads(self.wait(READY)[4])
        return self.ready

    def rss_kb(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        return -1

    def close(self):
        """Closes the socket; returns the exit codes of all processes."""
        self.socket.close()
        codes = []
        for child in reversed(self.children):
            try:
                codes.append(child.wait(20))
            except subprocess.TimeoutExpired:
                child.kill()
                codes.append(child.wait())
        return codes

    def transcribe(self, pcm, gen=1):
        self.send(STT_JOB, pcm, gen=gen)
        return json.loads(self.wait(STT_TEXT)[4])

    def speak(self, text, gen=1):
        """(samples as bytes, DONE object)"""
        self.send(TTS_JOB, text.encode(), gen=gen)
        pcm = b""
        while True:
            kind, _session, _gen, _aux, payload = self.receive()
            if kind == ERROR:
                raise WorkerError(payload.decode())
            if kind == TTS_PCM:
                pcm += payload
            elif kind == TTS_DONE:
                return pcm, json.loads(payload)

    def listen(self, pcm, session=1):
        """Speech probabilities of all whole windows."""
        windows = len(pcm) // 1024
        self.send(EAR_OPEN, session=session)
        probabilities = []
        for at in range(0, windows * 1024, 1024):
            self.send(EAR_AUDIO, pcm[at : at + 1024], session=session, aux=at // 2)
            probabilities.append(struct.unpack("<ff", self.wait(EAR_WINDOW)[4])[0])
        return probabilities


def describe(code):
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def read_pcm(path):
    """16 kHz mono s16 bytes of a .wav or .raw file."""
    if str(path).endswith(".raw"):
        return Path(path).read_bytes()
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (16000, 1, 2):
            raise ValueError(f"{path}: not 16 kHz mono 16 bit")
        return file.readframes(file.getnframes())


def now():
    return time.monotonic()
