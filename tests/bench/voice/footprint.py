"""What Choir weighs: resident memory and idle processor time of the daemon, four conversations at once, and a long soak."""

import asyncio
import time
from pathlib import Path

import agents
import analyse
import audio
import dialogues
import player
from agents import say

RSS_LIMIT_KB = 25 * 1024  # an empty memory, workers not counted: they are processes of their own
IDLE_LIMIT = 0.005  # of a core
GROWTH_LIMIT_KB = 1024
IDLE_SECONDS = 20
SESSIONS = ("young-man", "amiable-himself", "age-of-foolishness", "queen-clubs")
WARM_UP = 0.1  # share of a soak that is not judged: caches and heaps fill
MIX = ("clip-queen-clubs", "interrupt-900", "clip-young-man", "interrupt-400", "noise-20", "clip-five-five")


def thread_seconds(pid):
    """Processor time of all threads, to the nanosecond where the kernel keeps it."""
    total = 0
    for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(stat.read_text().split()[0])
        except OSError:
            pass
    return total / 1e9


def at_rest(choir):
    """A warm daemon that nobody talks to."""
    pid = choir.process.pid
    before, began = thread_seconds(pid), time.monotonic()
    time.sleep(IDLE_SECONDS)
    share = (thread_seconds(pid) - before) / (time.monotonic() - began)
    workers = {name: agents.rss_kb(child) for name, child in choir.children().items()}
    return {"daemon_rss_kb": agents.rss_kb(pid), "idle_cores": round(share, 5), "workers_rss_kb": workers}


class Timed:
    """Notes when each piece of a reply's sound came."""

    def __init__(self, transport):
        self.transport, self.arrivals = transport, []
        original = transport.on_event

        def on_event(event):
            if event["type"] == "response.output_audio.delta":
                self.arrivals.append((time.monotonic(), event["item_id"], len(event["delta"]) * 3 // 8))
            original(event)

        transport.on_event = on_event

    def deviations(self):
        """By how much the time between two pieces differed from the length of the first, in ms; the first 200 ms of a reply
        are sent ahead on purpose."""
        found, item, sent = [], None, 0
        for (at, one, samples), (then, other, _) in zip(self.arrivals, self.arrivals[1:]):
            if one != item:
                item, sent = one, 0
            sent += samples
            if one == other and sent > audio.RATE // 5:
                found.append(abs((then - at) - samples / audio.RATE) * 1000)
        return found


def four_at_once(bench):
    """Four callers speak at the same moment; each waits for an answer."""
    timed, callers = [], []
    for number, clip in enumerate(SESSIONS):
        spec = {"name": clip, "kind": "clip", "steps": [["sleep", 500], ["say", "turn", [clip]], ["agent", 3000, 60000]]}
        transport = bench.choir.transport(fresh=False)
        timed.append(Timed(transport))
        callers.append(player.Caller(spec, bench.builder.dialogue(spec), transport, seed=number, longest=90))

    async def together():
        return await asyncio.gather(*(caller.run() for caller in callers))

    with agents.first_in_line():
        records = asyncio.run(together())
    waits, deviations, late = [], [], 0.0
    for number, record in enumerate(records):
        left, right = audio.joined(record.left), audio.joined(record.right)
        audio.write_stereo(bench.folder / f"four-{number + 1}.wav", left, right)
        found = analyse.analyse(left, right, audio.RATE, record.placed, record.events)
        waits.append(found["v2v_ms"][0] if found["v2v_ms"] else None)
        deviations += timed[number].deviations()
        late = max(late, record.late_ms)
    return {"v2v_ms": waits, "pacing_jitter_p99_ms": analyse.percentile(deviations, 99), "pieces": len(deviations),
            "listener_late_ms": round(late, 1)}


def all_of_it(bench):
    bench.start(["ours"])
    say(f"At rest for {IDLE_SECONDS} s ...")
    agents.settle(bench.processes())
    found = at_rest(bench.choir)
    say("Four at once ...")
    found["four"] = four_at_once(bench)
    found["daemon_rss_after_kb"] = agents.rss_kb(bench.choir.process.pid)
    return found


def text(found):
    four = found["four"]
    lines = [
        f"daemon, resident          {found['daemon_rss_kb'] / 1024:.1f} MB at rest, {found['daemon_rss_after_kb'] / 1024:.1f} MB after four sessions (limit 25)",
        f"daemon, idle              {found['idle_cores'] * 100:.2f} % of a core (limit 0.5)",
        "workers, resident         " + ", ".join(f"{n} {kb // 1024} MB" for n, kb in found["workers_rss_kb"].items()),
        "four sessions at once     " + ", ".join("no answer" if v is None else f"{v} ms" for v in four["v2v_ms"]) + " voice to voice",
        f"pacing jitter             99 % within {four['pacing_jitter_p99_ms']} ms ({four['pieces']} pieces; the listener itself was up to {four['listener_late_ms']} ms late)",
    ]
    return "\n".join(lines)


def patient(spec):
    """The dialogue with a minute for every answer: slow is not stuck."""
    return {**spec, "steps": [[*step[:2], 60000] if step[0] in ("agent", "quiet") else step for step in spec["steps"]]}


def soak(bench, minutes):
    """Conversation after conversation: turns, interruptions, hang-ups in mid-reply. The daemon must neither grow nor hang."""
    bench.start(["ours"])
    specs = {s["name"]: s for s in dialogues.load("dialogues.json")["dialogues"]}
    pid = bench.choir.process.pid
    began, baseline, stuck, count, worst = time.monotonic(), None, 0, 0, 0
    while time.monotonic() - began < minutes * 60:
        spec = patient(specs[MIX[count % len(MIX)]])
        caller = player.Caller(spec, bench.builder.dialogue(spec), bench.choir.transport(fresh=count % 20 == 0), seed=count)
        record = asyncio.run(caller.run())
        stuck += bool(record.missed)
        count += 1
        share = (time.monotonic() - began) / (minutes * 60)
        rss = agents.rss_kb(pid)
        if baseline is None and share >= WARM_UP:
            baseline = rss
        worst = max(worst, rss)
        if count % 10 == 0:
            say(f"{share * 100:5.1f} %  {count} conversations, {stuck} stuck, daemon {rss} kB")
    agents.settle(bench.processes())
    status = bench.choir.get("/api/status")
    rss = agents.rss_kb(pid)
    return {"minutes": minutes, "conversations": count, "stuck_turns": stuck, "rss_kb": rss, "rss_worst_kb": worst,
            "growth_kb": rss - (baseline or rss), "sessions_left": status["sessions"], "queue_left": status["queue"]}


def soak_text(found):
    return (f"{found['conversations']} conversations in {found['minutes']:g} minutes: {found['stuck_turns']} stuck, the daemon grew by "
            f"{found['growth_kb']} kB to {found['rss_kb']} kB after the first tenth; {found['sessions_left']} sessions and "
            f"{found['queue_left']} waiting turns are left")
