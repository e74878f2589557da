// The stock agents SDK over its WebSocket transport: typed and spoken turns, a function called and answered, interruption
// with truncation, push to talk.
import { RealtimeAgent, RealtimeSession, OpenAIRealtimeWebSocket, tool } from '@openai/agents-realtime';
import WebSocket from 'ws';
import { z } from 'zod';
import { check, fresh, LIMIT_MS, readSpeech, run, sleep, url } from './common.mjs';

const data = process.env.CHOIR_DATA;
if (!data) {
  console.log('CHOIR_DATA names no recorded speech');
  process.exit(77);
}

/** @type {any[]} */
const events = [];

/** @param {string | ((event: any) => boolean)} wanted @param {number} from */
async function until(wanted, from) {
  const fits = typeof wanted === 'string' ? (/** @type {any} */ event) => event.type === wanted : wanted;
  for (const end = performance.now() + LIMIT_MS; performance.now() < end; await sleep(20)) {
    const found = events.slice(from).find(fits);
    if (found) return found;
  }
  throw new Error(`no ${wanted}; last: ${events.slice(-6).map((event) => event.type)}`);
}

/** @param {any[]} tools @param {any} config */
async function connect(tools, config = {}) {
  const transport = new OpenAIRealtimeWebSocket({
    createWebSocket: async ({ apiKey }) => /** @type {any} */ (new WebSocket(`${url.replace('http', 'ws')}/v1/realtime?model=choir`, { headers: { Authorization: `Bearer ${apiKey}` } })),
  });
  const agent = new RealtimeAgent({ name: 'Choir', instructions: 'Answer the question in one short, correct sentence.', tools });
  const session = new RealtimeSession(agent, { transport, model: 'choir', config });
  events.length = 0;
  session.on('transport_event', (event) => void events.push(event));
  /** @type {any[]} */
  const errors = [];
  session.on('error', (error) => void errors.push(error));
  await session.connect({ apiKey: 'none-needed' });
  await until('session.updated', 0);
  return { session, errors };
}

/** Real time, like a microphone. @param {RealtimeSession} session @param {Int16Array} pcm */
async function speak(session, pcm, silenceMs = 0) {
  const all = new Int16Array(pcm.length + silenceMs * 24);
  all.set(pcm);
  const start = performance.now();
  for (let at = 0; at < all.length; at += 960) {
    const part = all.slice(at, at + 960);
    session.sendAudio(part.buffer);
    const ahead = start + (at + 960) / 24 - performance.now();
    if (ahead > 0) await sleep(ahead);
  }
}

await run(async () => {
  await fresh();
  let asked = /** @type {any} */ (null);
  const weather = tool({
    name: 'get_weather',
    description: 'Get the weather for a city',
    parameters: z.object({ city: z.string().describe('name of the city') }),
    execute: async (input) => {
      asked = input;
      return `In ${input.city} it is sunny, 21 degrees.`;
    },
  });
  let { session, errors } = await connect([weather], { outputModalities: ['text'] });
  session.sendMessage('What is the weather in Paris?');
  const call = await until((event) => event.type === 'response.function_call_arguments.done', 0);
  check(call.name === 'get_weather' && typeof JSON.parse(call.arguments).city === 'string', 'the function is called with valid arguments', call);
  const words = await until((event) => event.type === 'response.done' && event.response.output[0]?.type === 'message', 0);
  check(asked?.city && /paris/i.test(asked.city), 'with the city that was asked for', asked);
  check(words.response.status === 'completed' && /sunny|21|weather/i.test(words.response.output[0].content[0].text), 'the answer comes from what it returned', words.response.output);
  check(words.response.usage.output_tokens > 0 && words.response.usage.total_tokens === words.response.usage.input_tokens + words.response.usage.output_tokens, 'its usage', words.response.usage);
  let from = events.length;
  session.sendMessage('What is the capital of France?');
  const plain = await until('response.done', from);
  check(plain.response.output[0]?.type === 'message', 'a question that needs no function is answered in words', plain.response.output);
  await sleep(100);
  check(session.history.filter((item) => item.type === 'function_call').length === 1, "the session's own history holds the call", session.history);
  check(errors.length === 0, 'without an error', errors.map((error) => JSON.stringify(error.error ?? error)));
  session.close();

  // Spoken, interrupted: it clears its player and truncates by itself.
  ({ session, errors } = await connect([]));
  let interrupted = 0;
  session.on('audio_interrupted', () => void interrupted++);
  session.sendMessage('Tell me a long story about an old lighthouse and its keeper.');
  await until('response.output_audio.delta', 0);
  await sleep(900);
  from = events.length;
  await speak(session, readSpeech(`${data}/pocketsphinx/cards/005.wav`), 2500);
  const cut = await until('response.done', from);
  check(cut.response.status === 'cancelled', 'speech cancels the reply', cut.response.status_details);
  const truncated = await until('conversation.item.truncated', from);
  check(truncated.audio_end_ms > 100 && interrupted > 0, 'the client stops playing and the item is truncated', { truncated, interrupted });
  const heard = await until('conversation.item.input_audio_transcription.completed', from);
  check(heard.transcript.length > 0, `it understood "${heard.transcript}"`, heard);
  await until((event) => event.type === 'response.done' && event.response.id !== cut.response.id, from);
  session.close();

  // Push to talk.
  ({ session, errors } = await connect([], { audio: { input: { turnDetection: null } } }));
  await speak(session, readSpeech(`${data}/pocketsphinx/cards/001.wav`));
  check(!events.some((event) => event.type === 'input_audio_buffer.speech_started'), 'push to talk: nobody listens for the end');
  session.transport.sendEvent({ type: 'input_audio_buffer.commit' });
  session.transport.sendEvent({ type: 'response.create' });
  const pushed = await until('response.done', 0);
  check(pushed.response.status === 'completed', 'a committed turn is answered', pushed.response);
  check(errors.length === 0, 'without an error', errors.map((error) => JSON.stringify(error.error ?? error)));
  session.close();
});
