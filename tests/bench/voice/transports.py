"""How the caller reaches an agent: Choir's Realtime WebSocket (with playout reports as the page sends them, or as a stock
client without), plain PCM over TCP (naive.py), and pipecat's protobuf frames over a WebSocket. Each has open(caller),
send(samples at RATE), text(words), tick(now), close(), and `broken`, a sentence once it is."""

import asyncio
import base64
import json
import struct
import urllib.request

import audio
import dialogues
import numpy as np
import websockets
from audio import RATE, STEP

SEND = 2 * STEP  # a microphone's frames are 20 ms


def from_int16(data):
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


class Transport:
    def __init__(self):
        self.broken = None
        self.caller = None
        self.frame = []
        self.outgoing = asyncio.Queue()
        self.tasks = []

    def start(self, *coroutines):
        for coroutine in coroutines:
            self.tasks.append(asyncio.create_task(self.guard(coroutine)))

    async def guard(self, coroutine):
        try:
            await coroutine
        except asyncio.CancelledError:
            pass
        except (websockets.ConnectionClosed, ConnectionError, asyncio.IncompleteReadError) as error:
            self.broken = self.broken or f"the agent hung up: {error or type(error).__name__}"

    def send(self, samples):
        self.frame.append(samples)
        if sum(map(len, self.frame)) >= SEND:
            self.outgoing.put_nowait(self.encode(np.concatenate(self.frame)))
            self.frame = []

    def tick(self, now):
        pass

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class WebSocketTransport(Transport):
    def __init__(self, url):
        super().__init__()
        self.url, self.socket = url, None

    async def connect(self):
        self.socket = await websockets.connect(self.url, max_size=1 << 24, compression=None, open_timeout=20)

    async def writer(self):
        while True:
            await self.socket.send(await self.outgoing.get())

    async def close(self):
        await self.stop()
        if self.socket:
            try:
                await asyncio.wait_for(self.socket.close(), 5)
            except (TimeoutError, asyncio.TimeoutError):
                pass


class Realtime(WebSocketTransport):
    """The OpenAI Realtime protocol as Choir speaks it. acks: report what was played every 30 ms and stop at once when told,
    as the page does; without, a stock client: nothing is reported and only what the protocol's own events demand is dropped."""

    def __init__(self, url, acks=True, fresh=True):
        query = "?choir=1&source=cli" if acks else "?source=cli"
        super().__init__(url.replace("http", "ws", 1) + "/v1/realtime" + query)
        self.http, self.acks, self.fresh = url, acks, fresh
        self.told, self.told_underruns = None, 0
        self.pauses = False
        self.replies = {}  # response -> text

    def post(self, path, body):
        request = urllib.request.Request(self.http + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    async def open(self, caller):
        self.caller = caller
        if self.fresh:
            await asyncio.to_thread(self.post, "/api/conversations", {"title": "bench"})
        await self.connect()
        await self.socket.send(json.dumps({"type": "session.update", "session": {
            "type": "realtime", "output_modalities": ["audio"], "audio": {"input": {"format": {"type": "audio/pcm", "rate": RATE}}}}}))
        while json.loads(await asyncio.wait_for(self.socket.recv(), 20))["type"] != "session.updated":
            pass
        self.start(self.writer(), self.reader())

    def encode(self, samples):
        return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(audio.to_int16(samples).tobytes()).decode()})

    def text(self, words):
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": words}]}
        self.outgoing.put_nowait(json.dumps({"type": "conversation.item.create", "item": item}))
        self.outgoing.put_nowait(json.dumps({"type": "response.create"}))

    def tick(self, now):
        player = self.caller.player
        if not self.acks or now // STEP % 3 or player.item is None:
            return
        state = (player.item, player.played[player.item])
        if state != self.told or player.underruns != self.told_underruns:
            self.outgoing.put_nowait(json.dumps({"type": "choir.playout", "item_id": state[0], "played_samples": state[1],
                                                 "underruns": player.underruns - self.told_underruns}))
            self.told, self.told_underruns = state, player.underruns

    async def reader(self):
        async for message in self.socket:
            self.on_event(json.loads(message))

    def on_event(self, event):
        kind, caller = event["type"], self.caller
        if kind == "response.output_audio.delta":
            caller.player.add(event["item_id"], from_int16(base64.b64decode(event["delta"])))
        elif kind == "response.output_audio.done":
            caller.player.end(event["item_id"])
        elif kind == "response.output_audio_transcript.delta":
            self.replies[event["response_id"]] = self.replies.get(event["response_id"], "") + event["delta"]
        elif kind == "input_audio_buffer.speech_started":
            caller.note("speech_started")
            if self.pauses:
                caller.player.pause()
            elif self.acks:
                caller.player.flush()
        elif kind == "choir.playout.paused":
            caller.note("paused")
            self.pauses = self.acks  # from now on the server decides what a voice is worth
            if self.pauses and event["item_id"] == caller.player.item:
                caller.player.pause()
        elif kind == "choir.playout.resumed":
            caller.note("resumed")
            caller.player.resume(event["item_id"], round(event["audio_ms"] * RATE / 1000))
        elif kind == "conversation.item.truncated":
            caller.note("cut", kept=event.get("text"))
            if self.acks:
                caller.player.flush()
            else:
                caller.player.end(event["item_id"])
        elif kind == "conversation.item.input_audio_transcription.completed":
            caller.note("caller", text=event.get("transcript"))
        elif kind == "response.created":
            caller.note("response")
        elif kind == "response.done":
            response = event["response"]
            caller.note("reply", status=response["status"], text=self.replies.pop(response["id"], ""))
            if response["status"] == "cancelled" and caller.player.held:
                caller.player.flush()
        elif kind == "error":
            caller.note("error", text=event["error"].get("message"))


class Raw(Transport):
    """naive.py's own: a byte that says what it is, the length as u32, then the payload. A = 16 kHz s16 to it, 24 kHz s16 from
    it; T = text to be answered; E = the reply's audio is complete; F = stop playing; N = a note as JSON."""

    def __init__(self, port):
        super().__init__()
        self.port, self.stream, self.to16 = port, None, audio.To16k()
        self.item = 0

    async def open(self, caller):
        self.caller = caller
        reader, self.stream = await asyncio.open_connection("127.0.0.1", self.port)
        self.start(self.reader(reader), self.writer())

    @staticmethod
    def pack(kind, payload):
        return kind + struct.pack("<I", len(payload)) + payload

    def encode(self, samples):
        return self.pack(b"A", audio.to_int16(self.to16(samples)).tobytes())

    def text(self, words):
        self.outgoing.put_nowait(self.pack(b"T", words.encode()))

    async def writer(self):
        while True:
            self.stream.write(await self.outgoing.get())
            await self.stream.drain()

    async def reader(self, reader):
        while True:
            kind, length = struct.unpack("<cI", await reader.readexactly(5))
            payload = await reader.readexactly(length)
            player = self.caller.player
            if kind == b"A":
                player.add(self.item, from_int16(payload))
            elif kind == b"E":
                player.end(self.item)
                self.item += 1
            elif kind == b"F":
                player.flush()
                self.item += 1
            elif kind == b"N":
                self.caller.note(**json.loads(payload))

    async def close(self):
        await self.stop()
        if self.stream:
            self.stream.close()


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def protobuf(number, value):
    """One field: bytes or an unsigned number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_protobuf(data):
    """{field: value} of a message; the last one wins."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            fields[tag >> 3] = number()
        elif tag & 7 == 2:
            length = number()
            fields[tag >> 3] = data[at : at + length]
            at += length
        else:
            raise ValueError("not a pipecat frame")
    return fields


class Pipecat(WebSocketTransport):
    """pipecat.Frame {1 text, 2 audio, 3 transcription, 4 message, 5 interruption}. An interruption empties the listener's
    buffer at once, which is kinder than pipecat's own JavaScript player. notes: file in which bot.py tells what it kept."""

    def __init__(self, port, notes):
        super().__init__(f"ws://127.0.0.1:{port}")
        self.to16, self.notes, self.item, self.read = audio.To16k(), notes, 0, 0

    async def open(self, caller):
        self.caller = caller
        self.read = self.notes.stat().st_size if self.notes.exists() else 0
        await self.connect()
        ready = {"label": "rtvi-ai", "type": "client-ready", "id": "bench",
                 "data": {"version": "1.0.0", "about": {"library": "choir-bench"}}}
        await self.socket.send(protobuf(4, protobuf(1, json.dumps(ready).encode())))
        self.start(self.writer(), self.reader())

    def encode(self, samples):
        data = audio.to_int16(self.to16(samples)).tobytes()
        return protobuf(2, protobuf(3, data) + protobuf(4, 16000) + protobuf(5, 1))

    def text(self, words):
        message = {"label": "rtvi-ai", "type": "send-text", "id": "text",
                   "data": {"content": words, "options": {"run_immediately": True, "audio_response": True}}}
        self.outgoing.put_nowait(protobuf(4, protobuf(1, json.dumps(message).encode())))

    async def reader(self):
        async for message in self.socket:
            frame = read_protobuf(message)
            player = self.caller.player
            if 2 in frame:
                fields = read_protobuf(frame[2])
                if fields.get(4) != RATE:
                    raise dialogues.Problem(f"pipecat sends {fields.get(4)} Hz instead of {RATE}")
                player.add(self.item, from_int16(fields[3]))
            elif 5 in frame:
                self.caller.note("interruption")
                player.flush()
                self.item += 1
            elif 4 in frame:
                event = json.loads(read_protobuf(frame[4])[1])
                if event.get("type") == "bot-stopped-speaking":
                    player.end(self.item)
                    self.item += 1
                elif event.get("type") == "user-transcription":
                    self.caller.note("caller", text=event["data"]["text"])
                elif event.get("type") == "bot-llm-text":
                    self.caller.note("text", text=event["data"]["text"])

    def collect(self):
        """What bot.py noted since the dialogue began."""
        if not self.notes.exists():
            return
        with open(self.notes, encoding="utf-8") as file:
            file.seek(self.read)
            for line in file:
                note = json.loads(line)
                if note["kind"] == "kept":
                    self.caller.note("cut" if note["interrupted"] else "reply", kept=note["text"])

    async def close(self):
        await asyncio.sleep(0.2)
        self.collect()
        await super().close()
