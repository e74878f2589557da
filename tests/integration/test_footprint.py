"""What the daemon weighs when nobody talks to it: `choir bench voice --footprint` has the whole picture."""
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/bench/voice"), str(ROOT / "tests/unit/speech")]
import agents  # noqa: E402
import footprint  # noqa: E402


def test_a_daemon_at_rest_is_small_and_still(warm_daemon):
    """Empty memory, workers not counted. A core's time is counted by the kernel, so a busy machine changes nothing."""
    warm_daemon.wait_engines("vad", "stt", "tts")
    pid = warm_daemon.process.pid
    spent = float("inf")
    for _ in range(4):  # the probes after the start, and a checkpoint now and then, are no idling
        before, began = footprint.thread_seconds(pid), time.monotonic()
        time.sleep(10)
        spent = min(spent, (footprint.thread_seconds(pid) - before) / (time.monotonic() - began))
        if spent <= footprint.IDLE_LIMIT:
            break
    assert spent <= footprint.IDLE_LIMIT
    assert agents.rss_kb(pid) <= footprint.RSS_LIMIT_KB


def test_a_daemon_without_workers_is_smaller_still(new_daemon, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    parts = [f"paths.{part}={empty}" for part in ("engine", "models", "runtime")]
    daemon = new_daemon(*[word for part in parts for word in ("--set", part)])
    time.sleep(2)
    assert daemon.get("/api/status")[0] == 200
    assert 0 < agents.rss_kb(daemon.process.pid) <= footprint.RSS_LIMIT_KB
