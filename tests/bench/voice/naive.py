"""The plain way to build a voice agent, as a yardstick: the same ear, recogniser, voice and language model as Choir, used one
after the other. A turn ends after a fixed silence; then the whole of it is transcribed; the language model's answer is
streamed, but spoken only when it is complete, in one piece. Speech over the answer stops it; what is kept of the answer is its
share of the time. One client at a time, over the frames of transports.Raw. Started by the bench: naive.py PORT SETTINGS.json"""

import asyncio
import json
import struct
import sys
import threading
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests/unit/speech"))
from wire_client import EAR_AUDIO, EAR_OPEN, EAR_WINDOW, Worker  # noqa: E402

WINDOW = 512  # samples of 16 kHz: 32 ms
ONSET = 4  # windows of speech that begin a turn
THRESHOLD = 0.5
PREFIX = 300 * 16  # samples kept from before the onset


class Conversation:
    def __init__(self, engines, settings, send):
        self.engines, self.settings, self.send = engines, settings, send
        self.messages = [{"role": "system", "content": settings["persona"]}]
        self.sound = b""  # all of the microphone, s16 16 kHz
        self.judged = 0  # bytes
        self.run = self.silence = 0
        self.begin = None  # byte at which the turn begins
        self.generation = 0
        self.reply = None  # text, seconds, when it began to play
        self.tasks = set()
        engines.ear.send(EAR_OPEN)

    def audio(self, payload):
        self.sound += payload
        while self.judged + WINDOW * 2 <= len(self.sound):
            window = self.sound[self.judged : self.judged + WINDOW * 2]
            self.engines.ear.send(EAR_AUDIO, window, aux=self.judged // 2 & 0xFFFFFFFF)
            probability = struct.unpack("<ff", self.engines.ear.wait(EAR_WINDOW)[4])[0]
            self.judged += WINDOW * 2
            self.window(probability)

    def window(self, probability):
        if probability > THRESHOLD:
            self.run, self.silence = self.run + 1, 0
            if self.run == ONSET and self.begin is None:
                self.begin = max(0, self.judged - (ONSET * WINDOW + PREFIX) * 2)
                self.interrupt()
        else:
            self.run, self.silence = 0, self.silence + 1
            if self.begin is not None and self.silence * WINDOW >= self.settings["silence_ms"] * 16:
                turn, self.begin = self.sound[self.begin :], None
                self.start(self.spoken(turn, self.generation))

    def start(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def interrupt(self):
        """Whatever is under way is dropped; of an answer that plays, its share of the time stays in the conversation."""
        self.generation += 1
        self.send(b"F", b"")
        if self.reply:
            text, seconds, began = self.reply
            share = min(1, (asyncio.get_running_loop().time() - began) / seconds)
            if share < 1:
                words = text.split()
                kept = " ".join(words[: round(len(words) * share)])
                self.messages[-1]["content"] = kept
                self.note(kind="cut", kept=kept)
            self.reply = None

    def note(self, **what):
        self.send(b"N", json.dumps(what).encode())

    async def spoken(self, turn, generation):
        text = (await asyncio.to_thread(self.engines.transcribe, turn)).strip()
        if text and generation == self.generation:
            self.note(kind="caller", text=text)
            await self.answer(text, generation)

    def typed(self, text):
        self.interrupt()
        self.start(self.answer(text, self.generation))

    async def answer(self, text, generation):
        self.messages.append({"role": "user", "content": text})
        reply = await asyncio.to_thread(self.ask, list(self.messages), generation)
        if generation != self.generation or not reply:
            return
        pcm = await asyncio.to_thread(self.engines.speak, reply)
        if generation != self.generation:
            return
        self.messages.append({"role": "assistant", "content": reply})
        self.reply = (reply, len(pcm) / 48000, asyncio.get_running_loop().time())
        self.note(kind="reply", text=reply)
        self.send(b"A", pcm)
        self.send(b"E", b"")

    def ask(self, messages, generation):
        body = {"messages": messages, "stream": True, "max_tokens": self.settings["max_tokens"],
                "temperature": self.settings["temperature"], "top_p": self.settings["top_p"], "cache_prompt": True}
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + self.settings["key"]}
        request = urllib.request.Request(self.settings["llm"] + "/v1/chat/completions", json.dumps(body).encode(), headers)
        reply = ""
        with urllib.request.urlopen(request, timeout=120) as answer:
            for line in answer:
                if generation != self.generation or line.strip() == b"data: [DONE]":
                    break
                if line.startswith(b"data: "):
                    choices = json.loads(line[6:]).get("choices") or [{}]
                    reply += choices[0].get("delta", {}).get("content") or ""
        return reply.strip()

    async def close(self):
        self.generation += 1
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Engines:
    def __init__(self, settings):
        self.lock = {"stt": threading.Lock(), "tts": threading.Lock()}
        self.ear = Worker(settings["ear"])
        self.stt = Worker(settings["stt"], timeout=120)
        self.tts = Worker(settings["tts"], phonemes=settings["phonemes"], timeout=120)
        for worker in (self.ear, self.stt, self.tts):
            worker.wait_ready()
        self.gen = 0

    def transcribe(self, pcm):
        with self.lock["stt"]:
            self.gen += 1
            return self.stt.transcribe(pcm, self.gen)["text"]

    def speak(self, text):
        with self.lock["tts"]:
            self.gen += 1
            return self.tts.speak(text, self.gen)[0]


async def serve(port, settings):
    engines = Engines(settings)

    async def client(reader, writer):
        def send(kind, payload):
            writer.write(kind + struct.pack("<I", len(payload)) + payload)

        conversation = Conversation(engines, settings, send)
        try:
            while True:
                kind, length = struct.unpack("<cI", await reader.readexactly(5))
                payload = await reader.readexactly(length)
                if kind == b"A":
                    conversation.audio(payload)
                elif kind == b"T":
                    conversation.typed(payload.decode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        await conversation.close()
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", port)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))
