"""Timers and reminders are spoken where somebody listens: a real daemon, a stock Realtime client, and the recogniser says
what was heard."""
import base64
import io
import json
import subprocess
import time
import wave

import openai
import pytest
from conftest import BUILD, Daemon

CHOIR = BUILD / "choir"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("reminders") / "state").start()
    daemon.wait_engines("tts", "stt")
    yield daemon
    daemon.stop()


def timer(house, seconds, label):
    done = subprocess.run([CHOIR, "tools", "--state", house.state, "call", "clock.set_timer",
                           json.dumps({"duration": f"{seconds} seconds", "label": label})],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def listen(connection, responses, seconds=120):
    """Samples and words of so many responses that nobody asked for."""
    heard, words, done = b"", [], 0
    end = time.monotonic() + seconds
    while done < responses:
        assert time.monotonic() < end, (words, len(heard))
        event = connection.recv()
        if event.type == "response.output_audio.delta":
            heard += base64.b64decode(event.delta)
        elif event.type == "response.output_audio_transcript.done":
            words.append(event.transcript)
        elif event.type == "response.done":
            assert event.response.status == "completed", event
            done += 1
    return heard, words


def recognised(client, pcm):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(24000)
        out.writeframes(pcm)
    return client.audio.transcriptions.create(model="whisper-1", file=("heard.wav", file.getvalue())).text.lower()


def test_timers_speak(house):
    client = openai.OpenAI(base_url=f"{house.url}/v1", websocket_base_url=house.url.replace("http", "ws", 1) + "/v1", api_key="none-needed")
    with client.realtime.connect(model="gpt-realtime") as connection:
        assert connection.recv().type == "session.created"
        timer(house, 1, "kitchen")
        pcm, words = listen(connection, 1)
        assert words == ["The kitchen timer is over."]
        assert len(pcm) > 24000  # half a second of sound
        said = recognised(client, pcm)
        assert "kitchen" in said and "timer" in said, said
        # Two at once are said one after the other.
        timer(house, 2, "first")
        timer(house, 2, "second")
        _, words = listen(connection, 2)
        assert sorted(words) == ["The first timer is over.", "The second timer is over."]
    # A client that comes later hears nothing of what is over.
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.conversation.item.create(item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]})
        types = [connection.recv().type for _ in range(3)]
        assert "response.created" not in types, types
