#!/usr/bin/env python3
"""Runs each worker as a Core 2 Duo (SSSE3, no SSE4) would: one illegal instruction ends the program with SIGILL.

usage: qemu_workers.py [--full] [--cpu NAME]
Quick: choir-ear, choir-phonemes, choir-tts with flite, choir-stt with a grammar. --full adds smart-turn, Whisper (the x64
variant of ggml) and Piper, which take minutes. Prints TAP. CHOIR_BUILD names the build folder (default build/)."""

import argparse
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests/unit/speech"))
from wire_client import (CACHE, EAR_AUDIO, EAR_HEARD, EAR_SPOT, EAR_TURN, EAR_VERDICT, SPOT_WAKE, STATUS, Worker,  # noqa: E402
                         WorkerError, describe, now, read_pcm)

BIN = Path(os.environ.get("CHOIR_BUILD") or ROOT / "build") / "src/speech"
# choir-stt starts itself a second time to calm OpenMP; that second start would leave the emulator.
ENV = {"OMP_WAIT_POLICY": "passive", "CHOIR_CPU_VARIANT": "x64"}


class Skip(Exception):
    """A part is missing; the text says which."""


class Wrong(Exception):
    """The program ran, its answer is not right."""


def need(path):
    if not Path(path).exists():
        raise Skip(f"{path} is missing")
    return path


def close(worker):
    """All processes must end well."""
    codes = worker.close()
    if any(codes):
        raise Wrong(f"ended with {', '.join(describe(code) for code in codes)}")


def tiny_avx_program(folder):
    """An ELF file of one AVX instruction and exit(0)."""
    code = bytes.fromhex("c5fc57c0") + bytes.fromhex("b83c00000031ff0f05")
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120 + len(code), 120 + len(code), 0x1000)
    path = Path(folder) / "avx"
    path.write_bytes(header + segment + code)
    path.chmod(0o755)
    return path


def emulator_traps(qemu):
    with tempfile.TemporaryDirectory() as folder:
        program = tiny_avx_program(folder)
        code = subprocess.run([*qemu, str(program)], check=False, stderr=subprocess.DEVNULL).returncode
    if code not in (-4, 132):
        raise Wrong(f"an AVX instruction was let through ({describe(code)}): this emulator proves nothing")
    return "AVX gives SIGILL"


def ear(qemu, engine, seconds):
    need(CACHE / "models/silero_vad_16k_op15.onnx")
    pcm = read_pcm(need(CACHE / "data/jfk.wav"))[: int(32000 * seconds)]
    worker = Worker([*qemu, str(BIN / "choir-ear"), "--engine", engine, "--turn-model", ""], timeout=120, env=ENV)
    ready = worker.wait_ready()
    if ready["engine"] != engine:
        raise Wrong(ready["detail"])
    probabilities = worker.listen(pcm)
    quiet = worker.listen(bytes(32000), session=2)
    close(worker)
    speech = sum(p > 0.5 for p in probabilities)
    if speech < len(probabilities) / 4 or max(quiet) > 0.3:
        raise Wrong(f"speech in {speech} of {len(probabilities)} windows, in silence up to {max(quiet):.2f}")
    return f"speech in {speech} of {len(probabilities)} windows"


def keyphrase(qemu):
    need("/usr/share/pocketsphinx/model/en-us/en-us")
    pcm = read_pcm(need(CACHE / "data/pocketsphinx/goforward.raw"))[: 32 * 1600]
    argv = [*qemu, str(BIN / "choir-ear"), "--engine", "energy", "--turn-model", "", "--wake", "go forward"]
    worker = Worker(argv, timeout=120, env=ENV)
    worker.wait_ready()
    worker.send(EAR_SPOT, flags=SPOT_WAKE)
    for at in range(0, len(pcm) // 1024 * 1024, 1024):
        worker.send(EAR_AUDIO, pcm[at : at + 1024], aux=at // 2)
    frame = worker.wait(EAR_HEARD)
    close(worker)
    if frame[4] != b"go forward":
        raise Wrong(f"heard {frame[4]!r}")
    return f"go forward at {frame[3] / 16000:.2f} s"


def turn(qemu):
    need(CACHE / "models/smart-turn-v3.2-cpu.onnx")
    pcm = read_pcm(need(CACHE / "data/jfk.wav"))
    worker = Worker([*qemu, str(BIN / "choir-ear"), "--engine", "energy"], timeout=600, env=ENV)
    worker.wait_ready()
    worker.wait(STATUS)
    said = []
    for seconds in (3.2, 4):
        worker.send(EAR_TURN, pcm[: int(seconds * 32000)], gen=int(seconds * 10))
        said.append(struct.unpack("<f", worker.wait(EAR_VERDICT)[4])[0])
    close(worker)
    if said[0] < 0.9 or said[1] > 0.1:
        raise Wrong(f"complete {said[0]:.3f}, cut off {said[1]:.3f}")
    return f"complete {said[0]:.3f}, cut off {said[1]:.3f}"


def phonemes(qemu):
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(
        [*qemu, str(BIN / "choir-phonemes"), "--fd", str(theirs.fileno())],
        pass_fds=[theirs.fileno()], env=dict(os.environ, **ENV), stderr=subprocess.DEVNULL,
    )
    theirs.close()
    ours.settimeout(60)
    ours.sendall("5\tHello, it costs 23 dollars\n".encode())
    try:
        answer = ours.makefile("r", encoding="utf-8").readline()
    finally:
        ours.shutdown(socket.SHUT_RDWR)
        ours.close()
    code = child.wait(20)
    if code or not answer.startswith("5\thəlˈoʊ"):
        raise Wrong(f"{describe(code)}, answered {answer!r}")
    return answer.split("\t")[1]


def voice(qemu, engine, text, with_phonemes):
    companion = [*qemu, str(BIN / "choir-phonemes")] if with_phonemes else None
    argv = [*qemu, str(BIN / "choir-tts"), "--engine", engine, "--threads", "1"]
    worker = Worker(argv, phonemes=companion, timeout=900, env=ENV)
    worker.wait_ready()
    pcm, done = worker.speak(text)
    close(worker)
    loud = max(abs(s) for (s,) in struct.iter_unpack("<h", pcm)) if pcm else 0
    if not 9600 < done["samples"] < 96000 or loud < 1000:
        raise Wrong(f"{done['samples']} samples, peak {loud}")
    return f"{done['samples'] / 24000:.2f} s of sound"


def recognise(qemu, options, path, expected):
    worker = Worker([*qemu, str(BIN / "choir-stt"), *options], timeout=1500, env=ENV)
    worker.wait_ready()
    text = worker.transcribe(read_pcm(need(path)))["text"]
    close(worker)
    if expected not in text.lower():
        raise Wrong(f"heard {text!r}")
    return text


def cases(qemu, full):
    grammar = ["--engine", "pocketsphinx", "--grammar", str(ROOT / "src/speech/data/commands.gram")]
    forward = CACHE / "data/pocketsphinx/goforward.raw"
    yield "the emulator refuses AVX", lambda: emulator_traps(qemu)
    yield "choir-ear, Silero", lambda: ear(qemu, "silero", 1.5)
    yield "choir-ear, energy gate", lambda: ear(qemu, "energy", 4)
    yield "choir-ear, keyphrase", lambda: keyphrase(qemu)
    yield "choir-phonemes", lambda: phonemes(qemu)
    yield "choir-tts, flite", lambda: voice(qemu, "flite", "Yes, it is on.", False)
    yield "choir-stt, grammar", lambda: recognise(qemu, grammar, forward, "go forward ten meters")
    if full:
        whisper = ["--engine", "whisper", "--threads", "1"]
        yield "choir-ear, smart-turn", lambda: turn(qemu)
        yield "choir-tts, Piper", lambda: voice(qemu, "piper", "Yes, it is on.", True)
        yield "choir-stt, Whisper x64", lambda: recognise(qemu, whisper, forward, "forward")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--full", action="store_true", help="Whisper and Piper too")
    parser.add_argument("--cpu", default="core2duo", help="qemu's processor model")
    options = parser.parse_args()
    if not shutil.which("qemu-x86_64"):
        print("1..0 # SKIP qemu-x86_64 is not installed (Debian: qemu-user)")
        return 0
    listed = list(cases(["qemu-x86_64", "-cpu", options.cpu], options.full))
    print(f"1..{len(listed)}")
    failed = 0
    for i, (name, run) in enumerate(listed, 1):
        start = now()
        try:
            print(f"# {run()}, {now() - start:.0f} s")
            print(f"ok {i} - {name}", flush=True)
        except Skip as why:
            print(f"ok {i} - {name} # SKIP {why}", flush=True)
        except (Wrong, WorkerError, OSError, subprocess.SubprocessError) as why:
            failed += 1
            print(f"# {why}\nnot ok {i} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
