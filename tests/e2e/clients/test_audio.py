"""The stock PyPI client on /v1/audio, every form and format, what is refused, and who leaves early. What the voice made
is read by programs that nobody here wrote: sox, opusdec."""
import io
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
import wave

import openai

URL = os.environ.get("CHOIR_URL", "http://127.0.0.1:8000").rstrip("/")
LIMIT = float(os.environ.get("CHOIR_ANSWER_MS", "180000")) / 1000
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "choir"
DATA = pathlib.Path(os.environ.get("CHOIR_DATA") or CACHE / "data")
JFK = DATA / "jfk.wav"
TEXT = "The weather is nice today. We will go to the market and buy some bread."
checks = failed = 0
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none-needed", max_retries=0, timeout=LIMIT)


def check(good, name, seen=None):
    global checks, failed
    checks += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {checks} - {name}", flush=True)
    if not good:
        print(f"# {str(seen)[:1500]}")


def refused(call, status, word, name):
    """The stock client raises, with our status and a sentence that holds the word."""
    try:
        answer = call()
        check(False, name, answer)
    except openai.APIStatusError as error:
        check(error.status_code == status and word in str(error), name, error)


def transcribe(file=JFK, **options):
    return client.audio.transcriptions.create(file=file, model="whisper-1", **options)


def seconds_of(stamp):
    h, m, s = re.fullmatch(r"(\d+):(\d+):(\d+[.,]\d+)", stamp).groups()
    return int(h) * 3600 + int(m) * 60 + float(s.replace(",", "."))


def forms():
    plain = transcribe(language="en", temperature=0)
    text = plain.text
    check("ask not what your country can do for you" in text.lower(), "a recording becomes text", plain)
    check(plain.usage.seconds == 11, "and is counted in seconds", plain)
    check(transcribe(response_format="text").strip() == text, "as plain text")
    verbose = transcribe(response_format="verbose_json", timestamp_granularities=["segment"])
    check(verbose.text == text and verbose.language == "en" and abs(verbose.duration - 11) < 0.1, "with details", verbose)
    parts = verbose.segments
    check(" ".join(s.text for s in parts) == text and all(0 <= s.start <= s.end <= 11.01 for s in parts) and
          all(a.end <= b.start + 0.01 for a, b in zip(parts, parts[1:])), "and the times of its sentences", parts)
    for kind, pattern in (("srt", r"\d+\n(\S+) --> (\S+)\n(.+)\n"), ("vtt", r"(\S+) --> (\S+)\n(.+)\n")):
        raw = transcribe(response_format=kind)
        rows = re.findall(pattern, raw)
        good = rows and " ".join(row[2] for row in rows) == text and seconds_of(rows[-1][1]) <= 11.01
        check(good and raw.startswith("WEBVTT\n\n" if kind == "vtt" else "1\n"), f"as {kind}", raw)
    events = list(transcribe(stream=True))
    deltas = [e.delta for e in events if e.type == "transcript.text.delta"]
    check(events[-1].type == "transcript.text.done" and "".join(deltas) == events[-1].text == text, "as a stream", events)


def formats():
    with tempfile.TemporaryDirectory() as folder:
        for name, how in (("a.flac", []), ("b.wav", ["-r", "44100", "-c", "2", "-b", "24"]), ("c.wav", ["-r", "8000", "-b", "8"]),
                          ("d.wav", ["-r", "22050", "-e", "floating-point", "-b", "32"])):
            path = pathlib.Path(folder) / name
            subprocess.run(["sox", JFK, *how, path], check=True)
            heard = transcribe(path).text
            check("your country" in heard, f"{name} {' '.join(how)} is understood", heard)
        path = pathlib.Path(folder) / "e.opus"
        subprocess.run(["opusenc", "--quiet", JFK, path], check=True)
        heard = transcribe(path).text
        check("your country" in heard, "Ogg Opus is understood", heard)
        cut = io.BytesIO(JFK.read_bytes()[:-100001])
        cut.name = "cut.wav"
        check("my fellow Americans" in transcribe(cut).text, "a file that was cut off is read as far as it goes")


def named(data, name="x.wav"):
    file = io.BytesIO(data)
    file.name = name
    return file


def silence(seconds, rate=8000):
    out = io.BytesIO()
    with wave.open(out, "wb") as wav:
        wav.setparams((1, 1, rate, 0, "NONE", ""))
        wav.writeframes(b"\x80" * (seconds * rate))
    return out.getvalue()


def refusals():
    refused(lambda: transcribe(named(b"this is no sound" * 100)), 415, "no sound that can be read", "a file that is no sound")
    refused(lambda: transcribe(named(JFK.read_bytes()[:20])), 415, "no sound", "the first bytes of one")
    refused(lambda: transcribe(named(b"")), 400, "empty", "an empty file")
    refused(lambda: transcribe(response_format="diarized_json"), 400, "verbose_json", "a form that there is not")
    refused(lambda: transcribe(stream=True, response_format="srt"), 400, "streamed", "subtitles as a stream")
    refused(lambda: transcribe(response_format="verbose_json", timestamp_granularities=["word"]), 400, "of sentences, not of words",
            "the times of words")
    refused(lambda: transcribe(language="klingon"), 400, "code of two or three letters", "a language that is no code")
    refused(lambda: transcribe(language="zz"), 400, "no language 'zz'", "a language that nobody speaks")
    refused(lambda: transcribe(temperature=3), 400, "temperature", "too much heat")
    refused(lambda: transcribe(prompt="x" * 1001), 400, "1000", "a prompt without end")
    refused(lambda: transcribe(named(silence(4000, 4000))), 413, "3600 seconds", "more than an hour")
    refused(lambda: transcribe(named(b"RIFF" + bytes((25 << 20) + 1000))), 413, "25 MB", "more than 25 MB")
    refused(lambda: transcribe(named(b"RIFF" + bytes(30 << 20))), 413, "too large", "much more than 25 MB")
    check(transcribe(named(silence(2))).text == "", "silence is no text")
    for body, kind, code in ((b"{}", "application/json", "invalid_content_type"), (b"--b\r\n", "multipart/form-data; boundary=b", "invalid_form"),
                             (b"--b--", "multipart/form-data; boundary=b", "missing_file")):
        try:
            urllib.request.urlopen(urllib.request.Request(f"{URL}/v1/audio/transcriptions", body, {"Content-Type": kind}), timeout=30)
            check(False, f"a body that is {code}")
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read())
            check(error.code == 400 and answer["error"]["code"] == code, f"a body that is {code}", answer)


def said(data, suffix):
    """The sound as 16-bit samples, by the reference programs, and its length in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = pathlib.Path(folder) / f"said.{suffix}", pathlib.Path(folder) / "out.wav"
        path.write_bytes(data)
        reader = ["opusdec", "--quiet", "--rate", "24000", path, out] if suffix == "opus" else ["sox", "--ignore-length", path, out]
        if suffix == "pcm":
            reader = ["sox", "-t", "raw", "-r", "24000", "-b", "16", "-e", "signed", "-c", "1", path, out]
        subprocess.run(reader, check=True, stderr=subprocess.DEVNULL)
        with wave.open(str(out)) as wav:
            assert (wav.getframerate(), wav.getsampwidth(), wav.getnchannels()) == (24000, 2, 1)
            return out.read_bytes(), wav.getnframes() / 24000


def speech():
    lengths = {}
    types = {"wav": "audio/wav", "pcm": "audio/pcm", "flac": "audio/flac", "opus": "audio/ogg"}
    for suffix, content_type in types.items():
        answer = client.audio.speech.with_raw_response.create(model="tts-1", voice="alloy", input=TEXT, response_format=suffix)
        wav, lengths[suffix] = said(answer.content, suffix)
        heard = transcribe(named(wav)).text.lower()
        check(answer.headers["content-type"] == content_type and "weather" in heard and "market" in heard and 2 < lengths[suffix] < 15,
              f"speech as {suffix}", (heard, lengths, answer.headers))
    faster = client.audio.speech.create(model="tts-1", voice="default", input=TEXT, speed=2, response_format="wav").content
    slower = client.audio.speech.create(model="tts-1", voice="default", input=TEXT, speed=0.5, response_format="wav").content
    fast, slow = said(faster, "wav")[1], said(slower, "wav")[1]
    check(fast < 0.75 * lengths["wav"] and slow > 1.4 * lengths["wav"], "faster and slower", (fast, lengths["wav"], slow))
    voices = json.loads(urllib.request.urlopen(f"{URL}/v1/audio/voices", timeout=10).read())["voices"]
    own = client.audio.speech.create(model="tts-1", voice=voices[0]["id"], input="Yes.", response_format="pcm").content
    check(len(own) > 5000, "the listed voice by its name", voices)
    models = json.loads(urllib.request.urlopen(f"{URL}/v1/audio/models", timeout=10).read())
    check({m["kind"] for m in models["data"]} == {"transcription", "speech"}, "the models are listed", models)


def speech_streams():
    long = " ".join(f"This is sentence number {i} of a story that takes a while to tell." for i in range(12))
    started, first = time.monotonic(), None
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input=long, response_format="pcm") as answer:
        for chunk in answer.iter_bytes(4096):
            first = first or time.monotonic() - started
    whole = time.monotonic() - started
    check(first < 0.7 * whole, "sound comes before all of it is made", (first, whole))
    request = urllib.request.Request(f"{URL}/v1/audio/speech", json.dumps(
        {"model": "x", "voice": "alloy", "input": "Hello there.", "response_format": "wav", "stream_format": "sse"}).encode(),
        {"Content-Type": "application/json"})
    events = [json.loads(line[6:]) for line in urllib.request.urlopen(request, timeout=LIMIT).read().decode().splitlines() if line]
    check(events[-1]["type"] == "speech.audio.done" and all(e["type"] == "speech.audio.delta" for e in events[:-1]) and len(events) > 1,
          "and as events", events)


def speech_refusals():
    def speak(**changes):
        options = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "response_format": "wav", **changes}
        return client.audio.speech.create(**options)

    refused(lambda: speak(response_format="mp3"), 400, "wav, flac, opus or pcm", "mp3")
    refused(lambda: speak(response_format="aac"), 400, "wav, flac, opus or pcm", "aac")
    refused(lambda: speak(voice="hal9000"), 400, "no voice 'hal9000'", "a voice that there is not")
    refused(lambda: speak(speed=5), 400, "0.25 to 4", "too fast")
    refused(lambda: speak(input=" "), 400, "input", "nothing")
    refused(lambda: speak(input="... !!!"), 400, "nothing that can be spoken", "nothing but signs")
    refused(lambda: speak(input="word " * 900), 400, "4096", "too much")
    refused(lambda: speak(extra_body={"stream_format": "morse"}), 400, "audio or sse", "a stream of another kind")


def metric(name):
    text = urllib.request.urlopen(f"{URL}/metrics", timeout=10).read().decode()
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M).group(1))


def idle_soon(kind):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if metric(f'choir_desk_open{{kind="{kind}"}}') == 0:
            return True
        time.sleep(0.1)
    return False


def leave_early(path, content_type, body, kind):
    """A client that asks and goes away while the engine works for it."""
    host, port = re.match(r"http://([^:/]+):(\d+)", URL).groups()
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {content_type}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        end = time.monotonic() + 20
        while metric(f'choir_desk_open{{kind="{kind}"}}') == 0 and time.monotonic() < end:
            time.sleep(0.05)
        began = time.monotonic() < end
    check(began and idle_soon(kind), f"who leaves ends the work: {kind}")


def leaving():
    form = (b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n" + (DATA / "two_cities.wav").read_bytes() +
            b"\r\n--b--\r\n")
    leave_early("/v1/audio/transcriptions", "multipart/form-data; boundary=b", form, "listen")
    text = " ".join(f"This is sentence number {i} of a long story." for i in range(60))
    leave_early("/v1/audio/speech", "application/json", json.dumps({"input": text, "voice": "alloy"}).encode(), "speak")
    leave_early("/v1/audio/speech", "application/json", json.dumps({"input": text, "voice": "alloy", "response_format": "opus"}).encode(),
                "speak")


try:
    for part in (forms, formats, refusals, speech, speech_streams, speech_refusals, leaving):
        part()
except Exception:  # every surprise is one failed check with its trace
    check(False, "it runs to its end", traceback.format_exc())
print(f"1..{checks}")
sys.exit(1 if failed else 0)
