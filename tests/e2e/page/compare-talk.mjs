// Checks the measuring instrument: voice to voice as Chromium really plays it, beside `choir talk` on the same daemon.
//   CHOIR_URL=… CHOIR_BUILD=build CHOIR_DATA=~/.cache/choir/data node tests/e2e/page/compare-talk.mjs [ROUNDS]
// Takes turns: one spoken turn in the page (microphone and <audio> element recorded together), one by choir talk.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openBrowser, OUT, URL_UNDER_TEST, warm } from './browser.mjs';
import { padded, readWav, writeWav } from './wav.mjs';

const ROUNDS = Number(process.argv[2] ?? 3);
const DATA = process.env.CHOIR_DATA;
const CLIP = join(DATA, 'pocketsphinx/librivox/sense_and_sensibility_01_austen_64kb-0880.wav');
const BUILD = process.env.CHOIR_BUILD ?? 'build';
const LOUD = 10 ** (-50 / 20);

/** Last and first 20 ms windows that are louder than -50 dBFS, in seconds. */
function span(samples, rate, from = 0) {
  const window = Math.round(rate / 50);
  let first = -1, last = -1;
  for (let at = Math.round(from * rate); at + window <= samples.length; at += window) {
    let sum = 0;
    for (let i = at; i < at + window; i++) sum += samples[i] * samples[i];
    if (Math.sqrt(sum / window) < LOUD) continue;
    if (first < 0) first = at / rate;
    last = (at + window) / rate;
  }
  return { first, last };
}

async function pageTurn(file) {
  const { page, close } = await openBrowser({
    args: ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', `--use-file-for-fake-audio-capture=${file}%noloop`],
    permissions: ['microphone'],
  });
  try {
    await page.goto(URL_UNDER_TEST);
    await page.waitForFunction(warm);
    // The recorder opens the fake microphone a second time: the file starts anew for both, some milliseconds apart at most.
    await page.evaluate(() => {
      const original = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await original(wanted);
        const element = document.getElementById('voice-out');
        const context = new AudioContext({ sampleRate: 24000 });
        const merge = context.createChannelMerger(2);
        const tape = context.createScriptProcessor(1024, 2, 1);
        window.tape = [[], []];
        tape.onaudioprocess = (event) => [0, 1].forEach((n) => window.tape[n].push(...event.inputBuffer.getChannelData(n)));
        context.createMediaStreamSource(stream.clone()).connect(merge, 0, 0);
        const out = () => (element.srcObject ? context.createMediaStreamSource(element.srcObject).connect(merge, 0, 1) : setTimeout(out, 50));
        out();
        merge.connect(tape).connect(context.destination);
        return stream;
      };
    });
    await page.click('#mic-button');
    await page.waitForFunction(() => window.choir.stats().loud > 4000, null, { timeout: 60000 });
    await page.waitForTimeout(1500);
    return await page.evaluate(() => window.tape);
  } finally {
    await close();
  }
}

mkdirSync(OUT, { recursive: true });
const file = join(OUT, 'compare.wav');
const clip = readWav(CLIP);
writeWav(file, clip.rate, padded(clip.pcm, clip.rate, 1, 30));
writeFileSync(join(OUT, 'compare.talk'), `timeout 60s\nsleep 1000ms\nplay ${CLIP}\nwait agent 40s\nsleep 1500ms\n`);
const rows = { page: [], talk: [] };
for (let round = 0; round < ROUNDS; round++) {
  const [mic, out] = await pageTurn(file);
  const said = span(mic, 24000).last;
  rows.page.push(Math.round((span(out, 24000, said).first - said) * 1000));
  const text = execFileSync(join(BUILD, 'choir'), ['talk', '--json', '--url', URL_UNDER_TEST, join(OUT, 'compare.talk'), join(OUT, 'compare-talk.wav')], { encoding: 'utf8' });
  rows.talk.push(...JSON.parse(/^\{[^]*\}$/m.exec(text)[0]).voice_to_voice_ms);
  console.log(`page ${rows.page.at(-1)} ms, choir talk ${rows.talk.at(-1)} ms`);
}
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
console.log(`median: page ${median(rows.page)} ms, choir talk ${median(rows.talk)} ms, difference ${median(rows.page) - median(rows.talk)} ms`);
