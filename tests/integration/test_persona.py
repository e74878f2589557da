"""The persona bench stays honest: its questions appear neither in the prompts nor in the program."""
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUESTIONS = json.loads((ROOT / "tests/bench/persona/questions.json").read_text(encoding="utf-8"))


def plain(text):
    return " ".join(re.findall(r"\w+", text.lower()))


def found_in(folder):
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in {".txt", ".c", ".h", ".md", ".in"}:
            text = plain(path.read_text(encoding="utf-8", errors="replace"))
            yield from ((str(path.relative_to(ROOT)), q["question"]) for q in QUESTIONS if plain(q["question"]) in text)


def test_enough_questions_in_two_halves():
    halves = [q["half"] for q in QUESTIONS]
    assert set(halves) == {"tuning", "held-out"}
    assert min(halves.count("tuning"), halves.count("held-out")) >= 15
    assert len({q["question"] for q in QUESTIONS}) == len(QUESTIONS)
    for question in QUESTIONS:
        re.compile(question["accept"])
        # An answer that only repeats the question must not count.
        assert not re.search(question["accept"], question["question"], re.IGNORECASE), question


def test_no_question_in_prompts_or_source():
    prompts = ROOT / "ansible/roles/pipecatapp/files/prompts"
    assert sorted(p.name for p in prompts.glob("*.txt")) == [
        "coding_expert.txt", "creative_expert.txt", "router.small.txt", "router.txt", "tron_agent.txt"]
    assert (ROOT / "prompts").resolve() == prompts
    assert list(found_in(prompts)) + list(found_in(ROOT / "src")) == []


def test_the_check_can_fail(tmp_path):
    (tmp_path / "a.txt").write_text("If asked " + QUESTIONS[0]["question"].upper(), encoding="utf-8")
    text = plain((tmp_path / "a.txt").read_text(encoding="utf-8"))
    assert plain(QUESTIONS[0]["question"]) in text
