"""The Wyoming server and client, with the stock Python package on the other side.

One daemon hears and speaks; a second one borrows both from it. No language model runs."""
import asyncio
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import urllib.request
import wave

import numpy
import pytest
from conftest import BUILD, Daemon
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart
from wyoming.audio import AudioChunk, AudioStart, AudioStop, wav_to_chunks
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info, TtsProgram, TtsVoice
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncEventHandler, AsyncServer
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir"
DATA = pathlib.Path(os.environ.get("CHOIR_DATA") or CACHE / "data")
JFK = DATA / "jfk.wav"
LIMIT = 240
NO_LLM = ("--set", "llm.base_url=http://127.0.0.1:1/v1")


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def ports_of(stt, tts):
    return ("--set", f"wyoming.stt_port={stt}", "--set", f"wyoming.tts_port={tts}")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    stt, tts = free_ports(2)
    daemon = Daemon(tmp_path_factory.mktemp("wyoming") / "state", *NO_LLM, *ports_of(stt, tts))
    daemon.stt, daemon.tts = stt, tts
    daemon.start()
    try:
        daemon.wait_engines("stt", "tts")
        yield daemon
    finally:
        daemon.stop()


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT))


def metric(daemon, name):
    with urllib.request.urlopen(daemon.url + "/metrics", timeout=10) as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.M)
    return float(found.group(1)) if found else None


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.1)
    return False


async def expect(client, *types):
    """Events up to one of these types, which comes last."""
    seen = []
    while True:
        event = await client.read_event()
        assert event is not None, f"hung up after {[e.type for e in seen]}"
        seen.append(event)
        if event.type in types:
            return seen


async def send_wav(client, path=JFK, samples=1024):
    with wave.open(str(path)) as wav:
        for chunk in wav_to_chunks(wav, samples, start_event=True, stop_event=True):
            await client.write_event(chunk.event())


async def transcribe(port, path=JFK, **options):
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Transcribe(**options).event())
        await send_wav(client, path)
        return await expect(client, "transcript-stop", "error")


async def speak(port, text, **options):
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Synthesize(text=text, **options).event())
        return await expect(client, "audio-stop", "error")


def sound(events):
    return numpy.frombuffer(b"".join(e.payload for e in events if AudioChunk.is_type(e.type)), "<i2")


def text_of(events):
    return next(Transcript.from_event(e).text for e in events if Transcript.is_type(e.type))


def test_describe_and_ping(house):
    async def talk(port):
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Ping(text="are you there?").event())
            assert Pong.from_event(await client.read_event()).text == "are you there?"
            await client.write_event(Describe().event())
            return Info.from_event(await client.read_event())

    hears, speaks = run(talk(house.stt)), run(talk(house.tts))
    assert hears.asr[0].installed and hears.asr[0].supports_transcript_streaming and not hears.tts
    assert hears.asr[0].models[0].name == "whisper" and {"en", "de", "fi"} <= set(hears.asr[0].models[0].languages)
    assert speaks.tts[0].installed and speaks.tts[0].supports_synthesize_streaming and not speaks.asr
    assert speaks.tts[0].voices[0].languages == ["en_US"]


def test_real_speech(house):
    events = run(transcribe(house.stt, language="en-US", transcript_names=["Kennedy"]))
    assert [e.type for e in events if not TranscriptChunk.is_type(e.type)] == [
        "transcript-start", "transcript", "transcript-stop"]
    assert TranscriptStart.from_event(events[0]).language == "en"
    text = text_of(events)
    assert "ask not what your country can do for you" in text.lower()
    assert "".join(TranscriptChunk.from_event(e).text for e in events if TranscriptChunk.is_type(e.type)) == text


def test_a_long_recording_comes_in_pieces(house):
    events = run(transcribe(house.stt, DATA / "two_cities.wav", language="en"))
    assert sum(TranscriptChunk.is_type(e.type) for e in events) >= 2
    assert "best of times" in text_of(events) and "superlative degree" in text_of(events)


@pytest.mark.parametrize("rate,width,channels", [(48000, 4, 2), (8000, 2, 1), (16000, 1, 1), (44100, 3, 2)])
def test_other_formats(house, tmp_path, rate, width, channels):
    kind = "unsigned-integer" if width == 1 else "signed-integer"
    target = tmp_path / "other.raw"
    subprocess.run(["sox", JFK, "-r", str(rate), "-b", str(8 * width), "-e", kind, "-c", str(channels), target], check=True)
    data = target.read_bytes()

    async def talk():
        form = {"rate": rate, "width": width, "channels": channels}
        async with AsyncTcpClient("127.0.0.1", house.stt) as client:
            await client.write_event(Transcribe(language="en").event())
            await client.write_event(AudioStart(**form).event())
            for at in range(0, len(data), 7777):  # chunks that end inside a frame
                await client.write_event(AudioChunk(audio=data[at:at + 7777], **form).event())
            await client.write_event(AudioStop().event())
            return await expect(client, "transcript-stop", "error")

    assert "your country" in text_of(run(talk()))


def test_the_voice_says_what_it_is_told(house, tmp_path):
    events = run(speak(house.tts, "The weather is nice today. We will go to the market!"))
    start = AudioStart.from_event(events[0])
    pcm = sound(events)
    assert (start.rate, start.width, start.channels) == (24000, 2, 1)
    assert 1.5 < len(pcm) / 24000 < 15 and numpy.abs(pcm).max() > 2000
    target = tmp_path / "said.wav"
    with wave.open(str(target), "wb") as wav:
        wav.setparams((1, 2, 24000, 0, "NONE", ""))
        wav.writeframes(pcm.tobytes())
    heard = text_of(run(transcribe(house.stt, target, language="en"))).lower()
    assert "weather" in heard and "market" in heard


def test_streamed_text(house):
    async def talk():
        async with AsyncTcpClient("127.0.0.1", house.tts) as client:
            await client.write_event(SynthesizeStart(voice=SynthesizeVoice(name="default")).event())
            for piece in ("First we ", "take the train. Then", " we walk home."):
                await client.write_event(SynthesizeChunk(text=piece).event())
            early = await expect(client, "audio-chunk")  # before the text is whole
            await client.write_event(Synthesize(text="First we take the train. Then we walk home.").event())
            await client.write_event(SynthesizeStop().event())
            events = early + await expect(client, "synthesize-stopped", "error")
            await client.write_event(Ping(text="next").event())
            assert Pong.is_type((await client.read_event()).type)  # the copy of the text was not said again
            return events

    events = run(talk())
    assert [e.type for e in events if e.type != "audio-chunk"] == ["audio-start", "audio-stop", "synthesize-stopped"]
    assert 1.5 < len(sound(events)) / 24000 < 12


def test_two_at_once(house):
    async def both():
        return await asyncio.gather(transcribe(house.stt, language="en"), transcribe(house.stt, language="en"),
                                    speak(house.tts, "One of us."), speak(house.tts, "And another."))

    first, second, one, other = run(both())
    assert "country" in text_of(first) and "country" in text_of(second)
    assert len(sound(one)) > 10000 and len(sound(other)) > 10000


def test_a_slow_reader_holds_the_voice_back(house):
    text = " ".join(f"This is sentence number {i} of a long story about patience." for i in range(40))
    with socket.create_connection(("127.0.0.1", house.tts)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps({"text": text}).encode()
        raw.sendall(json.dumps({"type": "synthesize", "data_length": len(body)}).encode() + b"\n" + body)
        time.sleep(3)
        before = house.children()["choir-tts"]["rss_kb"]
        assert metric(house, 'choir_desk_open{kind="speak"}') == 1
        assert before > 0
        raw.recv(1000)
    assert until(lambda: metric(house, 'choir_desk_open{kind="speak"}') == 0)


@pytest.mark.parametrize("lines", [
    b'{"type":"transcribe"}\n{"type":"audio-sta',
    b'{"type":"transcribe"}\n{"type":"audio-start","data":{"rate":16000,"width":2,"channels":1}}\n'
    b'{"type":"audio-chunk","data":{"rate":16000,"width":2,"channels":1},"payload_length":1000}\nabc',
])
def test_half_a_message(house, lines):
    with socket.create_connection(("127.0.0.1", house.stt)) as raw:
        raw.sendall(lines)
        assert until(lambda: metric(house, "choir_wyoming_clients") >= 1)
    assert until(lambda: metric(house, "choir_wyoming_clients") == 0 and
                 metric(house, 'choir_desk_open{kind="listen"}') == 0)


def test_leaving_ends_the_work(house):
    async def leave():
        client = AsyncTcpClient("127.0.0.1", house.stt)
        await client.connect()
        await client.write_event(Transcribe(language="en").event())
        await send_wav(client, DATA / "two_cities.wav")
        while metric(house, 'choir_desk_open{kind="listen"}') != 1:
            await asyncio.sleep(0.05)
        await client.disconnect()

    run(leave())
    assert until(lambda: metric(house, 'choir_desk_open{kind="listen"}') == 0, 10)
    assert "country" in text_of(run(transcribe(house.stt, language="en")))  # and the recogniser is free


def ask_raw(port, data):
    """Bytes in, events out until the server hangs up or says nothing more."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(data)
        raw.settimeout(5)
        answer = b""
        with contextlib.suppress(TimeoutError):
            while chunk := raw.recv(65536):
                answer += chunk
    return answer


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b'{"type":5}\n',
    b'{"type":"audio-chunk","payload_length":99999999}\n',
    b'{"type":"describe","data_length":3}\n[1]',
])
def test_what_is_no_wyoming(house, data):
    answer = ask_raw(house.stt, data)
    assert b'"error"' in answer and b'"protocol"' in answer
    assert b"no Wyoming event" in answer


@pytest.mark.parametrize("events,port,code,word", [
    ([Synthesize(text="hi", voice=SynthesizeVoice(name="nobody"))], "tts", "voice", "en_US-joe-medium"),
    ([Synthesize(text="<p>hi</p>", text_format="ssml")], "tts", "format", "plain text"),
    ([Synthesize(text="hi")], "stt", "wrong_port", "tts_port"),
    ([Transcribe()], "tts", "wrong_port", "stt_port"),
    ([AudioStart(rate=1, width=2, channels=1)], "stt", "format", "16000"),
    ([AudioStart(16000, 2, 1), AudioChunk(8000, 2, 1, b"ab" * 9)], "stt", "format", "audio-start"),
    ([Transcribe(language="zz"), AudioStart(16000, 2, 1), AudioChunk(16000, 2, 1, bytes(64000)), AudioStop()], "stt",
     "failed", "zz"),
])
def test_refusals(house, events, port, code, word):
    async def talk():
        async with AsyncTcpClient("127.0.0.1", getattr(house, port)) as client:
            for event in events:
                await client.write_event(event.event())
            error = Error.from_event((await expect(client, "error"))[-1])
            await client.write_event(Ping(text="x").event())  # the connection is still good
            await expect(client, "pong")
            return error

    error = run(talk())
    assert error.code == code and word in error.text


def test_nothing_to_say_is_silence(house):
    events = run(speak(house.tts, "..."))
    assert [e.type for e in events] == ["audio-start", "audio-stop"]


def test_too_many_clients(house):
    async def crowd():
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(16):
                client = await stack.enter_async_context(AsyncTcpClient("127.0.0.1", house.stt))
                await client.write_event(Ping(text="x").event())
                await client.read_event()
            extra = await stack.enter_async_context(AsyncTcpClient("127.0.0.1", house.stt))
            return Error.from_event((await expect(extra, "error"))[-1])

    assert run(crowd()).code == "busy"
    assert until(lambda: metric(house, "choir_wyoming_clients") == 0)


def test_it_stays_on_this_machine(tmp_path):
    command = [BUILD / "choir", "serve", "--port", "0", "--state", tmp_path / "s", *NO_LLM]
    done = subprocess.run([*command, "--set", "wyoming.address=0.0.0.0"], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 1 and "[wyoming] allow" in done.stderr
    done = subprocess.run([*command, "--set", "wyoming.allow=home"], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 1 and "home" in done.stderr


def test_a_taken_port_is_no_disaster(house, new_daemon):
    daemon = new_daemon(*NO_LLM, *ports_of(house.stt, 0))
    _, status = daemon.get("/api/status")
    assert status["wyoming"]["stt_port"] == 0 and str(house.stt) in status["wyoming"]["problem"]


def borrow(house, *more):
    return ("--set", "stt.service=wyoming", "--set", "tts.service=wyoming", "--set", f"stt.url=tcp://127.0.0.1:{house.stt}",
            "--set", f"tts.url=tcp://127.0.0.1:{house.tts}", "--set", "tts.fallback=flite",
            "--set", "stt.fallback=whisper", *NO_LLM, *more)


def detail(daemon, engine):
    return daemon.get("/api/status")[1]["engines"][engine]["detail"]


def test_ears_and_voice_of_another_machine(new_daemon):
    """Borrowed, lost, done by oneself, borrowed again."""
    stt, tts, own_stt, own_tts = free_ports(4)
    lender = new_daemon(*NO_LLM, *ports_of(stt, tts), "--set", "tts.service=flite", state="lender")
    lender.stt, lender.tts = stt, tts
    lender.wait_engines("stt", "tts")
    daemon = new_daemon(*borrow(lender, *ports_of(own_stt, own_tts)), state="borrower")
    daemon.wait_engines("stt", "tts")
    assert f"127.0.0.1 port {stt}" in detail(daemon, "stt")
    counts = [metric(lender, f'choir_desk_requests_total{{kind="{kind}"}}') for kind in ("listen", "speak")]
    assert "your country" in text_of(run(transcribe(own_stt, language="en")))
    assert len(sound(run(speak(own_tts, "Borrowed words.")))) > 10000
    assert [metric(lender, f'choir_desk_requests_total{{kind="{kind}"}}') for kind in ("listen", "speak")] == [
        n + 1 for n in counts]

    lender.stop()
    assert "your country" in text_of(run(transcribe(own_stt, language="en")))
    assert len(sound(run(speak(own_tts, "My own words.")))) > 10000
    assert "whisper on this machine stands in" in detail(daemon, "stt")
    assert "flite on this machine stands in" in detail(daemon, "tts")

    lender.start()
    lender.wait_engines("stt", "tts")
    assert until(lambda: "stands in" not in detail(daemon, "stt") + detail(daemon, "tts"), 90)
    assert "your country" in text_of(run(transcribe(own_stt, language="en")))
    assert metric(lender, 'choir_desk_requests_total{kind="listen"}') == 1


class Peer:
    """A server made from the stock package, on a thread: hears always the same, hums, and may misbehave."""

    def __init__(self, port, mode="good"):
        self.port, self.mode, self.heard = port, mode, []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self._serve(),), daemon=True)
        self.thread.start()

    async def _serve(self):
        await AsyncServer.from_uri(f"tcp://127.0.0.1:{self.port}").run(lambda *args: Handler(self, *args))


class Handler(AsyncEventHandler):
    def __init__(self, peer, *args):
        super().__init__(*args)
        self.peer, self.audio = peer, b""

    async def handle_event(self, event: Event) -> bool:
        maker = Attribution(name="test", url="")
        common = {"attribution": maker, "installed": True, "description": "", "version": "1"}
        if Describe.is_type(event.type):
            info = Info(asr=[AsrProgram(name="parrot", models=[AsrModel(name="m", languages=["en"], **common)], **common)],
                        tts=[TtsProgram(name="hum", voices=[TtsVoice(name="v", languages=["en"], **common)], **common)])
            await self.write_event(info.event())
        elif AudioChunk.is_type(event.type):
            self.audio += AudioChunk.from_event(event).audio
        elif AudioStop.is_type(event.type):
            self.peer.heard.append(len(self.audio))
            if self.peer.mode == "refuses":
                await self.write_event(Error(text="I am tired", code="tired").event())
            elif self.peer.mode == "good":
                await self.write_event(Transcript(text="Polly wants a cracker.", language="en").event())
            return False
        elif Synthesize.is_type(event.type):
            return await self.hum()
        return True

    async def hum(self):
        wave_form = (8000 * numpy.sin(numpy.arange(22050) * 2 * numpy.pi * 440 / 22050)).astype("<i2")
        await self.write_event(AudioStart(22050, 2, 1).event())
        await self.write_event(AudioChunk(22050, 2, 1, wave_form.tobytes()).event())
        if self.peer.mode == "good":
            await self.write_event(AudioStop().event())
        return self.peer.mode == "good"


def test_a_stock_server_as_the_other_machine(new_daemon):
    port, own_stt, own_tts = free_ports(3)
    peer = Peer(port)
    daemon = new_daemon(*NO_LLM, *ports_of(own_stt, own_tts), "--set", "stt.service=wyoming", "--set", "tts.service=wyoming",
                        "--set", f"stt.url=tcp://127.0.0.1:{port}", "--set", f"tts.url=tcp://localhost:{port}",
                        "--set", "stt.fallback=none", "--set", "tts.fallback=none")
    daemon.wait_engines("stt", "tts")
    assert until(lambda: "parrot" in detail(daemon, "stt") and "hum" in detail(daemon, "tts"), 20)
    assert text_of(run(transcribe(own_stt, language="en"))) == "Polly wants a cracker."
    assert peer.heard[-1] == pytest.approx(11 * 16000 * 2, rel=0.01)
    pcm = sound(run(speak(own_tts, "Anything at all.")))
    assert len(pcm) / 24000 == pytest.approx(1, abs=0.05)
    spectrum = numpy.abs(numpy.fft.rfft(pcm.astype(float)))
    assert spectrum.argmax() * 24000 / len(pcm) == pytest.approx(440, abs=3)

    peer.mode = "refuses"
    error = run(transcribe(own_stt, language="en"))[-1]
    assert Error.is_type(error.type) and "I am tired" in Error.from_event(error).text
    peer.mode = "hangs up"
    error = run(transcribe(own_stt, language="en"))[-1]
    assert Error.is_type(error.type) and "hung up" in Error.from_event(error).text
    assert "nobody stands in" in detail(daemon, "stt")
    error = run(speak(own_tts, "Half a word."))[-1]
    assert Error.is_type(error.type)


def test_a_wrong_address_says_so(new_daemon):
    daemon = new_daemon(*NO_LLM, *ports_of(0, 0), "--set", "stt.service=wyoming", "--set", "stt.url=example.com")
    assert until(lambda: any("tcp://host:port" in m["why"] for m in daemon.get("/api/status")[1]["missing"]), 30)
