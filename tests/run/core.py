"""Running commands under a watchdog, and reading what test programs say (TAP, JUnit, meson's log)."""

import copy
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
import xml.etree.ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "choir"
ENGINE = CACHE / "engine" / "11434"
VENV = CACHE / "venv"


@dataclass
class Result:
    name: str
    kind: str  # passed, failed, skipped
    detail: str = ""


@dataclass
class Stage:
    name: str
    what: str
    minutes: float
    run: Callable
    prepare: Callable = None  # called at the very start; what it starts in the background is joined by `run`
    lane: str = "alone"  # "first", then the lanes "compute" and "live" beside each other, then "alone"


@dataclass
class Finished:
    code: int
    output: str
    timed_out: bool


class StageTimeout(Exception):
    """The stage's own watchdog, or the deadline of the whole run."""


def read_tap(text, name):
    """Results of one TAP stream; a plan that was not fulfilled is a failure."""
    results, planned, seen, detail = [], None, 0, []
    for line in text.splitlines():
        plan = re.match(r"1\.\.(\d+)(?:\s*#\s*skip\w*\s*(.*))?", line, re.I)
        if plan:
            planned = int(plan.group(1))
            if planned == 0:
                results.append(Result(name, "skipped", plan.group(2) or "no tests"))
            continue
        match = re.match(r"(not )?ok\b\s*(\d*)\s*-?\s*([^#]*)(?:#\s*(\w+)\s*(.*))?", line)
        if not match:
            if line.startswith("#"):
                if results and results[-1].kind == "failed":
                    results[-1].detail += line[2:] + "\n"
                else:
                    detail.append(line[2:])
            elif line.startswith("Bail out!"):
                results.append(Result(f"{name}: stopped", "failed", "\n".join(detail[-10:]) + "\n" + line))
            continue
        seen += 1
        title = f"{name}: {match.group(3).strip() or match.group(2)}"
        directive = (match.group(4) or "").lower()
        if directive.startswith("skip"):
            results.append(Result(title, "skipped", match.group(5).strip() or "no reason given"))
        elif match.group(1) and directive != "todo":
            results.append(Result(title, "failed", "\n".join(detail[-20:]) + "\n"))
        else:
            results.append(Result(title, "passed"))
        detail = []
    if planned is None or (planned and seen < planned):
        have = "no plan" if planned is None else f"{seen} of {planned} tests"
        if not any(r.kind == "failed" for r in results):
            results.append(Result(f"{name}: all planned tests ran", "failed", f"{have} in its output"))
    return results


def read_junit(path, prefix):
    results = []
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = f"{prefix}{case.get('classname', '').split('.')[-1]}::{case.get('name')}"
        bad = [e for e in case if e.tag in ("failure", "error")]
        skip = case.find("skipped")
        if bad:
            results.append(Result(name, "failed", "\n".join((e.get("message") or "") + "\n" + (e.text or "") for e in bad)))
        elif skip is not None:
            results.append(Result(name, "skipped", skip.get("message") or "no reason given"))
        else:
            results.append(Result(name, "passed"))
    return results


class Context:
    """What a stage is given. Each stage gets a copy of its own; two of them may run in two threads."""

    def __init__(self, full, deadline):
        self.full, self.deadline = full, deadline
        self.build = Path(os.environ.get("CHOIR_BUILD") or ROOT / "build")
        self.logs = ROOT / "build" / "test-logs"
        self.stage_end = deadline
        self.stage = None
        self.running = []
        self.priority = 0
        self.background = {}  # name: process, beside the other stages
        self.temporary = tempfile.TemporaryDirectory(prefix="choir-test-")
        self.tmp = Path(self.temporary.name)
        self.stopped = threading.Event()
        self.copies = []

    def close(self):
        self.stopped.set()
        for process in [*self.background.values(), *(p for c in [self, *self.copies] for p in c.running)]:
            self.end(process)
        self.temporary.cleanup()

    def for_stage(self, stage, beside):
        own = copy.copy(self)
        own.stage, own.running = stage, []
        own.stage_end = time.monotonic() + stage.minutes * 60 * (4 if self.full else 1) * (2 if beside else 1)
        # People's waits are simulated in the live lane; compilers and emulators fill what it leaves.
        own.priority = {"compute": 10, "live": -5}.get(stage.lane, 0) if beside else 0
        self.copies.append(own)
        return own

    def left(self, limit=None):
        left = 0 if self.stopped.is_set() else min(self.stage_end, self.deadline) - time.monotonic()
        if left <= 0:
            raise StageTimeout
        return left if limit is None else min(left, limit)

    def run_stage(self, stage, beside=False):
        own = self.for_stage(stage, beside)
        begun = time.monotonic()
        results = []
        try:
            for result in stage.run(own):
                results.append(result)
        except StageTimeout:
            minutes = (time.monotonic() - begun) / 60
            results.append(Result("in time", "failed", f"stopped after {minutes:.0f} minutes, its own limit or the end of the whole time"))
        except Exception:  # a broken stage is a failed test, and the other stages still run
            results.append(Result("ran", "failed", traceback.format_exc()))
        for process in list(own.running):
            own.end(process)
        if not results:
            results.append(Result("ran a test", "failed", "the stage found nothing to run"))
        return results

    def log(self, name):
        path = self.logs / self.stage.name / (re.sub(r"[^\w.-]+", "_", name) + ".log")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, command, log, env=None, cwd=ROOT, stdout=None):
        with open(log, "wb") as handle:
            process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=stdout or handle,
                                       stderr=handle if stdout else subprocess.STDOUT, cwd=cwd, start_new_session=True,
                                       env={**os.environ, **{k: str(v) for k, v in (env or {}).items()}})
        self.running.append(process)
        if self.priority:
            prefer(process, self.priority)
        return process

    def start_background(self, name, command, log):
        """Runs on while other stages do; `close` ends it."""
        log.parent.mkdir(parents=True, exist_ok=True)
        process = self.start(command, log)
        self.running.remove(process)
        self.background[name] = process

    def end(self, process, grace=5):
        """SIGTERM, then SIGKILL, to the whole group."""
        for sign, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 5)):
            if process.poll() is not None and sign == signal.SIGTERM:
                continue
            try:
                os.killpg(process.pid, sign)
            except (ProcessLookupError, PermissionError):
                break
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                continue
        if process in self.running:
            self.running.remove(process)
        return process.poll()

    def command(self, name, command, limit=None, env=None, cwd=ROOT):
        """Runs one command under the watchdog; its output is kept in the logs."""
        path = self.log(name)
        process = self.start(command, path, env, cwd)
        timed_out = False
        try:
            process.wait(self.left(limit))
        except subprocess.TimeoutExpired:
            timed_out = True
        code = self.end(process)
        text = path.read_text(errors="replace")
        if timed_out:
            text += f"\nstopped: it ran longer than {limit or 'the stage allows'} s"
        return Finished(-1 if timed_out else code, text, timed_out)

    def tap(self, name, command, **options):
        done = self.command(name, command, **options)
        results = read_tap(done.output, name)
        if done.code and not any(r.kind == "failed" for r in results):
            results.append(Result(f"{name}: ended well", "failed", f"exit code {done.code}\n{done.output[-3000:]}"))
        return results

    def plain(self, name, command, **options):
        """One test: exit code 0 passes, 77 skips (its last line is the reason)."""
        done = self.command(name, command, **options)
        if done.code == 77:
            lines = [l for l in done.output.splitlines() if l.strip()]
            return Result(name, "skipped", lines[-1] if lines else "no reason given")
        return Result(name, "failed" if done.code else "passed", "" if not done.code else f"exit code {done.code}\n{done.output[-4000:]}")

    def meson_tests(self, build, suites, extra=(), env=None):
        """`meson test`; every case of every program is a result."""
        command = ["meson", "test", "-C", build, "--no-rebuild", "--num-processes", os.cpu_count() or 2, *extra]
        for suite in suites:
            command += ["--suite", suite]
        done = self.command("meson-" + "-".join(suites or ["all"]), command, env=env)
        log = Path(build) / "meson-logs" / "testlog.json"
        wrapper = [w for w in extra if "wrapper" in str(w)]
        for candidate in sorted((Path(build) / "meson-logs").glob("testlog-*.json"), key=lambda p: p.stat().st_mtime):
            log = candidate if wrapper else log
        if not log.exists():
            yield Result("meson test", "failed", done.output[-3000:])
            return
        for line in log.read_text(errors="replace").splitlines():
            yield from self.meson_result(json.loads(line))
        if done.timed_out:
            raise StageTimeout

    def meson_result(self, entry):
        name = entry["name"].split(" / ")[-1]
        outcome = entry["result"]
        output = (entry.get("stdout") or "") + "\n" + (entry.get("stderr") or "")
        self.log(name).write_text(output)
        if re.search(r"^(not )?ok\b|^1\.\.\d", output, re.M):
            results = read_tap(entry.get("stdout") or "", name)
        else:
            kind = {"OK": "passed", "SKIP": "skipped", "EXPECTEDFAIL": "passed"}.get(outcome, "failed")
            yield Result(name, kind, "the program skipped itself" if kind == "skipped" else output[-3000:])
            return
        if outcome not in ("OK", "SKIP", "EXPECTEDFAIL"):
            for result in results:
                if result.kind == "failed":
                    result.detail += (entry.get("stderr") or "")[-3000:]
                    break
            else:
                results.append(Result(f"{name}: ended well", "failed", f"meson says {outcome}\n{output[-3000:]}"))
        yield from results

    def daemon(self, name="daemon", env=None, options=()):
        return Daemon(self, name, env, options)


def prefer(process, nice):
    """Every command is a session, and the scheduler shares the processors between sessions before it looks at nice values."""
    try:
        Path(f"/proc/{process.pid}/autogroup").write_text(str(nice), encoding="ascii")
        os.setpriority(os.PRIO_PGRP, process.pid, nice)
    except OSError:
        pass  # without it, or without the right to go first, the lanes share alike


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Daemon:
    """A real `choir serve` with a fresh state folder on a free port, ended with the stage."""

    def __init__(self, context, name, env, options):
        self.context = context
        self.state = context.tmp / f"{name}-state"
        self.log = context.log(name)
        self.process = context.start([context.build / "choir", "serve", "--port", "0", "--state", self.state, *options],
                                     self.log, env, stdout=subprocess.PIPE)
        self.url = self._url()

    def _url(self):
        os.set_blocking(self.process.stdout.fileno(), False)
        data, end = b"", time.monotonic() + self.context.left(30)
        while time.monotonic() < end and b"\n" not in data and self.process.poll() is None:
            data += self.process.stdout.read() or b""
            time.sleep(0.05)
        match = re.search(rb"http://\S+", data)
        if not match:
            raise RuntimeError(f"the daemon printed no address\n{self.tail()}")
        return match.group().decode().rstrip("/")

    def tail(self):
        return self.log.read_text(errors="replace")[-3000:]

    def get(self, path, timeout=10):
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return json.loads(answer.read())

    def wait_warm(self, seconds=300):
        """Until the language model answers and every speech engine is ready."""
        end, last = time.monotonic() + self.context.left(seconds), ""
        while time.monotonic() < end:
            try:
                self.get("/health")
                status = self.get("/api/status")
                if all(e.get("ready") for e in status.get("engines", {}).values()):
                    return
                last = json.dumps(status.get("engines"))
            except (OSError, ValueError) as error:
                last = str(error)
            if self.process.poll() is not None:
                raise RuntimeError(f"the daemon ended with {self.process.returncode}\n{self.tail()}")
            time.sleep(0.3)
        raise RuntimeError(f"the daemon did not get warm: {last}\n{self.tail()}")

    def stop(self):
        self.context.end(self.process, grace=15)
