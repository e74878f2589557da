"""pipecat's own evals against /rtvi: the text scenarios of rtvi-evals.yaml, which need no judge.

`pipecat eval run rtvi-evals.yaml --bot-url ws://HOST/rtvi` does the same; its command line wants packages that pinned
environment of the bench leaves out, so the sessions behind it are run directly. That environment (850 MB) is made by
tests/bench/voice/run; where it is not, this test is skipped."""
import asyncio
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
URL = os.environ.get("CHOIR_URL", "http://127.0.0.1:8000").rstrip("/")
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "choir/bench/pipecat"

try:
    from pipecat.evals.scenario import EvalScenarioFile
    from pipecat.evals.session import EvalSession, EvalSessionParams
except ImportError:
    if not (FOLDER / ".choir-key").exists() or os.environ.get("CHOIR_EVALS"):
        print("pipecat's environment is not there; tests/bench/voice/run makes it (850 MB)")
        sys.exit(77)
    os.environ.update(CHOIR_EVALS="1", HF_HUB_OFFLINE="1")
    python = str(FOLDER / "bin/python")
    os.execv(python, [python, __file__])


async def fresh():
    import urllib.request

    request = urllib.request.Request(f"{URL}/api/conversations", b'{"title":"evals"}', {"Content-Type": "application/json"})
    await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=60).read())


async def main():
    failed = checks = 0
    for scenario in EvalScenarioFile.load(HERE / "rtvi-evals.yaml"):
        await fresh()
        session = EvalSession.from_scenario(scenario, URL.replace("http", "ws", 1) + "/rtvi", params=EvalSessionParams())
        result = await asyncio.wait_for(session.run(), 300)
        checks += 1
        good = bool(getattr(result, "passed", False))
        failed += not good
        print(f"{'ok' if good else 'not ok'} {checks} - {scenario.name}")
        if not good:
            for line in (getattr(result, "debug_log", None) or [repr(result)])[-25:]:
                print(f"# {line}")
    print(f"1..{checks}")
    return 1 if failed or checks == 0 else 0


sys.exit(asyncio.run(main()))
