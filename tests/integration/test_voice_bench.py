"""The instruments of tests/bench/voice on recordings whose answers are known: every figure can be wrong here."""
import json
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/bench/voice"), str(ROOT / "tests/unit/speech")]
import agents  # noqa: E402
import analyse  # noqa: E402
import audio  # noqa: E402
import dialogues  # noqa: E402
import player  # noqa: E402
import transports  # noqa: E402
import words  # noqa: E402

RATE = audio.RATE
DATA = agents.CACHE / "data"
recordings = pytest.mark.skipif(not (DATA / "two_cities.wav").exists(), reason="the recordings are not set up")


def silence(ms):
    return np.zeros(ms * RATE // 1000, np.float32)


def speech(ms, level=0.1, seed=1, edge=60):
    """Something like a voice: noise below 2 kHz in syllables, that comes and dies away over `edge` ms."""
    n = ms * RATE // 1000
    sound = audio.resample(np.random.default_rng(seed).standard_normal(n // 6 + 1).astype(np.float32), RATE // 6, RATE)[:n]
    sound *= level * (0.75 + 0.25 * np.sin(2 * np.pi * 4 * np.arange(n) / RATE))
    ramp = np.linspace(0, 1, max(1, edge * RATE // 1000), dtype=np.float32) ** 3
    if edge:
        sound[: len(ramp)] *= ramp
        sound[len(sound) - len(ramp) :] *= ramp[::-1]
    return sound.astype(np.float32)


def track(*pieces, ms=12000):
    sound = np.concatenate([silence(p) if isinstance(p, int) else p for p in pieces])
    return np.concatenate([sound, silence(ms)])[: ms * RATE // 1000]


def said(role, at, length, pauses=()):
    return {"at_ms": at, "role": role, "ms": length, "speech": [[0, length]], "pauses": list(pauses), "text": ""}


def figures(right, placed, events=(), cause=None):
    right = audio.to_int16(right).astype(np.float32) / 32768
    return analyse.analyse(np.zeros_like(right), right, RATE, placed, events, cause)


def test_voice_to_voice_is_from_the_end_of_the_turn_to_the_first_sound():
    found = figures(track(4000, speech(2000, edge=1)), [said("turn", 1000, 2000)])
    assert found["v2v_ms"] == [pytest.approx(1000, abs=20)]
    assert (found["false_cuts"], found["missed"]) == (0, 0)


def test_each_turn_has_its_own_answer_and_a_missing_one_is_missed():
    right = track(3500, speech(1000), 4500, speech(1000))
    found = figures(right, [said("turn", 1000, 2000), said("turn", 6000, 2500)])
    assert found["v2v_ms"] == [pytest.approx(500, abs=30), pytest.approx(500, abs=30)]
    found = figures(track(3500, speech(1000)), [said("turn", 1000, 2000), said("turn", 6000, 2000)])
    assert len(found["v2v_ms"]) == 1 and found["missed"] == 1


def test_a_reply_in_a_pause_is_a_false_cut_and_no_latency():
    turn = said("turn", 1000, 4000, [[1500, 2700]])
    found = figures(track(3300, speech(500), 3000, speech(1000)), [turn])
    assert found["false_cuts"] == 1 and found["v2v_ms"] == []
    assert figures(track(5300, speech(500)), [turn])["false_cuts"] == 0


def test_a_click_is_no_answer():
    click = silence(12000)
    click[3500 * RATE // 1000] = 0.5
    click[5000 * RATE // 1000 : 6000 * RATE // 1000] = speech(1000, edge=1)
    assert figures(click, [said("turn", 1000, 2000)])["v2v_ms"] == [pytest.approx(2000, abs=20)]


@pytest.mark.parametrize("stop", [120, 250, 900])
def test_interruption_to_silence(stop):
    right = track(1000, speech(2000 + stop, edge=0), 3000, speech(500))
    found = figures(right, [said("interruption", 3000, 2000)])
    assert found["stop_ms"] == [pytest.approx(stop, abs=20)]
    assert found["resp_ms"] == [pytest.approx(1000 + stop, abs=30)]
    assert found["not_stopped"] == 0


def test_an_agent_that_speaks_on_has_not_stopped():
    found = figures(track(1000, speech(8000)), [said("interruption", 3000, 2000)])
    assert found["not_stopped"] == 1 and found["stop_ms"] == [2000]


def test_a_natural_pause_under_an_interruption_is_no_silence():
    found = figures(track(1000, speech(2100), 400, speech(1000)), [said("interruption", 3000, 3000)])
    assert found["stop_ms"][0] > 1400


def test_a_cut_by_a_backchannel_counts_once_and_the_natural_end_does_not():
    placed = [said("backchannel", 3000, 400)]
    cut = track(1000, speech(2200, edge=0), 600, speech(3000))
    assert figures(cut, placed)["false"] == {"backchannel": 1}
    assert figures(track(1000, speech(2300), 400, speech(3000)), placed)["false"] == {"backchannel": 0}
    assert figures(track(1000, speech(6000)), placed)["false"] == {"backchannel": 0}


def test_a_cut_that_the_agent_itself_reports_counts_however_it_sounds():
    right = track(1000, speech(2300), 5000)
    assert figures(right, [said("noise", 3000, 300)])["false"] == {"noise": 0}
    assert figures(right, [said("noise", 3000, 300)], [{"kind": "cut", "at_ms": 3350}])["false"] == {"noise": 1}


def test_a_pause_that_went_on_is_told_apart():
    placed = [said("backchannel", 3000, 400)]
    right = track(1000, speech(2200, edge=0), 600, speech(3000))
    found = figures(right, placed, [{"kind": "paused", "at_ms": 3150}, {"kind": "resumed", "at_ms": 3800}])
    assert (found["false"], found["resumed"]) == ({"backchannel": 1}, 1)
    lost = figures(track(1000, speech(2200, edge=0)), placed, [{"kind": "paused", "at_ms": 3150}, {"kind": "cut", "at_ms": 3800}])
    assert (lost["false"], lost["resumed"]) == ({"backchannel": 1}, 0)


def test_getting_softer_counts_and_a_short_dip_does_not():
    def dipped(ms):
        sound = speech(6000)
        sound[2200 * RATE // 1000 : (2200 + ms) * RATE // 1000] *= audio.gain(-24)
        return figures(track(1000, sound), [said("sidetalk", 3000, 1000)])["false"]["sidetalk"]

    assert dipped(600) == 1 and dipped(150) == 0


def test_echo_has_the_whole_recording_to_interrupt():
    right = track(500, speech(1500, edge=0), 800, speech(1500, edge=0), 700, speech(2000))
    assert figures(right, [], cause="echo")["false"] == {"echo": 2}
    assert figures(track(500, speech(3000), 700, speech(3000)), [], cause="echo")["false"] == {"echo": 0}
    assert figures(right, [])["false"] == {}
    late = [{"kind": "dry", "at_ms": 2000}]  # its sound did not come; with a cut beside it, it is a stop all the same
    assert figures(right, [], late, cause="echo")["false"] == {"echo": 1}
    assert figures(right, [], [*late, {"kind": "cut", "at_ms": 2010}], cause="echo")["false"] == {"echo": 2}


def test_dead_air():
    placed = [said("turn", 1000, 2000)]
    assert figures(track(3800, speech(1000)), placed)["dead_air"] == 0
    assert figures(track(4200, speech(1000)), placed)["dead_air"] == 1
    assert figures(track(4200, speech(1000), 1500, speech(1000)), placed)["dead_air"] == 2


def test_a_gap_is_a_glitch_and_a_pause_is_none():
    sound = speech(3000, edge=60)
    gap = np.concatenate([sound[: RATE], silence(80), sound[RATE:]])
    found = figures(track(1000, gap), [])["glitches"]
    assert found == [pytest.approx(2000, abs=10)]
    assert figures(track(1000, sound), [])["glitches"] == []
    late = track(1000, np.concatenate([sound[:RATE], silence(600), sound[RATE:]]))
    assert figures(late, [], cause="echo")["false"] == {"echo": 0}  # it did not stop, its sound came late
    assert len(figures(late, [])["glitches"]) == 1
    pause = np.concatenate([speech(1000), silence(200), speech(1000, seed=2)])
    assert figures(track(1000, pause), [])["glitches"] == []


def test_a_jump_is_a_glitch_and_a_cut_at_the_end_is_none():
    n = 2 * RATE
    tone = (0.3 * np.sin(2 * np.pi * 220 * np.arange(n) / RATE)).astype(np.float32)
    jumped = np.concatenate([tone[:RATE], -tone[RATE + 30 :]])
    assert figures(track(1000, tone), [])["glitches"] == []
    assert len(figures(track(1000, jumped), [])["glitches"]) == 1
    assert figures(track(1000, tone[: n - 28]), [])["glitches"] == []


def test_words_heard_and_words_kept():
    full = words.normal("The river was wide, and 3 boats lay on it in the sun.")
    assert analyse.heard_words(full, words.normal("the river was wide and three boats")) == 7
    assert analyse.heard_words(full, words.normal("the liver was")) == 3
    assert analyse.heard_words(full, []) == 0

    def off(kept):
        events = [{"kind": "reply", "at_ms": 3000, "text": "The river was wide, and 3 boats lay on it."},
                  {"kind": "cut", "at_ms": 3010, "kept": kept}]
        return words.context_off(events, [(1000, 3000)], silence(5000), RATE, lambda *_: "The river was wide.")

    assert off("The river was wide") == 0
    assert off("The river was wide, and 3 boats") == 3
    assert off("The river") == -2
    assert words.context_off([], [(1000, 3000)], silence(5000), RATE, lambda *_: "The river") is None


def test_the_summary_adds_up():
    results = [{"v2v_ms": [500, 700], "resp_ms": [], "stop_ms": [100], "false_cuts": 1, "missed": 0, "not_stopped": 0, "glitches": [5],
                "dead_air": 1, "false": {"echo": 2, "sidetalk": 1}, "resumed": 1, "agent_ms": 1500, "context_off": 1}] * 2
    found = analyse.summary(results)
    assert (found["v2v_p50_ms"], found["v2v_max_ms"], found["stop_p95_ms"]) == (600, 700, 100)
    assert (found["false_cuts"], found["self_interruptions"], found["glitches"], found["turns"]) == (2, 4, 2, 6)
    assert analyse.summary([])["v2v_p50_ms"] is None


def test_the_echo_is_late_soft_and_drifts():
    sound = audio.hiss(20 * RATE, 3) * 0.1
    for delay, ppm in ((40, 50), (120, -50), (200, 0)):
        echo = audio.Echo(delay, -12, ppm)
        heard = np.concatenate([echo.step(sound[i : i + audio.STEP]) for i in range(0, len(sound), audio.STEP)])
        assert 20 * np.log10(audio.rms(heard[RATE:]) / 0.1) == pytest.approx(-12, abs=1)

        def lag(at):
            a, b = sound[at : at + RATE], heard[at : at + RATE]
            match = np.fft.irfft(np.fft.rfft(b, 2 * RATE) * np.conj(np.fft.rfft(a, 2 * RATE)))
            return np.argmax(np.abs(match[:RATE])) * 1000 / RATE

        assert lag(RATE) == pytest.approx(delay, abs=0.2)
        assert lag(18 * RATE) == pytest.approx(delay - 18.5 * ppm / 1000, abs=0.3)


def test_rates():
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)
    down = audio.To16k()
    pieces = np.concatenate([down(tone[i : i + 480]) for i in range(0, RATE, 480)])
    assert len(pieces) == 16000 and audio.rms(pieces[500:]) == pytest.approx(audio.rms(tone), rel=0.01)
    assert audio.rms(audio.To16k()((0.5 * np.sin(2 * np.pi * 9500 * np.arange(RATE) / RATE)))[500:]) < 0.001
    back = audio.resample(audio.resample(tone, RATE, 16000), 16000, RATE)
    assert np.max(np.abs(back[1000:-1000] - tone[1000:-1000])) < 0.01


def test_the_listener_leaves_honest_gaps():
    heard = player.Player()
    heard.add("a", np.full(RATE * 40 // 1000, 0.5, np.float32))
    assert not heard.pull(240).any()  # 60 ms must be there first
    heard.add("a", np.full(RATE * 40 // 1000, 0.5, np.float32))
    assert heard.pull(240).all()
    rest = np.concatenate([heard.pull(240) for _ in range(10)])
    assert np.count_nonzero(rest) == RATE * 70 // 1000 and heard.underruns == 0
    heard.add("a", np.full(2000, 0.5, np.float32))
    assert heard.underruns == 1
    heard.end("a")
    assert np.count_nonzero(np.concatenate([heard.pull(240) for _ in range(20)])) == 2000
    heard.add("b", np.full(RATE, 0.5, np.float32))
    heard.pull(240)
    heard.pause()
    dying = heard.pull(480)
    assert dying[1] > 0.4 and dying[239] < 0.01 and not dying[240:].any()
    assert not heard.pull(240).any()
    heard.resume("b", 100)
    faded = heard.pull(480)
    assert faded[0] < 0.1 and faded[-1] > 0.4
    assert heard.played["b"] == 580  # it went back from 240 to 100
    heard.flush()
    heard.add("b", np.full(RATE, 0.5, np.float32))
    assert not heard.pull(480).any() and heard.queued() == 0


def test_pipecat_frames():
    frame = transports.protobuf(2, transports.protobuf(3, b"\1\2" * 300) + transports.protobuf(4, 16000))
    fields = transports.read_protobuf(transports.read_protobuf(frame)[2])
    assert fields == {3: b"\1\2" * 300, 4: 16000}
    with pytest.raises(ValueError):
        transports.read_protobuf(b"\x0d\0\0\0\0")
    assert transports.Raw.pack(b"A", b"xy") == b"A" + struct.pack("<I", 2) + b"xy"


@recordings
def test_the_truth_files_are_what_the_builder_makes():
    builder = dialogues.Builder(DATA)
    stored = json.loads((ROOT / "tests/data/voice/truth.json").read_text(encoding="utf-8"))["utterances"]
    assert dialogues.all_truth(builder) == stored


@recordings
def test_the_sound_is_where_the_truth_says():
    builder = dialogues.Builder(DATA)
    for spec in dialogues.load("dialogues.json")["dialogues"]:
        for step in spec["steps"]:
            if step[0] != "say" or any(str(p).startswith(("flite:", "bang")) for p in step[2]):
                continue
            made = builder.utterance(step[1], step[2])
            levels = analyse.levels(made.sound, RATE)
            over = (levels > np.max(levels) * audio.gain(-27)).astype(int)
            loud = np.flatnonzero(np.convolve(over, [1, 1, 1], "same") >= 2) * 10  # a click is no speech
            assert abs(loud[0] - made.speech[0][0]) <= 80, spec["name"]
            assert abs(loud[-1] + 10 - made.speech[-1][1]) <= 160, spec["name"]
            for begin, end in made.pauses:
                inside = [at for at in loud if begin + 20 < at < end - 20]
                assert len(inside) * 10 <= 30, (spec["name"], inside)


@recordings
def test_pauses_are_as_long_as_asked():
    builder = dialogues.Builder(DATA)
    made = builder.utterance("turn", ["spades", 900, "hearts"])
    (begin, end), = made.pauses
    assert end - begin == 900 and made.speech[0][1] == begin and made.speech[1][0] == end
    with pytest.raises(dialogues.Problem):
        builder.utterance("turn", ["jfk-ask-not", 50, "jfk-what-your"])
    with pytest.raises(dialogues.Problem):
        builder.utterance("turn", ["no-such-clip"])
    with pytest.raises(dialogues.Problem):
        builder.utterance("shout", ["spades"])


@recordings
@pytest.mark.skipif(not (agents.BUILD / "tests/unit/voice/endpoint-replay").exists(), reason="endpoint-replay was not built")
def test_pauses_within_turns_end_few_of_them(tmp_path):
    """The end of a turn in virtual time. What the engines answered is kept in the repository; what is new is asked."""
    evidence = tmp_path / "evidence.json"
    evidence.write_bytes((dialogues.DATA / "evidence.json").read_bytes())
    done = subprocess.run([sys.executable, ROOT / "tests/bench/voice/endpoint", "--json", "--evidence", evidence],
                          capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = json.loads(done.stdout)
    halves = [found["fitted"], found["held_out"]]
    assert sum(h["missed_ends"] for h in halves) == 0
    assert found["by_pause_ms"]["400"]["false_cuts"] == 0
    assert sum(h["false_cuts"] for h in halves) <= 6, found
    assert all(h["mean_ms"] <= 900 for h in halves), found
