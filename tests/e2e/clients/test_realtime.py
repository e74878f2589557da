"""The stock PyPI client on /v1/realtime: a function called and answered, instructions, a token limit, items."""
import asyncio
import json
import os
import sys
import traceback
import urllib.request

import openai

URL = os.environ.get("CHOIR_URL", "http://127.0.0.1:8000").rstrip("/")
LIMIT = float(os.environ.get("CHOIR_ANSWER_MS", "180000")) / 1000
TIMER = {"type": "function", "name": "set_timer", "description": "Start a countdown timer",
         "parameters": {"type": "object", "properties": {"minutes": {"type": "integer", "minimum": 1, "maximum": 600}}, "required": ["minutes"]}}
checks = failed = 0


def check(good, name, seen=None):
    global checks, failed
    checks += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {checks} - {name}")
    if not good:
        print(f"# {str(seen)[:1500]}")


async def until(connection, wanted):
    events = []
    async for event in connection:
        events.append(event)
        if event.type == "error":
            check(False, f"no error on the way to {wanted}", event)
        if event.type in (wanted, "error"):
            return event, events
    raise RuntimeError(f"the connection ended before {wanted}")


def fresh():
    """A conversation without a past: what was said before leads a small model astray."""
    request = urllib.request.Request(f"{URL}/api/conversations", b'{"title":"stock clients"}', {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


async def say(connection, text):
    await connection.conversation.item.create(item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})


async def body():
    client = openai.AsyncOpenAI(base_url=f"{URL}/v1", websocket_base_url=URL.replace("http", "ws", 1) + "/v1", api_key="none-needed")
    await asyncio.to_thread(fresh)
    async with client.realtime.connect(model="gpt-realtime") as connection:
        await until(connection, "session.created")
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"], "tools": [TIMER], "tool_choice": "auto",
                                                 "audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}}})
        updated, _ = await until(connection, "session.updated")
        detection = updated.session.audio.input.turn_detection
        check(detection.type == "semantic_vad" and detection.eagerness == "low" and updated.session.tools[0].name == "set_timer", "session.updated", updated)
        await say(connection, "Set a timer for ten minutes.")
        await connection.response.create()
        done, events = await until(connection, "response.done")
        item = done.response.output[0]
        check(item.type == "function_call" and item.name == "set_timer", "the function is called", done)
        pieces = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
        check(json.loads(item.arguments)["minutes"] == 10 and pieces == item.arguments, "with its arguments, in pieces", events)
        check(done.response.usage.total_tokens > 0, "usage", done.response.usage)
        await connection.conversation.item.create(item={"type": "function_call_output", "call_id": item.call_id, "output": "The timer runs."})
        await connection.response.create()
        done, _ = await until(connection, "response.done")
        check(done.response.output[0].type == "message" and done.response.status == "completed", "then it is answered in words", done)
        await connection.session.update(session={"type": "realtime", "tools": [TIMER], "tool_choice": {"type": "function", "name": "set_timer"}})
        await until(connection, "session.updated")
        await say(connection, "Good evening.")
        await connection.response.create()
        done, _ = await until(connection, "response.done")
        check(done.response.output[0].type == "function_call", "a named function is always called", done)
        await say(connection, "Tell me about the sea.")
        await connection.response.create(response={"tool_choice": "none", "max_output_tokens": 5})
        done, _ = await until(connection, "response.done")
        check(done.response.status == "incomplete" and done.response.usage.output_tokens <= 5, "max_output_tokens", done)
        await connection.conversation.item.retrieve(item_id=done.response.output[0].id)
        found, _ = await until(connection, "conversation.item.retrieved")
        check(found.item.id == done.response.output[0].id, "retrieve", found)
        await connection.conversation.item.delete(item_id=found.item.id)
        gone, _ = await until(connection, "conversation.item.deleted")
        check(gone.item_id == found.item.id, "delete", gone)
    words, tokens = set(), set()
    # A small model heeds little of what it is told; that it was told is also seen in what it had to read.
    for instructions in ("Answer the question in one short, correct sentence.", "You are a pirate. Begin every answer with the word Arr.",
                         "Answer in French.", "You know nothing. Say only that you do not know, whatever the question is about."):
        await asyncio.to_thread(fresh)
        async with client.realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"], "instructions": instructions})
            await say(connection, "What is the sea?")
            await connection.response.create()
            done, _ = await until(connection, "response.done")
            words.add(done.response.output[0].content[0].text)
            tokens.add(done.response.usage.input_tokens)
    check(len(words) >= 2 and len(tokens) >= 3, "instructions steer the answer", (words, tokens))


try:
    asyncio.run(asyncio.wait_for(body(), LIMIT * 3))
except Exception:  # every surprise is one failed check with its trace
    check(False, "it runs to its end", traceback.format_exc())
print(f"1..{checks}")
sys.exit(1 if failed else 0)
