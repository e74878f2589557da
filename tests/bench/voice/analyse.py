"""What a stereo recording says: left is the caller's microphone, right the agent as it was heard. The only other inputs are
the truth about the caller's track (when what was said) and, for the words that were kept after a cut, the agent's own report.

Definitions (in docs/latency.md, too):
- the agent is heard while its 10 ms levels are above -50 dBFS, from the first of two such on; silences under 300 ms join
- voice to voice: end of the caller's turn to the agent's first sound after it
- interruption to silence: first sound of the interruption to the agent's last sound before 600 ms of silence
- false cut: the agent begins to speak within a turn, in one of its pauses or over its words
- self-interruption: the agent falls silent in mid-speech for over 300 ms (or gets 20 dB softer) while nothing but its own
  echo, noise or a backchannel is in the microphone; "resumed" are those after which it went on where it had stopped
- dead air: over 1 s in which nobody is heard although an answer is owed or goes on
- glitch: within speech, a gap of digital silence with sound at both edges (2 to 300 ms, or up to 2 s when the sound goes on
  exactly where it stopped), or a jump between two samples"""

import numpy as np
from audio import gain, rms

WINDOW_MS = 10
THRESHOLD_DB = -50
JOIN_MS = 300
STOP_MS = 600
DEAD_MS = 1000
GAP_MS = 2000
RESUME_MS = 1500
DUCK_DB = 20
AFTER_MS = 900  # an agent may still react so long after the sound that was none of its business


def levels(samples, rate):
    n = rate * WINDOW_MS // 1000
    whole = samples[: len(samples) // n * n].reshape(-1, n).astype(np.float64)
    return np.sqrt(np.mean(whole**2, axis=1))


def spans(samples, rate, join_ms=JOIN_MS, threshold=gain(THRESHOLD_DB)):
    """[(first, last), ...] in ms."""
    found, run = [], 0
    for i, level in enumerate(levels(samples, rate)):
        run = run + 1 if level > threshold else 0
        if run < 2:
            continue
        begin, end = (i - 1) * WINDOW_MS, (i + 1) * WINDOW_MS
        if found and begin - found[-1][1] < join_ms:
            found[-1][1] = end
        else:
            found.append([begin, end])
    return [tuple(s) for s in found]


def piece(samples, rate, begin_ms, end_ms):
    return samples[max(0, int(begin_ms * rate / 1000)) : max(0, int(end_ms * rate / 1000))]


def abrupt(right, rate, end_ms):
    """Does the sound end at end_ms as a cut does, in digital silence right after speech (a fade of 30 ms at most)? A voice
    that ends by itself dies away over more than that, into its own noise."""
    near = piece(right, rate, end_ms - 50, end_ms + 20)
    zeros = np.flatnonzero(np.abs(near) > 0.5 / 32768)
    if not len(zeros):
        return False
    last = (end_ms - 50) * rate // 1000 + int(zeros[-1]) + 1  # the first sample of digital silence
    if last > (end_ms + 15) * rate // 1000 or np.any(np.abs(right[last : last + rate // 20]) > 0.5 / 32768):
        return False
    before = right[max(0, last - rate * 35 // 1000) : last]
    usual = levels(right[max(0, last - rate // 2) : last], rate)
    usual = usual[usual > gain(THRESHOLD_DB)]
    return bool(len(usual)) and float(np.max(levels(before, rate), initial=0)) > np.median(usual) * gain(-14)


def softer(right, rate, begin_ms, end_ms):
    """When the agent gets 20 dB softer than it was for over 300 ms but is still heard (ms), else None."""
    usual = levels(piece(right, rate, begin_ms - 800, begin_ms), rate)
    usual = usual[usual > gain(THRESHOLD_DB)]
    if not len(usual):
        return None
    loud = np.median(usual) * gain(-DUCK_DB)
    run = 0
    for i, level in enumerate(levels(piece(right, rate, begin_ms, end_ms), rate)):
        run = run + 1 if level < loud else 0
        if run * WINDOW_MS > JOIN_MS:
            return begin_ms + (i - run + 1) * WINDOW_MS
    return None


def first_sound(utterance):
    return utterance["at_ms"] + utterance["speech"][0][0]


def last_sound(utterance):
    return utterance["at_ms"] + utterance["speech"][-1][1]


def turn_figures(heard, placed, length_ms, out):
    for i, turn in enumerate(placed):
        if turn["role"] not in ("turn", "interruption"):
            continue
        begin, end = first_sound(turn), last_sound(turn)
        following = [first_sound(p) for p in placed[i + 1 :]]
        limit = following[0] if following else length_ms
        starts = [s[0] for s in heard]
        if turn["role"] == "turn" and any(begin < s < end for s in starts):
            out["false_cuts"] += 1
            continue
        answers = [s for s in starts if end <= s < limit]
        if not answers:
            out["missed"] += turn["role"] == "turn"
        elif turn["role"] == "turn":
            out["v2v_ms"].append(answers[0] - end)
        else:
            out["resp_ms"].append(answers[0] - end)


def stop_figures(right, rate, placed, out):
    joined = spans(right, rate, STOP_MS)
    for turn in placed:
        if turn["role"] != "interruption":
            continue
        begin, end = first_sound(turn), last_sound(turn)
        over = [s for s in joined if s[0] < begin < s[1]]
        if over:
            out["stop_ms"].append(min(over[0][1], end) - begin)
            out["not_stopped"] += over[0][1] > end
            out["cuts_at"].append((over[0][0], over[0][1]))


def false_stops(right, rate, begin_ms, end_ms, events):
    """Times at which the agent fell silent although nobody had interrupted it."""
    length_ms = len(right) * 1000 // rate
    cuts = [e["at_ms"] for e in events if e["kind"] in ("cut", "paused", "interruption")]
    found = []
    torn = [begin for begin, _ in gaps(right, rate)]  # the sound did not come in time: another fault
    dry = [e["at_ms"] for e in events if e["kind"] == "dry"]
    for _, last in spans(right, rate):
        if any(abs(last - begin) < 30 for begin in torn):
            continue
        if any(abs(last - at) < 30 for at in dry) and not any(abs(c - last) < 400 for c in cuts):
            continue
        if not begin_ms < last <= end_ms or last > length_ms - JOIN_MS:
            continue
        if abrupt(right, rate, last) or any(abs(c - last) < 400 for c in cuts):
            found.append(last)
    return found


def went_on(stops, right, rate, events):
    """How many of those stops were pauses: the agent says it resumed, and is heard again within 1.5 s."""
    resumed = [e["at_ms"] for e in events if e["kind"] == "resumed"]
    starts = [first for first, _ in spans(right, rate)]
    return sum(any(0 <= r - s < RESUME_MS for r in resumed) and any(0 < f - s < RESUME_MS for f in starts) for s in stops)


def self_figures(right, rate, placed, events, cause, out):
    length_ms = len(right) * 1000 // rate
    if cause == "echo":
        stops = false_stops(right, rate, 0, length_ms, events)
        out["false"]["echo"] = out["false"].get("echo", 0) + len(stops)
        out["resumed"] += went_on(stops, right, rate, events)
    for sound in placed:
        if sound["role"] not in ("backchannel", "noise", "sidetalk"):
            continue
        begin, end = first_sound(sound), last_sound(sound) + AFTER_MS
        if not any(first < begin < last for first, last in spans(right, rate)):
            continue  # the agent did not speak just then
        stops = false_stops(right, rate, begin, end, events)
        ducked = softer(right, rate, begin, end) if not stops else None
        still = ducked is not None and rms(piece(right, rate, ducked, ducked + JOIN_MS)) > gain(THRESHOLD_DB)
        out["false"][sound["role"]] = out["false"].get(sound["role"], 0) + bool(stops or still)
        out["resumed"] += went_on(stops[:1], right, rate, events) if sound["role"] != "sidetalk" else 0
        out["tried"][sound["role"]] = out["tried"].get(sound["role"], 0) + 1


def dead_air(heard, placed, length_ms):
    """Silences of both over 1 s between the end of a turn and the end of its answer."""
    count = 0
    for i, turn in enumerate(placed):
        if turn["role"] not in ("turn", "interruption"):
            continue
        limit = first_sound(placed[i + 1]) if i + 1 < len(placed) else length_ms
        at = last_sound(turn)
        for first, last in heard:
            if last <= at or first >= limit:
                continue
            count += first - at > DEAD_MS
            at = max(at, last)
    return count


def gaps(right, rate):
    """[(begin, end), ...] in ms: digital silence that tears a sound apart. Under 300 ms it is enough that there is sound at
    both edges; a longer one must go on exactly where it stopped, else it is a cut and a new beginning."""
    quiet = np.abs(right) < 0.5 / 32768
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    edge = rate // 200
    found = []
    for begin, end in zip(edges[0::2], edges[1::2]):
        if not rate // 500 <= end - begin < rate * GAP_MS // 1000 or begin == 0 or end >= len(right):
            continue
        if rms(right[max(0, begin - edge) : begin]) < gain(-40) or rms(right[end : end + edge]) < gain(-40):
            continue
        slope = abs(right[begin - 1] - right[begin - 2])
        on = abs(right[end] - right[begin - 1]) < 0.05 + 1.5 * slope and rms(right[end : end + edge // 2]) > gain(-40)
        if end - begin < rate * JOIN_MS // 1000 or on:
            found.append((int(begin * 1000 // rate), int(end * 1000 // rate)))
    return found


def glitches(right, rate):
    """Times (ms) of gaps and jumps within the agent's speech."""
    torn = gaps(right, rate)
    found = [begin for begin, _ in torn]
    steps = np.abs(np.diff(right))
    around = rate // 200
    for i in np.flatnonzero(steps > 0.15):
        others = np.concatenate([steps[max(0, i - around) : max(0, i - 1)], steps[i + 2 : i + around]])
        silent_after = not np.any(np.abs(right[i + 1 : i + 1 + rate // 10]) > 0.5 / 32768)  # the end of a cut, no glitch
        at = int(i * 1000 // rate)
        edge_of_gap = any(begin - 5 < at < end + 5 for begin, end in torn)
        if len(others) and steps[i] > 6 * np.max(others) and not silent_after and not edge_of_gap:
            found.append(at)
    return sorted(found)


def analyse(left, right, rate, placed, events=(), cause=None):
    """The figures of one recording. cause: "echo" when the microphone heard the loudspeaker."""
    out = {"v2v_ms": [], "resp_ms": [], "stop_ms": [], "cuts_at": [], "false_cuts": 0, "missed": 0, "not_stopped": 0,
           "false": {}, "tried": {}, "resumed": 0}
    length_ms = len(right) * 1000 // rate
    heard = spans(right, rate)
    turn_figures(heard, placed, length_ms, out)
    stop_figures(right, rate, placed, out)
    self_figures(right, rate, placed, events, cause, out)
    out["dead_air"] = dead_air(heard, placed, length_ms)
    out["glitches"] = glitches(right, rate)
    out["agent_ms"] = sum(b - a for a, b in heard)
    return out


def heard_words(full, transcript):
    """How many words of the reply `full` were heard, by aligning what a recogniser made of the recording with its beginning."""
    row = list(range(len(full) + 1))
    for i, word in enumerate(transcript, 1):
        before, row[0] = row[0], i
        for j, expected in enumerate(full, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (expected != word))
    return min(range(len(row)), key=lambda j: (row[j], abs(j - len(transcript))))


def percentile(values, p):
    return round(float(np.percentile(values, p))) if values else None


def summary(results):
    """One column of the table out of the figures of its recordings."""
    v2v = [v for r in results for v in r["v2v_ms"]]
    stops = [v for r in results for v in r["stop_ms"]]
    causes = {}
    for r in results:
        for cause, count in r["false"].items():
            causes[cause] = causes.get(cause, 0) + count
    off = [r["context_off"] for r in results if r.get("context_off") is not None]
    return {
        "v2v_p50_ms": percentile(v2v, 50), "v2v_p95_ms": percentile(v2v, 95), "v2v_max_ms": max(v2v, default=None),
        "stop_p50_ms": percentile(stops, 50), "stop_p95_ms": percentile(stops, 95),
        "false_cuts": sum(r["false_cuts"] for r in results),
        "self_interruptions": sum(n for cause, n in causes.items() if cause != "sidetalk"),
        "self_interruptions_resumed": sum(r["resumed"] for r in results),
        "glitches": sum(len(r["glitches"]) for r in results),
        "dead_air": sum(r["dead_air"] for r in results),
        "missed": sum(r["missed"] for r in results), "not_stopped": sum(r["not_stopped"] for r in results),
        "turns": len(v2v) + sum(r["false_cuts"] + r["missed"] for r in results), "stops": len(stops),
        "resp_p50_ms": percentile([v for r in results for v in r["resp_ms"]], 50),
        "context_off_words": off, "false_stops": causes, "agent_s": round(sum(r["agent_ms"] for r in results) / 1000, 1),
    }
