"""The stages of ./test, in each lane cheapest first."""

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from core import CACHE, ENGINE, ROOT, VENV, Result, Stage, free_port, read_junit, read_tap

QEMU = "qemu-x86_64 -cpu core2duo"
QUICK = {"CHOIR_FULL": "0"}  # the slow parts of unit tests run once, at full speed
CALLER_LATE_MS = 150  # more than the player's buffer
BROWSER_TEST = re.compile(r"(^test[_-].*|.*[._-]test)\.(mjs|js|py|sh)$")


def includes(context):
    return context.tap("includes", [ROOT / "tools/check-includes"])


def names(context):
    yield from context.tap("names", [ROOT / "tools/check-names"])
    yield context.plain("group_vars/names.yaml says what names.h says", [ROOT / "tools/gen-names", "--check"])


def lint(context):
    env = {"PATH": f"{VENV / 'bin'}:{os.environ['PATH']}"}
    return context.tap("lint", ["npm", "run", "-s", "lint"], env=env)


def build(context):
    script = f'here={shlex.quote(str(ROOT))}; . "$here/scripts/setup.sh"; ninja_build "$here/build"'
    result = context.plain("the whole build", ["bash", "-euo", "pipefail", "-c", script])
    log = context.build / "ninja.log"
    if result.kind == "passed" and log.exists():
        warnings = [l for l in log.read_text(errors="replace").splitlines() if "warning:" in l]
        yield Result("no compiler warnings", "failed" if warnings else "passed", "\n".join(warnings[:20]))
    yield result


def unit(context):
    yield from context.meson_tests(context.build, [], ["--no-suite", "fuzz"])


def coverage(context):
    """Lines of src/tools that its unit tests run; the last line of the table is printed."""
    done = context.command("coverage", [ROOT / "tests/coverage/tools"], env={"CHOIR_BUILD": context.build})
    for line in done.output.splitlines():
        if " lines covered" in line:
            print("  " + line.split(" - ", 1)[-1], flush=True)
    results = read_tap(done.output, "coverage")
    if done.code and not any(r.kind == "failed" for r in results):
        results.append(Result("coverage: ended well", "failed", f"exit code {done.code}\n{done.output[-3000:]}"))
    return results


def fuzz(context):
    yield from context.meson_tests(context.build, ["fuzz"])


def taken(lock):
    """Two checkouts on one machine share the folder: one at a time."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def sanitize(context):
    """Every C test again, with address and undefined-behaviour checks. The folder stays for the next run.
    The kernels are built without them (they would not be the same code), and an emulator cannot run them.
    The sandbox takes away what they need themselves: memory, /proc and a terminal of their own."""
    folder = CACHE / "test" / "asan"
    script = (f'here={shlex.quote(str(ROOT))}; . "$here/scripts/setup.sh"; meson_setup {folder} -Db_sanitize=address,undefined '
              f'-Db_lundef=false -Doptimization=1; ninja_build {folder}')
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = open(folder.with_suffix(".lock"), "w", encoding="utf-8")  # held to the end of the stage
    while not taken(lock):
        context.left()
        time.sleep(1)
    built = context.plain("build with sanitizers", ["bash", "-euo", "pipefail", "-c", script])
    yield built
    if built.kind == "failed":
        return
    env = {"ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0:detect_stack_use_after_return=1",
           "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", "G_SLICE": "always-malloc", **QUICK}
    yield from context.meson_tests(folder, [], ["--no-suite", "engine", "--no-suite", "sandbox", "--no-suite", "tools", "-t", "4"], env)


def qemu(context):
    """The unit tests as a Core 2 Duo runs them: one instruction above SSSE3 ends them with a signal."""
    yield from context.meson_tests(context.build, [], ["--no-suite", "fuzz", "--no-suite", "engine", "--no-suite", "slow-emulated", "-t", "10",
                                                     "--wrapper", QEMU], QUICK)
    for script in sorted((ROOT / "tests/unit/speech").glob("qemu_workers*")):
        if os.access(script, os.X_OK):
            yield from either(context, script.stem, [script, *(["--full"] if context.full else [])])
    yield llama_under_qemu(context)


def llama_under_qemu(context):
    """Four tokens of the real server; the loader must pick the CPU variant that this processor can run."""
    name = "llama-server writes four tokens"
    model = next(iter(sorted((CACHE / "models").glob("SmolLM2*.gguf"))), None)
    if not model:
        return Result(name, "failed", "no SmolLM2 model in the cache; run ./run --setup-only")
    port, log = free_port(), context.log("llama-qemu")
    process = context.start([*QEMU.split(), ENGINE / "bin/llama-server", "-m", model, "--host", "127.0.0.1", "--port", port, "-c", "256",
                             "-t", "2", "-np", "1", "-b", "32", "-ub", "32", "--no-warmup", "--no-webui"], log)
    body = json.dumps({"prompt": "One, two,", "n_predict": 4, "temperature": 0, "cache_prompt": False}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", body, {"Content-Type": "application/json"})
    answer, problem = {}, ""
    while process.poll() is None and context.left(600) > 1:
        try:
            with urllib.request.urlopen(request, timeout=context.left(600)) as reply:
                answer = json.loads(reply.read())
            break
        except (OSError, ValueError) as error:
            problem = str(error)
            time.sleep(1)
    code = process.poll()
    context.end(process)
    if answer.get("tokens_predicted", 0) >= 4:
        return Result(name, "passed")
    return Result(name, "failed", f"exit code {code}, {problem}\n{log.read_text(errors='replace')[-3000:]}")


def engine(context):
    """Other people's judges of the CPU kernels; what they need is built once and kept."""
    made = context.plain("what the engine's proofs need", [ROOT / "tests/engine/prepare"], limit=5400)
    yield made
    if made.kind == "passed":
        prove = [ROOT / "tests/engine/prove", "--build", context.build, *(["--full"] if context.full else [])]
        yield from either(context, "engine", prove, limit=5400)


def integration(context):
    yield from pytest(context, "tests/integration", "integration")


def pytest(context, folder, name, env=None):
    junit = context.log(f"{name}-junit").with_suffix(".xml")
    done = context.command(name, [VENV / "bin/python", "-m", "pytest", folder, "-q", "-p", "no:cacheprovider", "--timeout=900",
                                  f"--junitxml={junit}"], env={"CHOIR_BUILD": context.build, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})})
    if not junit.exists():
        return [Result(f"pytest {folder}", "failed", done.output[-4000:])]
    results = read_junit(junit, "")
    if done.code not in (0, 1):
        results.append(Result(f"pytest {folder} ended well", "failed", f"exit code {done.code}\n{done.output[-2000:]}"))
    return results


def either(context, name, command, env=None, limit=None):
    """A program that may speak TAP, or only by its exit code."""
    done = context.command(name, command, env=env, limit=limit)
    if re.search(r"^1\.\.\d", done.output, re.M):
        results = read_tap(done.output, name)
        if done.code and not any(r.kind == "failed" for r in results):
            results.append(Result(f"{name}: ended well", "failed", f"exit code {done.code}\n{done.output[-3000:]}"))
        return results
    if done.code == 77:
        return [Result(name, "skipped", (done.output.strip().splitlines() or ["no reason given"])[-1])]
    return [Result(name, "failed" if done.code else "passed", f"exit code {done.code}\n{done.output[-4000:]}" if done.code else "")]


def runner_of(path):
    return {".mjs": ["node"], ".js": ["node"], ".py": [VENV / "bin/python"], ".sh": ["bash"]}.get(path.suffix, [])


def end_to_end(context, folder, daemon, extra=None):
    env = {"CHOIR_URL": daemon.url, "CHOIR_BUILD": context.build, "CHOIR_DATA": CACHE / "data", "CHOIR_STATE": daemon.state,
           "PYTHONDONTWRITEBYTECODE": "1", **(extra or {})}
    for path in sorted((ROOT / folder).iterdir()):
        if path.is_file() and BROWSER_TEST.match(path.name):
            yield from either(context, f"{Path(folder).name}/{path.name}", [*runner_of(path), path], env, 900)


def clients(context):
    origin = f"http://127.0.0.1:{free_port()}"  # of a page that a test serves itself
    daemon = context.daemon("clients-daemon", options=["--set", f"web.allowed_origins={origin}"])
    daemon.wait_warm()
    yield from end_to_end(context, "tests/e2e/clients", daemon, {"CHOIR_PAGE_ORIGIN": origin})
    daemon.stop()


def page(context):
    daemon = context.daemon("page-daemon")
    daemon.wait_warm()
    yield from end_to_end(context, "tests/e2e/page", daemon)
    daemon.stop()


def wer(context):
    script = next(iter(sorted((ROOT / "tests/bench/wer").glob("run*"))), None) if (ROOT / "tests/bench/wer").is_dir() else None
    if script is None:
        return [Result("word error rate", "failed", "tests/bench/wer/run is missing")]
    return either(context, "wer", [*runner_of(script), script], {"CHOIR_BUILD": context.build, "CHOIR_DATA": CACHE / "data"})


def budgets(context):
    """Instructions per unit of work as a Core 2 Duo executes them; a rise of 3 % fails."""
    return context.tap("budgets", [VENV / "bin/python", ROOT / "tests/budgets/run"], env={"CHOIR_BUILD": context.build})


def talk(context):
    """Real recordings into a real daemon in real time; everything is read from the stereo recording."""
    daemon = context.daemon("talk-daemon")
    daemon.wait_warm()
    out = ROOT / "build" / "talk"
    out.mkdir(parents=True, exist_ok=True)
    env = {"CHOIR_URL": daemon.url}
    for script in sorted((ROOT / "tests/e2e/talk").glob("*.talk")):
        wav = out / (script.stem + ".wav")
        options = ["--no-acks"] if "no-acks" in script.stem else []
        for _ in range(3):  # a caller who was late by himself measured nothing, and calls again
            done = context.command(script.stem, [context.build / "choir", "talk", "--json", "--data", CACHE / "data", *options, script, wav],
                                   env=env, limit=240)
            found = re.search(r"^\{.*^\}|^\{.*\}$", done.output, re.M | re.S)
            try:
                figures = json.loads(found.group()) if found and done.code == 0 else None
            except ValueError:
                figures = None
            if figures is None or figures.get("clock_late_ms", 0) <= CALLER_LATE_MS:
                break
        if figures is None:
            yield Result(script.stem, "failed", f"exit code {done.code}\n{done.output[-3000:]}\n{daemon.tail()}")
            continue
        yield Result(f"{script.stem}: the agent answers aloud", "passed" if figures["agent_segments"] else "failed", done.output)
        if "interrupt" in script.stem:
            stops = figures["interruption_to_silence_ms"]
            yield Result(f"{script.stem}: it falls silent when interrupted",
                         "passed" if stops and max(stops) < 1500 else "failed", done.output)
        print(f"  {script.stem}: voice to voice {figures['voice_to_voice_ms']} ms, interruption to silence "
              f"{figures['interruption_to_silence_ms']} ms ({wav.relative_to(ROOT)})", flush=True)
    daemon.stop()
    if context.full:
        yield echo(context)


def voice_bench(context, name, *options, limit):
    """The figures of one run of tests/bench/voice, or a failed result."""
    done = context.command(name, [VENV / "bin/python", ROOT / "tests/bench/voice/run", "--json", "--keep", ROOT / "build/voice" / name, *options],
                           env={"CHOIR_BUILD": context.build, "CHOIR_DATA": CACHE / "data"}, limit=limit)
    found = re.search(r"^\{.*^\}", done.output, re.M | re.S)
    if done.code or not found:
        return Result(name, "failed", f"exit code {done.code}\n{done.output[-3000:]}")
    return json.loads(found.group())


def echo(context):
    """Ten minutes of the agent hearing itself: it must not interrupt itself."""
    name = "it does not interrupt itself by its own echo"
    figures = voice_bench(context, "echo", "--echo", "10", limit=1500)
    if isinstance(figures, Result):
        return figures
    found = figures["echo"]
    cuts = found["self_interruptions"] - found["self_interruptions_resumed"]  # how long a pause takes is a matter of the machine
    good = cuts == 0 and found["agent_s"] >= 5
    return Result(name, "passed" if good else "failed", f"{found}; recordings in build/voice/echo")


def soak(context):
    """Conversation after conversation: an hour with --full (CHOIR_SOAK_MINUTES), else one minute that only finds a hang."""
    minutes = float(os.environ.get("CHOIR_SOAK_MINUTES") or (60 if context.full else 1))
    figures = voice_bench(context, "soak", "--soak", f"{minutes:g}", limit=minutes * 60 + 400)
    if isinstance(figures, Result):
        yield figures
        return
    found = figures["soak"]
    told = f"{found}"
    left = found["stuck_turns"] or found["sessions_left"] or found["queue_left"] or not found["conversations"]
    yield Result("no turn is stuck, no session left over", "failed" if left else "passed", told)
    if minutes >= 10:  # less says nothing about growth
        yield Result("the daemon grows by at most 1 MB", "passed" if found["growth_kb"] <= 1024 else "failed", told)


def cells(row):
    return [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def names_rows(context):
    """Rows of docs/names.md whose last cell is a command; it must succeed here and now."""
    daemon = context.daemon("names-daemon")
    daemon.wait_warm()
    env = {"CHOIR_URL": daemon.url, "PATH": f"{context.build}:{os.environ['PATH']}", "CHOIR_STATE": daemon.state}
    for line in (ROOT / "docs/names.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("|") or set(line) <= set("|-: "):
            continue
        row = cells(line)
        command = re.fullmatch(r"`(.+)`", row[-1]) if len(row) == 4 else None
        if command:
            yield context.plain(f"names: {row[0].strip('`')}", ["bash", "-euo", "pipefail", "-c", command.group(1)], env=env, limit=180)
    daemon.stop()


def readme(context):
    """Every command that README shows exists, and every option it shows is in that command's --help; then all documents."""
    yield from readme_commands(context)
    yield from context.tap("docs", [ROOT / "tools/check-docs"], env={"CHOIR_BUILD": context.build})


def readme_commands(context):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```(?:sh|console|bash)\n(.*?)```", text, re.S):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                yield readme_command(context, words)


def readme_command(context, words):
    name = f"README: {' '.join(words)}"
    first, helped = words[0], None
    if first == "choir" or first.endswith("/choir"):
        helped = [context.build / "choir", words[1], "--help"]
    elif "/" in first:
        if not os.access(ROOT / first, os.X_OK):
            return Result(name, "failed", f"{first} is not an executable file here")
        helped = [ROOT / first, "--help"]
    elif first == "npm":
        scripts = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["scripts"]
        return Result(name, "passed" if words[1] == "run" and words[2] in scripts else "failed", "no such script in package.json")
    elif not shutil.which(first):
        return Result(name, "failed", f"there is no command {first}")
    if helped:
        done = subprocess.run([str(w) for w in helped], capture_output=True, text=True, check=False, timeout=20, stdin=subprocess.DEVNULL)
        missing = [w for w in words[1:] if w.startswith("--") and w.split("=")[0] not in done.stdout]
        if done.returncode or missing:
            return Result(name, "failed", f"{' '.join(map(str, helped))}: exit {done.returncode}, lacks {missing}")
    return Result(name, "passed")


CLUSTER_MINUTES = 15  # of a warm run; with less time left the stage is skipped
CLUSTER_LOG = ROOT / "build/test-logs/cluster/prepare.log"


def cluster_lacks(context):
    """Why there can be no nodes here, or nothing."""
    if os.geteuid():
        return "the nodes need root"
    missing = [c for c in ("systemd-nspawn", "mmdebstrap", "ip", "nsenter") if not shutil.which(c)]
    return f"missing: {' '.join(missing)}" if missing else ""


def cluster_prepare(context):
    """Nomad and Consul, the nodes' Debian and Choir's packages: beside the other stages, they are only here for the last one."""
    if not cluster_lacks(context):
        script = ('tools/get-cluster-bins || exit; tests/cluster/lab base || { echo "the Debian of the nodes cannot be had here"; exit 75; }; '
                  './run --no-install --packages "$0" || exit 1')
        context.start_background("cluster", ["nice", "-n", "10", "bash", "-c", script, CACHE / "cluster/packages"], CLUSTER_LOG)


def cluster(context):
    """Three real nodes. It is skipped, with the reason, where they cannot be had or the time does not suffice."""
    name, reason = "three real nodes", cluster_lacks(context)
    if reason:
        return [Result(name, "skipped", reason)]
    spare = context.left() - CLUSTER_MINUTES * 60
    process = context.background["cluster"]
    try:
        code = process.wait(max(1, spare))
    except subprocess.TimeoutExpired:
        code = None
    told = CLUSTER_LOG.read_text(errors="replace").strip().splitlines()
    if code is None or spare <= 0:
        what = "not built in time" if code is None else "only so much time left"
        return [Result(name, "skipped", f"{what}: {max(0, context.left()) / 60:.0f} minutes were left of the {CLUSTER_MINUTES} needed")]
    if code == 75:
        return [Result(name, "skipped", told[-1] if told else "Nomad and Consul cannot be built here")]
    if code:
        return [Result("what the nodes need is built", "failed", f"exit code {code}\n" + "\n".join(told[-30:]))]
    # The rest takes an hour: bootstrap.sh on bare nodes, joining, promotion, jobs, packages, roles.
    # The house skips what has not begun when the time is over, instead of failing.
    env = {"CHOIR_REPORT": context.log("cluster-report").with_suffix(".md"), "CHOIR_DEADLINE": time.time() + context.left()}
    return pytest(context, "tests/cluster" if context.full else "tests/cluster/test_cluster.py", "cluster", env)


ALL = [
    Stage("includes", "every room includes only rooms above it", 1, includes, lane="first"),
    Stage("names", "no registry's address, no path of one machine, no bench question in a prompt", 1, names, lane="first"),
    Stage("build", "everything compiles without a warning", 20, build, lane="first"),
    Stage("unit", "C unit tests, every case counted", 15, unit, lane="compute"),
    Stage("coverage", "line coverage of src/tools, printed", 8, coverage, lane="compute"),
    Stage("fuzz", "fuzz targets over their seed corpora", 5, fuzz, lane="compute"),
    Stage("lint", "npm run lint", 25, lint, lane="compute"),
    Stage("readme", "the commands of README exist", 1, readme, lane="compute"),
    Stage("sanitize", "the C tests under ASan and UBSan", 25, sanitize, lane="compute"),
    Stage("names-md", "commands of docs/names.md against a real daemon", 8, names_rows, lane="live"),
    Stage("integration", "pytest against the real programs", 20, integration, lane="live"),
    Stage("clients", "stock clients against a real daemon", 10, clients, lane="live"),
    Stage("page", "the page in Chromium against a real daemon", 15, page, lane="live"),
    Stage("talk", "spoken conversations, recorded in stereo", 10, talk),
    Stage("soak", "a minute of conversation after conversation, an hour with --full", 20, soak),
    Stage("wer", "word error rate on real recordings", 10, wer, lane="live"),
    Stage("engine", "the CPU kernels before llama.cpp's own tests, stock processes and a stock npm package", 40, engine, lane="compute"),
    Stage("budgets", "instructions per unit of work on an emulated Core 2 Duo", 20, budgets, lane="compute"),
    Stage("qemu", "unit tests and programs on an emulated Core 2 Duo", 20, qemu, lane="compute"),
    Stage("cluster", "three real nodes: playbook, an expert, faults, playbook again", 40, cluster, cluster_prepare),
]
