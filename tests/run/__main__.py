"""Runs the stages of ./test. Use ./test; this is what it starts once everything is set up."""

import argparse
import os
import shutil
import signal
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import core  # noqa: E402
import stages  # noqa: E402

DEADLINE = 75 * 60  # of the whole ./test, set-up included


def arguments():
    parser = argparse.ArgumentParser(prog="./test")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", action="append", default=[], metavar="STAGE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true", help="look at the options only")
    options = parser.parse_args()
    names = [s.name for s in stages.ALL]
    for name in options.only:
        if name not in names:
            print(f"test: no stage '{name}'; choose from {' '.join(names)}", file=sys.stderr)
            sys.exit(2)
    return options


def report(stage, results, seconds):
    count = {kind: sum(r.kind == kind for r in results) for kind in ("passed", "failed", "skipped")}
    words = [f"{count['passed']} passed, {count['failed']} failed"]
    if count["skipped"]:
        words.append(f"{count['skipped']} skipped")
    print(f"{stage.name:12} {', '.join(words)} ({seconds:.0f} s)", flush=True)
    for result in results:
        if result.kind == "failed":
            print(f"  FAILED {result.name}", flush=True)
            for line in result.detail.splitlines()[-40:]:
                print(f"    {line}", flush=True)
    return count


def main():
    options = arguments()
    if options.check:
        return 0
    if options.list:
        for stage in stages.ALL:
            print(f"{stage.name:12} {stage.what}")
        return 0
    spent = max(0, time.time() - float(os.environ.get("CHOIR_TEST_STARTED") or time.time()))
    os.environ["CHOIR_FULL"] = "1" if options.full else "0"  # the tests themselves know what is slow in them
    context = core.Context(options.full, time.monotonic() + (DEADLINE if not options.full else 4 * DEADLINE) - spent)
    shutil.rmtree(context.logs, ignore_errors=True)
    os.makedirs(context.logs)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    total = {"passed": 0, "failed": 0, "skipped": 0}
    skipped = []
    chosen = [s for s in stages.ALL if not options.only or s.name in options.only or s.name == "build"]
    printing = threading.Lock()

    def run(some, beside=False):
        for stage in some:
            if context.stopped.is_set():
                return
            begun = time.monotonic()
            if sys.stdout.isatty() and not beside:
                print(f"{stage.name:12} ...", end="\r", flush=True)
            results = context.run_stage(stage, beside)
            with printing:
                for kind, number in report(stage, results, time.monotonic() - begun).items():
                    total[kind] += number
                skipped.extend(f"{stage.name}: {r.name}: {r.detail}" for r in results if r.kind == "skipped")

    try:
        for stage in chosen:
            if stage.prepare:
                stage.prepare(context)
        in_lane = {lane: [s for s in chosen if s.lane == lane] for lane in ("first", "compute", "live", "alone")}
        run(in_lane["first"])
        both = in_lane["compute"] and in_lane["live"]
        lanes = [threading.Thread(target=run, args=(in_lane[lane], bool(both)), daemon=True) for lane in ("compute", "live")]
        for thread in lanes:
            thread.start()
        for thread in lanes:
            while thread.is_alive():
                thread.join(0.5)
        run(in_lane["alone"])
    except KeyboardInterrupt:
        print("\ntest: stopped", file=sys.stderr)
        return 130
    finally:
        context.close()
    for line in skipped:
        print(f"skipped {line}")
    closing = f"{total['passed']} passed, {total['failed']} failed"
    print(closing + (f", {total['skipped']} skipped" if total["skipped"] else ""), flush=True)
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
