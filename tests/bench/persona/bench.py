#!/usr/bin/env python3
"""Asks a running llama-server (or any OpenAI-compatible server) simple questions under a persona and counts right answers.

usage: bench.py URL PERSONA_FILE... [--half tuning|held-out|both] [--temperature T] [--repeat-penalty P] [--key KEY] [--show]

An answer is right when it matches the question's pattern; `short` counts answers of at most 30 words, `clean` those that
are neither cut off at the token limit nor contain a list or a mark of the chat template. A persona is chosen by the tuning
half alone; the held-out half then says what it is worth. With --history each question follows three other exchanges, as
in a conversation.
"""
import argparse
import json
import pathlib
import re
import sys
import urllib.request

HERE = pathlib.Path(__file__).parent
TALK = [("Hello!", "Hello! How can I help you?"), ("I had a long day.", "I am sorry to hear that. I hope you can rest now."),
        ("Thank you.", "You are welcome.")]


def persona_text(path):
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    return "\n".join(line.rstrip() for line in lines if not line.startswith("#")).strip()


def ask(arguments, persona, question):
    messages = [{"role": "system", "content": persona}] if persona else []
    if arguments.history:
        for user, reply in TALK:
            messages += [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
    messages.append({"role": "user", "content": question})
    body = {"messages": messages, "temperature": arguments.temperature, "top_p": 0.9, "repeat_penalty": arguments.repeat_penalty,
            "max_tokens": 80, "seed": arguments.seed, "id_slot": 1, "cache_prompt": True}
    headers = {"Content-Type": "application/json"}
    if arguments.key:
        headers["Authorization"] = "Bearer " + arguments.key
    request = urllib.request.Request(arguments.url.rstrip("/") + "/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        choice = json.load(answer)["choices"][0]
    return choice["message"]["content"].strip(), choice["finish_reason"]


def run(arguments, path, questions):
    persona = "" if path == "-" else persona_text(path)
    right, short, clean = 0, 0, 0
    for item in questions:
        text, finish = ask(arguments, persona, item["question"])
        ok = re.search(item["accept"], text, re.IGNORECASE) is not None
        right += ok
        short += len(text.split()) <= 30
        clean += finish == "stop" and not re.search(r"<\||^\s*(\d+\.|[-*]) ", text, re.MULTILINE)
        if arguments.show:
            print(f"  {'+' if ok else '-'} {item['question']}  ->  {text[:110]!r}")
    return right, short, clean


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("personas", nargs="+", help="persona files; - for none")
    parser.add_argument("--half", choices=["tuning", "held-out", "both"], default="both")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--repeat-penalty", type=float, default=1.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--key", default="")
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    questions = json.loads((HERE / "questions.json").read_text(encoding="utf-8"))
    halves = ["tuning", "held-out"] if arguments.half == "both" else [arguments.half]
    for path in arguments.personas:
        for half in halves:
            chosen = [q for q in questions if q["half"] == half]
            right, short, clean = run(arguments, path, chosen)
            print(f"{pathlib.Path(path).name:28} {half:9} right {right:2}/{len(chosen)}  short {short:2}  clean {clean:2}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
