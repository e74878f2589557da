"""The stock PyPI client: chat completions whole and streamed, and a typed realtime turn."""
import asyncio
import os
import re
import sys
import traceback

import openai

URL = os.environ.get("CHOIR_URL", "http://127.0.0.1:8000").rstrip("/")
LIMIT = float(os.environ.get("CHOIR_ANSWER_MS", "180000")) / 1000
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
checks = failed = 0


def check(good, name, seen=None):
    global checks, failed
    checks += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {checks} - {name}")
    if not good:
        print(f"# {str(seen)[:1500]}")


def client_of(kind):
    return kind(base_url=f"{URL}/v1", websocket_base_url=URL.replace("http", "ws", 1) + "/v1", api_key="none-needed",
                max_retries=0, timeout=LIMIT)


def chat():
    client = client_of(openai.OpenAI)
    name = client.models.list().data[0].id
    whole = client.chat.completions.create(model=name, messages=QUESTION, temperature=0, max_tokens=40)
    text = whole.choices[0].message.content
    check(re.search("paris", text, re.I), "a whole answer", whole)
    check(whole.choices[0].finish_reason == "stop" and whole.usage.completion_tokens > 0, "its end and its usage", whole)
    pieces, usage = [], None
    stream = client.chat.completions.create(model=name, messages=QUESTION, temperature=0, max_tokens=40, stream=True,
                                            stream_options={"include_usage": True})
    for chunk in stream:
        usage = chunk.usage or usage
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    check("".join(pieces) == text and len(pieces) > 3, "the same answer in pieces", pieces)
    check(usage and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, "its usage", usage)
    try:
        client.chat.completions.create(model=name, messages=QUESTION, n=3)
        check(False, "n = 3 is refused")
    except openai.BadRequestError as error:
        check(error.code == "unsupported_value" and error.param == "n", "n = 3 is refused", error)
    try:
        client.models.retrieve("no-such-model")
        check(False, "an unknown model is not found")
    except openai.NotFoundError as error:
        check(error.code == "model_not_found", "an unknown model is not found", error)


async def realtime():
    client = client_of(openai.AsyncOpenAI)
    order, text = [], ""
    async with client.realtime.connect(model="gpt-realtime") as connection:
        created = await connection.recv()
        check(created.type == "session.created" and created.session.audio.output.format.rate == 24000, "session.created", created)
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is the capital of Italy?"}]})
        await connection.response.create()
        async for event in connection:
            order.append(event.type)
            if event.type == "error":
                check(False, "no error", event)
                break
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.done":
                check(event.response.status == "completed", "response.done", event)
                check(event.response.output[0].content[0].text == text, "with the whole text", event)
                break
    check(text.strip(), "a typed realtime turn", text)
    check(order[:3] == ["session.updated", "conversation.item.added", "conversation.item.done"], "in order", order)


try:
    chat()
    asyncio.run(asyncio.wait_for(realtime(), LIMIT))
except Exception:  # every surprise is one failed check with its trace
    check(False, "it runs to its end", traceback.format_exc())
print(f"1..{checks}")
sys.exit(1 if failed else 0)
