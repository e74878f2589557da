"""pipecat 1.14 as its own templates set it up (cascade, websocket), with local parts: Whisper base through its faster-whisper
service, a llama-server through its OpenAI service, the Piper voice through its Piper service. Silero, smart-turn v3 and every
time are pipecat's defaults; what is set here is only what is the same for all columns of the bench (model, persona, longest
reply, temperature). A new connection is a new conversation. Started by the bench: bot.py PORT SETTINGS.json"""

import asyncio
import json
import os
import sys
from pathlib import Path

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.piper.tts import PiperTTSService
from pipecat.services.whisper.stt import WhisperSTTService
from pipecat.transports.websocket.server import SingleClientWebsocketServerParams, SingleClientWebsocketServerTransport
from pipecat.workers.runner import WorkerRunner


def log_to(path):
    logger.remove()
    logger.add(path, level=os.environ.get("BENCH_LOG", "INFO"))


async def main(port, settings):
    log_to(settings["log"])
    notes = open(settings["notes"], "a", encoding="utf-8", buffering=1)  # what it took into its context, for the bench
    transport = SingleClientWebsocketServerTransport(
        SingleClientWebsocketServerParams(audio_in_enabled=True, audio_out_enabled=True, serializer=ProtobufFrameSerializer()),
        host="127.0.0.1", port=port)
    stt = WhisperSTTService(device="cpu", compute_type="int8", settings=WhisperSTTService.Settings(model=settings["whisper"]))
    llm = OpenAILLMService(api_key=settings["key"], base_url=settings["llm"] + "/v1",
                           settings=OpenAILLMService.Settings(model=settings["model"], system_instruction=settings["persona"],
                                                              temperature=settings["temperature"], max_tokens=settings["max_tokens"]))
    tts = PiperTTSService(download_dir=Path(settings["voices"]), settings=PiperTTSService.Settings(voice=settings["voice"]))
    context = LLMContext()
    user, assistant = LLMContextAggregatorPair(context, user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer()))
    pipeline = Pipeline([transport.input(), stt, user, llm, tts, transport.output(), assistant])
    worker = PipelineWorker(pipeline, params=PipelineParams(), cancel_on_idle_timeout=False)

    def note(**what):
        notes.write(json.dumps(what) + "\n")

    @transport.event_handler("on_client_connected")
    async def connected(_transport, _client):
        context.set_messages([])

    @transport.event_handler("on_websocket_ready")
    async def ready(_transport):
        print("ready", flush=True)

    @assistant.event_handler("on_assistant_turn_stopped")
    async def stopped(_aggregator, message):
        note(kind="kept", text=message.content, interrupted=message.interrupted)

    @user.event_handler("on_user_turn_stopped")
    async def heard(_aggregator, _strategy, message):
        note(kind="caller", text=message.content)

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))
