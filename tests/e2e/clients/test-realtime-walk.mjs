// A client that does anything at any time. Whatever it does: one response at a time, each with one end, every added item
// with its done, errors that name their event, and a session that still answers afterwards.
import { check, fresh, run, sleep, Talk } from './common.mjs';

const seed = Number(process.env.CHOIR_SEED ?? Date.now() % 1000000);
const STEPS = process.env.CHOIR_FULL === '1' ? 600 : 120;
let state = seed;
const random = (/** @type {number} */ n) => {
  state = (state * 1103515245 + 12345) % 2147483648;
  return Math.floor((state / 2147483648) * n);
};
const silence = Buffer.alloc(4800).toString('base64');
const noise = Buffer.from(Int16Array.from({ length: 2400 }, () => random(20000) - 10000).buffer).toString('base64');
const tool = { type: 'function', name: 'set_timer', description: 'Start a countdown timer', parameters: { type: 'object', properties: { minutes: { type: 'integer' } }, required: ['minutes'] } };

await run(async () => {
  console.log(`# seed ${seed}`);
  await fresh();
  const talk = new Talk();
  await talk.until('session.created');
  /** @type {any[]} */
  const calls = [];
  const anyItem = () => talk.events.filter((event) => event.item?.id).map((event) => event.item.id)[random(20)] ?? 'item_none';
  /** @type {(() => any)[]} */
  const moves = [
    () => ({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content: [{ type: 'input_text', text: ['Hello.', 'What is two plus two?', 'Set a timer for ten minutes.', 'Tell me a story.'][random(4)] }] } }),
    () => ({ type: 'response.create' }),
    () => ({ type: 'response.create', response: { output_modalities: [['text'], ['audio']][random(2)], max_output_tokens: 12, metadata: { walk: '1' } } }),
    () => ({ type: 'response.create', response: { tools: [tool], tool_choice: ['auto', 'required', 'none'][random(3)] } }),
    () => ({ type: 'response.cancel' }),
    () => ({ type: 'input_audio_buffer.append', audio: random(2) ? silence : noise }),
    () => ({ type: 'input_audio_buffer.commit' }),
    () => ({ type: 'input_audio_buffer.clear' }),
    () => ({ type: 'conversation.item.truncate', item_id: anyItem(), content_index: 0, audio_end_ms: random(3000) }),
    () => ({ type: 'conversation.item.delete', item_id: anyItem() }),
    () => ({ type: 'conversation.item.retrieve', item_id: anyItem() }),
    () => ({ type: 'session.update', session: { type: 'realtime', output_modalities: [['text'], ['audio']][random(2)], tools: random(2) ? [tool] : [], tool_choice: 'auto', instructions: random(2) ? 'Be brief.' : '', audio: { input: { turn_detection: random(3) ? { type: 'server_vad' } : null } } } }),
    () => ({ type: 'conversation.item.create', item: { type: 'function_call_output', call_id: calls.at(-1)?.call_id ?? 'call_none', output: 'done' } }),
    () => ({ type: 'no.such.event' }),
  ];
  for (let i = 0; i < STEPS; i++) {
    talk.send({ ...moves[random(moves.length)](), event_id: `walk_${i}` });
    calls.push(...talk.events.filter((event) => event.type === 'response.function_call_arguments.done' && !calls.includes(event)));
    if (random(3) === 0) await sleep(random(250));
  }
  // Let it end, then ask once more.
  for (let quiet = 0, seen = -1; quiet < 8; await sleep(250)) {
    quiet = talk.events.length === seen ? quiet + 1 : 0;
    seen = talk.events.length;
    if (talk.rt.socket.readyState !== 1) break;
  }
  talk.send({ type: 'session.update', session: { type: 'realtime', output_modalities: ['text'], tools: [], tool_choice: 'auto', instructions: '', audio: { input: { turn_detection: null } } } });
  talk.send({ type: 'response.cancel' });
  await sleep(300);
  const from = talk.events.length;
  talk.say('What is the capital of France?');
  talk.send({ type: 'response.create' });
  const last = await talk.until('response.done', from);
  check(last.response.status === 'completed', 'the session still answers', last.response);

  let active = /** @type {string | null} */ (null);
  const broken = /** @type {any[]} */ ([]);
  const added = new Map();
  for (const event of talk.events) {
    const type = event.type;
    if (type === 'response.created') {
      if (active) broken.push(['two responses', event]);
      active = event.response.id;
    } else if (type === 'response.done') {
      if (active !== event.response.id) broken.push(['an end without a beginning', event]);
      if (!event.response.usage) broken.push(['no usage', event]);
      active = null;
    } else if (type.startsWith('response.') && event.response_id !== active) {
      broken.push(['content outside its response', event]);
    } else if (type === 'conversation.item.added') {
      if (added.has(event.item.id)) broken.push(['added twice', event]);
      added.set(event.item.id, false);
    } else if (type === 'conversation.item.done') {
      if (added.get(event.item.id) !== false) broken.push(['done without added, or twice', event]);
      added.set(event.item.id, true);
    } else if (type === 'error' && event.error.type === 'invalid_request_error' && !event.error.event_id?.startsWith('walk_') && event.error.code !== 'response_cancel_not_active') {
      broken.push(['an error that names no event', event]);
    }
  }
  check(broken.length === 0, 'one response at a time, one end, every added done', broken.slice(0, 3));
  check(active === null, 'no response is left open', active);
  const open = [...added].filter(([, done]) => !done).map(([id]) => id);
  check(open.length === 0, 'no item is left open', open);
  const made = talk.events.filter((event) => event.type === 'response.function_call_arguments.done');
  check(made.every((event) => Number.isInteger(JSON.parse(event.arguments).minutes)), `every call is valid (${made.length})`, made);
  talk.close();
});
