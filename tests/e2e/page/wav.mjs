// Just enough WAV for the tests: reads 16-bit mono, writes 16-bit mono, makes a caller's recording out of pieces.
import { readFileSync, writeFileSync } from 'node:fs';

/** @param {string} path @returns {{rate: number, pcm: Int16Array}} */
export function readWav(path) {
  const file = readFileSync(path);
  if (file.toString('latin1', 0, 4) !== 'RIFF') throw new Error(`${path} is not a WAV file`);
  let at = 12;
  let rate = 0;
  while (at + 8 <= file.length) {
    const id = file.toString('latin1', at, at + 4);
    const size = file.readUInt32LE(at + 4);
    if (id === 'fmt ') {
      if (file.readUInt16LE(at + 10) !== 1 || file.readUInt16LE(at + 22) !== 16) throw new Error(`${path} is not 16-bit mono`);
      rate = file.readUInt32LE(at + 12);
    } else if (id === 'data') {
      const bytes = Buffer.from(file.subarray(at + 8, Math.min(at + 8 + size, file.length)));
      return { rate, pcm: new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1) };
    }
    at += 8 + size + (size & 1);
  }
  throw new Error(`${path} holds no sound`);
}

/** @param {string} path @param {number} rate @param {Int16Array} pcm */
export function writeWav(path, rate, pcm) {
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + pcm.length * 2, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(rate, 24);
  head.writeUInt32LE(rate * 2, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(pcm.length * 2, 40);
  writeFileSync(path, Buffer.concat([head, Buffer.from(pcm.buffer, pcm.byteOffset, pcm.length * 2)]));
}

/** Speech with silence before and after it. @param {Int16Array} speech @param {number} rate @param {number} before s @param {number} after s */
export function padded(speech, rate, before, after) {
  const out = new Int16Array(Math.round((before + after) * rate) + speech.length);
  out.set(speech, Math.round(before * rate));
  return out;
}
