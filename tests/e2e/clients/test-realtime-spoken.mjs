// The stock npm realtime client speaks real recorded speech in real time, hears an answer, then interrupts one.
import { check, fresh, readSpeech, run, samplesOf, sleep, Talk } from './common.mjs';

const data = process.env.CHOIR_DATA;
const question = process.env.CHOIR_SPEECH ?? `${data}/jfk.wav`;
const interruption = process.env.CHOIR_SPEECH_2 ?? `${data}/pocketsphinx/cards/005.wav`;
const word = new RegExp(process.env.CHOIR_SPEECH_WORD ?? 'country', 'i');
if (!data && !process.env.CHOIR_SPEECH) {
  console.log('neither CHOIR_DATA nor CHOIR_SPEECH names recorded speech');
  process.exit(77);
}

const has = (/** @type {string} */ type) => (/** @type {any} */ event) => event.type === type;

await run(async () => {
  await fresh();
  const talk = new Talk();
  await talk.until('session.created');
  talk.send({
    type: 'session.update',
    session: { type: 'realtime', output_modalities: ['audio'], audio: { input: { turn_detection: { type: 'server_vad', silence_duration_ms: 1200, create_response: true, interrupt_response: true } } } },
  });
  await talk.until('session.updated');
  let from = talk.events.length;
  await talk.speak(readSpeech(question), 2500);
  const done = await talk.until('response.done', from);
  const events = talk.events.slice(from);
  const at = (/** @type {string} */ type) => events.findIndex(has(type));
  const order = ['input_audio_buffer.speech_started', 'input_audio_buffer.speech_stopped', 'input_audio_buffer.committed', 'conversation.item.added',
    'conversation.item.input_audio_transcription.completed', 'response.created', 'response.output_item.added', 'response.content_part.added',
    'response.output_audio.delta', 'response.output_audio.done', 'response.output_audio_transcript.done', 'response.content_part.done', 'response.output_item.done', 'response.done'];
  const places = order.map(at);
  check(places.every((place, i) => place >= 0 && (i === 0 || place > places[i - 1])), 'the order of a spoken turn', order.map((type, i) => `${type} ${places[i]}`));
  const started = events[places[0]];
  const committed = events[places[2]];
  check(started.item_id === committed.item_id, 'the item that was promised is committed', { started, committed });
  const heard = events.filter(has('conversation.item.input_audio_transcription.completed')).map((event) => event.transcript).join(' ');
  check(word.test(heard), `it understood "${heard}"`, heard);
  check(done.response.status === 'completed', 'the response completes', done);
  const audio = events.filter(has('response.output_audio.delta'));
  const samples = audio.reduce((sum, event) => sum + samplesOf(event.delta), 0);
  const loud = audio.some((event) => {
    const bytes = Buffer.from(event.delta, 'base64');
    for (let i = 0; i + 1 < bytes.length; i += 2) if (Math.abs(bytes.readInt16LE(i)) > 1000) return true;
    return false;
  });
  check(samples > 24000 * 0.4 && loud, 'and is heard', samples);

  // Interrupted: a long reply, somebody speaks into it.
  await sleep(1500);
  from = talk.events.length;
  talk.say('Tell me a long story about an old lighthouse and its keeper.');
  talk.send({ type: 'response.create' });
  await talk.until('response.output_audio.delta', from);
  await sleep(700);
  await talk.speak(readSpeech(interruption), 2500);
  const cut = await talk.until('response.done', from);
  check(cut.response.status === 'cancelled' && cut.response.status_details.reason === 'turn_detected', 'speech cancels the reply', cut);
  const truncated = await talk.until('conversation.item.truncated', from);
  check(truncated.item_id === cut.response.output[0].id && truncated.audio_end_ms > 100, 'and says how much of it was heard', truncated);
  const voice = talk.events.slice(from).find(has('input_audio_buffer.speech_started'));
  const late = talk.events.slice(talk.events.indexOf(cut) + 1).filter((event) => event.type === 'response.output_audio.delta' && event.response_id === cut.response.id);
  check(voice && cut.at - voice.at < 500 && late.length === 0, 'at once, and nothing follows', { ms: cut.at - (voice?.at ?? 0), late: late.length });
  const next = await talk.until((event) => event.type === 'response.done' && event.response.id !== cut.response.id, from);
  check(['completed', 'cancelled'].includes(next.response.status), 'what was said is answered, too', next);
  check(talk.errors.length === 0, 'without an error', talk.errors);
  talk.close();
});
