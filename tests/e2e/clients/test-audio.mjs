// The stock npm client on /v1/audio: a recording to text, whole and streamed, and text to sound.
import { createReadStream } from 'node:fs';
import { toFile } from 'openai';
import { check, client, run } from './common.mjs';

const data = process.env.CHOIR_DATA ?? `${process.env.XDG_CACHE_HOME ?? `${process.env.HOME}/.cache`}/choir/data`;
const recording = () => createReadStream(`${data}/jfk.wav`);

/** @param {Promise<any>} call @param {number} status @param {string} word @param {string} name */
async function refused(call, status, word, name) {
  try {
    check(false, name, await call);
  } catch (error) {
    check(error?.status === status && String(error.message).includes(word), name, String(error));
  }
}

run(async () => {
  const whole = await client.audio.transcriptions.create({ file: recording(), model: 'whisper-1', language: 'en' });
  check(/ask not what your country/i.test(whole.text), `it understood "${whole.text}"`, whole);

  const stream = await client.audio.transcriptions.create({ file: recording(), model: 'whisper-1', stream: true });
  let text = '';
  let done = '';
  for await (const event of stream) {
    if (event.type === 'transcript.text.delta') text += event.delta;
    if (event.type === 'transcript.text.done') done = event.text;
  }
  check(text === done && text === whole.text, 'and the same as a stream', { text, done });

  const verbose = await client.audio.transcriptions.create({ file: recording(), model: 'whisper-1', response_format: 'verbose_json' });
  check(verbose.segments?.length > 0 && Math.abs(verbose.duration - 11) < 0.1, 'with the times of its sentences', verbose);

  const answer = await client.audio.speech.create({ model: 'tts-1', voice: 'nova', input: 'Good morning, dear listeners.', response_format: 'flac' });
  const bytes = Buffer.from(await answer.arrayBuffer());
  check(answer.headers.get('content-type') === 'audio/flac' && bytes.toString('latin1', 0, 4) === 'fLaC', 'text becomes FLAC', bytes.length);
  const again = await client.audio.transcriptions.create({ file: await toFile(bytes, 'said.flac'), model: 'whisper-1' });
  check(/good morning/i.test(again.text), `which says "${again.text}"`, again);

  await refused(client.audio.speech.create({ model: 'tts-1', voice: 'nova', input: 'Hello.', response_format: 'mp3' }), 400, 'wav, flac, opus or pcm', 'no mp3');
  await refused(client.audio.transcriptions.create({ file: await toFile(Buffer.from('no sound'), 'x.wav'), model: 'whisper-1' }), 415, 'no sound', 'a file that is no sound');
});
