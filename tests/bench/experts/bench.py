#!/usr/bin/env python3
"""How well questions find the expert they are for.

usage: tests/bench/experts/bench.py [--build DIR] [--half tuning|held-out|both] [--misses]

Asks tests/bench/experts/expert-probe of the build folder, which routes as the agent does, about every question of
tuning.tsv and held-out.tsv and about what tests/data/utterances says to tools or to nobody:

  coding, creative  of the questions for that expert, those that are sent to it
  none              of the questions for no expert, those that are sent to none
  tools             of the utterances that mean a tool or ordinary talk, those whose likeness to an expert is below 0.35, so
                    that the expert is never taken without asking the model
Examples in prompts/ are chosen on the tuning half alone. Exit code 0; 2 for a usage error.
"""
import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
CERTAIN = 0.35


def questions(path):
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")[:2]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].removeprefix("usage: "), description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--half", choices=("tuning", "held-out", "both"), default="both")
    parser.add_argument("--misses", action="store_true")
    args = parser.parse_args()
    probe = subprocess.Popen([args.build / "tests/bench/experts/expert-probe", ROOT / "prompts", "coding", "creative"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(text):
        probe.stdin.write(text + "\n")
        probe.stdin.flush()
        return json.loads(probe.stdout.readline())

    for half in ("tuning", "held-out") if args.half == "both" else (args.half,):
        right, of = {}, {}
        for wanted, text in questions(ROOT / f"tests/bench/experts/{half}.tsv"):
            got = ask(text)
            of[wanted] = of.get(wanted, 0) + 1
            right[wanted] = right.get(wanted, 0) + ((got["expert"] or "none") == wanted)
            if args.misses and (got["expert"] or "none") != wanted:
                print(f"{wanted} went to {got['expert'] or 'none'} ({got['likeness']:.2f}): {text}")
        for wanted, text in questions(ROOT / f"tests/data/utterances/{half}.tsv"):
            got = ask(text)
            of["tools"] = of.get("tools", 0) + 1
            right["tools"] = right.get("tools", 0) + (got["likeness"] < CERTAIN)
            if args.misses and got["likeness"] >= CERTAIN:
                print(f"{wanted} is like {got['expert']} ({got['likeness']:.2f}): {text}")
        cells = [f"{name} {right[name]}/{of[name]}" for name in ("coding", "creative", "none", "tools")]
        three = [sum(d[n] for n in ("coding", "creative", "none")) for d in (right, of)]
        print(f"{half}: {', '.join(cells)}; of the questions {three[0]}/{three[1]} = {100 * three[0] / three[1]:.1f} %")
    probe.stdin.close()
    probe.wait(30)


if __name__ == "__main__":
    main()
