// The stock npm realtime client holds typed turns: text only, then aloud; cancel; errors.
import { check, fresh, run, samplesOf, shape, sleep, Talk } from './common.mjs';

const TEXT = 'created output_item.added item.added content_part.added output_text.delta output_text.done content_part.done output_item.done item.done done';

await run(async () => {
  await fresh();
  const talk = new Talk('gpt-realtime');
  const created = await talk.until('session.created');
  check(created.session.type === 'realtime' && created.session.audio.output.format.rate === 24000, 'session.created', created);
  check(talk.events[0].type === 'session.created', 'it is the first event of all');
  talk.send({ type: 'session.update', session: { type: 'realtime', output_modalities: ['text'], instructions: 'Be brief.' } });
  const updated = await talk.until('session.updated');
  check(updated.session.output_modalities[0] === 'text' && updated.session.instructions === 'Be brief.', 'session.updated', updated);

  let from = talk.events.length;
  talk.say('What is the capital of France?');
  await talk.until('conversation.item.done', from);
  from = talk.events.length;
  talk.send({ type: 'response.create' });
  const done = await talk.until('response.done', from);
  const events = talk.events.slice(from).filter((event) => event.type !== 'rate_limits.updated');
  const said = events.filter((event) => event.type === 'response.output_text.delta').map((event) => event.delta).join('');
  check(shape(events) === TEXT, 'the order of a typed turn', shape(events));
  check(said.trim().length > 0, 'it answers', said);
  check(done.response.status === 'completed' && done.response.output[0].content[0].text === said, 'response.done holds the whole text', done);
  check(events.every((event) => !event.response_id || event.response_id === done.response.id), 'every event names the response');

  // One response in another modality than the session's.
  from = talk.events.length;
  talk.say('What is the capital of Spain?');
  talk.send({ type: 'response.create', response: { output_modalities: ['audio'] } });
  const aloud = await talk.until('response.done', from);
  const audio = talk.events.slice(from).filter((event) => event.type === 'response.output_audio.delta');
  const samples = audio.reduce((sum, event) => sum + samplesOf(event.delta), 0);
  check(aloud.response.status === 'completed' && aloud.response.output_modalities[0] === 'audio', 'a response aloud', aloud);
  check(samples > 24000 * 0.4, 'it has sound', samples);
  check(audio.every((event) => samplesOf(event.delta) <= 2400), 'in pieces of at most 100 ms');
  // No acknowledgements: the server's own clock must hold the sound back.
  const first = audio[0]?.at ?? 0;
  let sent = 0;
  const ahead = Math.max(0, ...audio.map((event) => (sent += samplesOf(event.delta)) / 24 - (event.at - first)));
  check(ahead < 450, 'the sound is never far ahead of its playing', ahead);
  const transcript = talk.events.slice(from).find((event) => event.type === 'response.output_audio_transcript.done');
  check(transcript && aloud.response.output[0].content[0].transcript === transcript.transcript, 'its transcript', transcript);

  // Cancel in the middle.
  await sleep(500);
  from = talk.events.length;
  talk.say('Tell me a long story about an old lighthouse.');
  talk.send({ type: 'response.create', response: { output_modalities: ['audio'] } });
  await talk.until('response.output_audio.delta', from);
  talk.send({ type: 'response.cancel' });
  const cancelled = await talk.until('response.done', from);
  check(cancelled.response.status === 'cancelled' && cancelled.response.status_details.reason === 'client_cancelled', 'response.cancel', cancelled);
  const truncated = await talk.until('conversation.item.truncated', from);
  check(truncated.item_id === cancelled.response.output[0].id, 'the item is truncated to what was heard', truncated);
  await sleep(1000);
  const after = talk.events.slice(talk.events.indexOf(cancelled) + 1).filter((event) => event.type.startsWith('response.'));
  check(after.length === 0, 'nothing of it follows', after.map((event) => event.type));

  // Errors are soft.
  check(talk.errors.length === 0, 'no error so far', talk.errors);
  from = talk.events.length;
  talk.send({ type: 'response.cancel', event_id: 'mine' });
  const error = await talk.until('error', from);
  check(error.error.event_id === 'mine' && error.error.code === 'response_cancel_not_active', 'an error names the event that caused it', error);
  talk.send(/** @type {any} */ ({ type: 'no.such.event' }));
  await talk.until((event) => event.type === 'error' && event.error.param === 'type', from);
  from = talk.events.length;
  talk.say('What is the capital of Italy?');
  talk.send({ type: 'response.create' });
  const last = await talk.until('response.done', from);
  check(last.response.status === 'completed', 'and the session goes on', last);
  talk.close();
});
