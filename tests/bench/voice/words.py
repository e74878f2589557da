"""Words: the normaliser of the word-error bench, and whether what an agent kept after a cut is what was heard."""

import importlib.machinery
import importlib.util
from pathlib import Path

import analyse

WER = Path(__file__).resolve().parents[1] / "wer/run"


def _load():
    loader = importlib.machinery.SourceFileLoader("wer_run", str(WER))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("wer_run", loader))
    loader.exec_module(module)
    return module.words


normal = _load()


def stt_options(choir):
    """The command line of the daemon's recogniser, without the program."""
    return choir.command_of("stt")[1:]


def full_reply(events, at):
    """The longest text that the agent made of the reply that was cut at event `at`, as far as it told."""
    texts = [events[at].get("kept") or ""]
    for event in events[max(0, at - 3) : at + 4]:
        if event["kind"] == "reply":
            texts.append(event.get("text") or "")
    texts.append("".join(e["text"] for e in events[:at] if e["kind"] == "text"))
    return max(texts, key=len)


def context_off(events, cuts_at, right, rate, transcribe):
    """How many words more (or fewer, below 0) the agent kept than were heard, for the worst cut of an interruption; None when
    there was no cut or the agent does not tell what it kept."""
    worst = None
    for begin, end in cuts_at:
        near = [i for i, e in enumerate(events) if e["kind"] == "cut" and e.get("kept") is not None and e["at_ms"] >= begin]
        if not near:
            continue
        kept = normal(events[near[0]]["kept"])
        heard = normal(transcribe(analyse.piece(right, rate, begin - 100, end + 50), rate))
        full = normal(full_reply(events, near[0]))
        off = len(kept) - analyse.heard_words(full, heard)
        worst = off if worst is None or abs(off) > abs(worst) else worst
    return worst
