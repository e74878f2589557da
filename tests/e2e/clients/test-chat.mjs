// The stock npm client against /v1/models and /v1/chat/completions: whole and streamed, limits, refusals, leaving.
import { WebSocket } from 'ws';
import { check, client, LIMIT_MS, run, sleep, url } from './common.mjs';

const ask = (/** @type {string} */ content) => ({ model: 'any', temperature: 0, max_tokens: 40, messages: [{ role: /** @type {const} */ ('user'), content }] });

/** @param {any} request */
async function refused(request) {
  try {
    await client.chat.completions.create(request);
    return null;
  } catch (error) {
    return /** @type {any} */ (error);
  }
}

await run(async () => {
  const models = await client.models.list();
  const names = models.data.map((model) => model.id);
  check(names.length === 1 && names[0].length > 0, 'one model is listed', names);
  check((await client.models.retrieve(names[0])).id === names[0], 'it can be looked up');

  const whole = await client.chat.completions.create(ask('What is the capital of France?'));
  const text = whole.choices[0].message.content ?? '';
  check(/paris/i.test(text), 'a whole answer', whole);
  check(whole.object === 'chat.completion' && whole.choices[0].finish_reason === 'stop' && whole.model === names[0], 'its form', whole);
  const usage = whole.usage;
  check(usage && usage.prompt_tokens > 5 && usage.completion_tokens > 0 && usage.total_tokens === usage.prompt_tokens + usage.completion_tokens, 'its usage', usage);

  const stream = await client.chat.completions.create({ ...ask('What is the capital of France?'), stream: true, stream_options: { include_usage: true } });
  let streamed = '';
  let chunks = 0;
  let finish = null;
  let total = null;
  for await (const chunk of stream) {
    chunks++;
    streamed += chunk.choices[0]?.delta?.content ?? '';
    finish = chunk.choices[0]?.finish_reason ?? finish;
    total = chunk.usage ?? total;
  }
  check(streamed === text && chunks > 4, 'the same answer in pieces', { streamed, chunks });
  check(finish === 'stop' && total !== null && total.completion_tokens > 0, 'its end and its usage', { finish, total });

  const short = await client.chat.completions.create({ ...ask('Count from one to fifty in words.'), max_tokens: 5 });
  check(short.choices[0].finish_reason === 'length' && (short.usage?.completion_tokens ?? 99) <= 5, 'max_tokens', short);
  const completion = await client.chat.completions.create({ ...ask('Count from one to fifty in words.'), max_tokens: null, max_completion_tokens: 4 });
  check((completion.usage?.completion_tokens ?? 99) <= 4, 'max_completion_tokens', completion.usage);
  const stopped = await client.chat.completions.create({ ...ask('What is the capital of France?'), stop: ['Paris'] });
  check(!/Paris/.test(stopped.choices[0].message.content ?? ''), 'stop', stopped.choices);
  const parts = await client.chat.completions.create({ ...ask(''), messages: [{ role: 'system', content: 'Answer in one word.' }, { role: 'user', content: [{ type: 'text', text: 'What is the capital of France?' }] }] });
  check((parts.choices[0].message.content ?? '').length > 0, 'text parts and a system message of its own', parts);

  for (const [name, extra] of [['n = 2', { n: 2 }], ['a pattern that no grammar can keep', { tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object', properties: { a: { type: 'string', pattern: '^a+$' } } } } }] }], ['an empty list', { messages: [] }], ['temperature 9', { temperature: 9 }]]) {
    const error = await refused({ ...ask('x'), .../** @type {any} */ (extra) });
    check(error?.status === 400 && error.error?.message && error.error.code, `${name} is refused with a reason`, { status: error?.status, error: error?.error });
  }

  // Somebody who leaves in mid-stream must not keep the model from the next one.
  const leaving = await client.chat.completions.create({ ...ask('Tell me a very long story about a river.'), max_tokens: 2000, stream: true });
  for await (const chunk of leaving) if (chunk.choices[0]?.delta?.content) break;
  leaving.controller.abort();
  const start = Date.now();
  const next = await client.chat.completions.create({ ...ask('Say hello.'), max_tokens: 5 });
  check(next.choices.length === 1 && Date.now() - start < LIMIT_MS / 6, 'the next request is served soon after one was abandoned', Date.now() - start);

  // Five at once: one works, the others wait their turn.
  const many = await Promise.all([1, 2, 3, 4, 5].map((i) => client.chat.completions.create({ ...ask(`Say the number ${i}.`), max_tokens: 8 })));
  check(many.every((one) => one.choices.length === 1), 'five at once are all served');

  // A live turn is seen by every page.
  const page = new WebSocket(`${url.replace('http', 'ws')}/ws`);
  /** @type {any[]} */
  const seen = [];
  page.addEventListener('message', (event) => seen.push(JSON.parse(String(event.data))));
  await new Promise((resolve) => page.addEventListener('open', resolve));
  const live = await client.chat.completions.create({ ...ask('What is the capital of Italy?'), stream: false }, { headers: { 'X-Choir-Conversation': 'live' } });
  const answer = live.choices[0].message.content;
  for (let i = 0; i < 100 && !seen.some((event) => event.type === 'agent'); i++) await sleep(50);
  const user = seen.find((event) => event.type === 'user');
  const agent = seen.find((event) => event.type === 'agent');
  check(user?.data === 'What is the capital of Italy?' && user.source === 'api', 'a live turn is shown on the page', seen.filter((e) => e.type !== 'log'));
  check(agent?.data === answer && agent.turn_id === user?.turn_id, 'and so is its answer', { agent, answer });
  page.close();
});
