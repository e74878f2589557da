"""The caller: plays a dialogue to an agent in real time, listens as a person's loudspeaker does, and records both sides.

One clock drives everything: at each step of 10 ms the agent's sound that is due is taken from the listener's buffer, what
the caller and the room make is sent, and both go into the recording. So left is what the microphone picked up and right is
what was heard, at the same moment."""

import asyncio
import time
from dataclasses import dataclass, field

import audio
import dialogues
import numpy as np
from audio import RATE, STEP, rms

BEGIN = RATE * 60 // 1000  # the listener's buffer before it starts
AUDIBLE = audio.gain(-50)
LONGEST = 120  # seconds of one dialogue
FADE_OUT, FADE_IN = RATE * 10 // 1000, RATE * 15 // 1000
AT_ONCE = 4  # steps of a caller that is late: then what was sent and what came has its turn
MOST_BACK = RATE // 2  # a resume may go back so far


class Player:
    """The listener's buffer. What comes is played in order; when it runs dry in the middle, there is silence, and it starts
    again with 60 ms. Pieces belong to items, because a server may ask how much of an item was played. A pause lets the
    sound die away and keeps everything from its first quiet sample on, as the page's player does."""

    def __init__(self):
        self.pieces = []  # [item, samples, ended]
        self.played = {}  # item -> samples
        self.dead = set()
        self.item = None  # the one that is or was playing
        self.recent = np.zeros(0, np.float32)  # the last that was played of it
        self.playing = self.held = False
        self.starved = False
        self.underruns = 0
        self.fading = 0  # samples to come that fade in

    def queued(self):
        return sum(len(p[1]) for p in self.pieces)

    def add(self, item, samples):
        if item in self.dead or len(samples) == 0:
            return
        if self.starved:
            self.underruns += not self.held
            self.starved = False
        for piece in self.pieces:
            if piece[0] == item:
                piece[1] = np.concatenate([piece[1], samples])
                return
        self.pieces.append([item, np.asarray(samples, np.float32), False])

    def end(self, item):
        if self.queued() == 0:
            self.starved = False
        for piece in self.pieces:
            if piece[0] == item:
                piece[2] = True
        while self.pieces and self.pieces[0][2] and len(self.pieces[0][1]) == 0:
            self.pieces.pop(0)

    def flush(self):
        self.dead.update(p[0] for p in self.pieces)
        if self.item is not None:
            self.dead.add(self.item)
        self.pieces = []
        self.playing = self.starved = self.held = False

    def pause(self):
        """What is heard next dies away; it is kept, too."""
        if self.held:
            return
        self.held = True
        self.dying = np.zeros(0, np.float32)
        if self.playing and self.pieces:
            tail = self.pieces[0][1][:FADE_OUT]
            self.dying = tail * np.linspace(1, 0, FADE_OUT, dtype=np.float32)[: len(tail)]

    def resume(self, item, sample):
        """Goes on, at this sample of the item when it was played already: no word is lost."""
        if not self.held:
            return
        self.held = False
        self.fading = FADE_IN
        back = self.played.get(item, 0) - max(0, sample)
        if item == self.item and item not in self.dead and 0 < back:
            again = self.recent[len(self.recent) - min(back, len(self.recent)) :]
            self.played[item] -= len(again)
            if self.pieces and self.pieces[0][0] == item:
                self.pieces[0][1] = np.concatenate([again, self.pieces[0][1]])
            else:
                self.pieces.insert(0, [item, again, True])
            self.recent = self.recent[: len(self.recent) - len(again)]
        self.playing = bool(self.queued())

    def pull(self, n):
        out = np.zeros(n, np.float32)
        if self.held:
            out[: min(n, len(self.dying))] = self.dying[:n]
            self.dying = self.dying[n:]
            return out
        queued = self.queued()
        if not self.playing and queued and (queued >= BEGIN or self.pieces[0][2]):
            self.playing = True
        at = 0
        while self.playing and at < n and self.pieces:
            piece = self.pieces[0]
            take = min(n - at, len(piece[1]))
            if take:
                self.took(piece[0], piece[1][:take])
                out[at : at + take] = piece[1][:take]
                piece[1] = piece[1][take:]
                at += take
            if len(piece[1]):
                continue
            if piece[2]:
                self.pieces.pop(0)
                self.playing = bool(self.pieces)
            elif len(self.pieces) == 1:
                self.starved, self.playing = True, False
            else:
                self.pieces.pop(0)
        if self.fading:
            ramp = 1 - np.arange(self.fading, self.fading - n, -1).clip(0) / FADE_IN
            out *= ramp.astype(np.float32)
            self.fading = max(0, self.fading - n)
        return out

    def took(self, item, samples):
        if item != self.item:
            self.item, self.recent = item, np.zeros(0, np.float32)
        self.recent = np.concatenate([self.recent, samples])[-MOST_BACK:]
        self.played[item] = self.played.get(item, 0) + len(samples)


@dataclass
class Recording:
    left: list = field(default_factory=list)
    right: list = field(default_factory=list)
    placed: list = field(default_factory=list)  # utterances: truth and where they begin
    events: list = field(default_factory=list)  # what the agent said beside sound: {"at_ms", "kind", ...}
    missed: list = field(default_factory=list)  # steps that ran into their limit
    late_ms: float = 0.0  # longest time a step came after its moment


class Caller:
    """Plays one dialogue. transport: see transports.py."""

    def __init__(self, spec, utterances, transport, seed=1, longest=LONGEST):
        self.spec, self.utterances, self.transport = spec, utterances, transport
        self.player = Player()
        self.record = Recording()
        self.longest = longest
        self.background = dialogues.background(spec, (longest + 5) * RATE, seed)
        self.echo = audio.Echo(**spec["echo"]) if "echo" in spec else None
        self.now = 0  # samples
        self.steps = [(i, step) for i, step in enumerate(spec["steps"])]
        self.again = None
        if spec["steps"] and spec["steps"][0][0] == "repeat":
            self.again = [(i, step) for i, step in enumerate(spec["steps"][0][1])]
            self.steps = list(self.again)
        self.entered = None
        self.speaking = None  # [sound, position]
        self.since = 0  # sample from which on the agent counts as heard
        self.heard = None  # first sample of the agent after that
        self.loud = 0
        self.last_loud = 0
        self.ended = False

    def note(self, kind, **what):
        self.record.events.append({"at_ms": dialogues.to_ms(self.now), "kind": kind, **what})

    def enter(self, number, step):
        self.entered = self.now
        if step[0] == "say":
            utterance = self.utterances[number]
            self.speaking = [utterance.sound, 0]
            self.record.placed.append({"at_ms": dialogues.to_ms(self.now), **utterance.truth()})
        elif step[0] == "text":
            self.transport.text(step[1])
            self.listen_anew()
        elif step[0] == "quiet":
            self.last_loud = max(self.last_loud, self.now)

    def listen_anew(self):
        self.since, self.heard, self.loud = self.now, None, 0

    def done(self, step):
        waited = dialogues.to_ms(self.now - self.entered)
        if step[0] == "say":
            if self.speaking is None:
                self.listen_anew()
            return self.speaking is None
        if step[0] == "sleep":
            return waited >= step[1]
        if step[0] == "agent":
            if self.heard is not None:
                return dialogues.to_ms(self.now - self.heard) >= step[1]
        elif step[0] == "quiet":
            if dialogues.to_ms(self.now - self.last_loud) >= step[1]:
                return True
        else:
            return True
        if waited >= step[2]:
            self.record.missed.append({"at_ms": dialogues.to_ms(self.now), "step": step[0]})
            return True
        return False

    def advance(self):
        while self.steps:
            number, step = self.steps[0]
            if self.entered is None:
                self.enter(number, step)
            if not self.done(step):
                return
            self.entered = None
            self.steps.pop(0)
            if not self.steps and self.again:
                self.steps = list(self.again)
                self.listen_anew()
                return
        self.ended = True

    def step(self):
        starved = self.player.starved
        right = self.player.pull(STEP)
        if self.player.starved and not starved:
            self.note("dry")  # nothing to play, and the reply is not known to be over
        left = self.background[self.now : self.now + STEP].copy()
        if self.speaking is not None:
            sound, at = self.speaking
            piece = sound[at : at + STEP]
            left[: len(piece)] += piece
            self.speaking = None if at + STEP >= len(sound) else [sound, at + STEP]
        if self.echo:
            left += self.echo.step(right)
        self.record.left.append(left)
        self.record.right.append(right)
        self.now += STEP
        self.transport.send(left)
        self.transport.tick(self.now)
        if rms(right) > AUDIBLE:
            self.loud += 1
            self.last_loud = self.now
            if self.loud == 2 and self.heard is None:
                self.heard = self.now - 2 * STEP
        else:
            self.loud = 0
        self.advance()

    async def run(self):
        """Opens the transport, plays the dialogue, closes it; returns the recording."""
        await self.transport.open(self)
        try:
            began = time.monotonic()
            while not self.ended and self.now < self.longest * RATE:
                elapsed = time.monotonic() - began
                due = int(elapsed * RATE)
                self.record.late_ms = max(self.record.late_ms, (elapsed - self.now / RATE) * 1000)
                steps = 0
                while self.now + STEP <= due and not self.ended and steps < AT_ONCE:
                    self.step()
                    steps += 1
                if self.transport.broken:
                    raise dialogues.Problem(self.transport.broken)
                await asyncio.sleep(0.004 if steps < AT_ONCE else 0)
        finally:
            await self.transport.close()
        return self.record
