// Draws the speaking mouth on a canvas of its own, off the page's thread: a frame of the page costs an old processor
// several times as much as one of these. Where the shapes are known it draws each one twice, on its way and as it begins;
// a mouth that stands still costs nothing.
import { Lips, mouthPath } from './lips.js';

/** By loudness alone, 15 frames a second are enough. */
const FRAME_MS = 66;
/** With known shapes: so long before a new one begins the mouth is drawn on its way, and lamps at least so often. */
const BEFORE_MS = 28;
const LAMPS_MS = 160;
const SHORTEST_MS = 33;
/** What is drawn now stands for a while: it is drawn as it will be a little later. */
const LEAD_MS = 20;
const RATE = 24000;
/** Without news of the player for so long, the sound is taken as over. */
const CLOCK_MS = 1500;
const LAMPS = 5;

const lips = new Lips();
/** @type {OffscreenCanvas|null} */
let canvas = null;
/** @type {OffscreenCanvasRenderingContext2D|null} */
let pen = null;
let area = { x: 0, y: 0, wide: 1, high: 1 };
let colours = { glow: '#fff', lamp: '#fff', dark: '#000' };
let clock = { item: '', sample: 0, at: 0, moving: false };
let level = 0;
let running = false;
let tracing = false;
let timer = 0;
let drawn = '';
let draws = 0;

const now = () => performance.timeOrigin + performance.now();

/** @returns {{item: string, sample: number}|null} */
function heard() {
  const since = now() - clock.at;
  return clock.moving && since < CLOCK_MS ? { item: clock.item, sample: clock.sample + (since * RATE) / 1000 } : null;
}

function draw() {
  if (!canvas || !pen) return;
  const path = mouthPath(lips.shape, 8);
  const lit = level > 0.004 ? Math.min(LAMPS, Math.ceil(Math.sqrt(level) * 1.7 * LAMPS)) : 0;
  const key = `${path.mouth}${path.teeth}${path.tongue}${lit}`;
  if (key === drawn) return;
  drawn = key;
  draws++;
  const scale = canvas.width / area.wide;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.setTransform(scale, 0, 0, scale, -area.x * scale, -area.y * scale);
  pen.lineCap = 'round';
  pen.lineJoin = 'round';
  pen.strokeStyle = colours.glow;
  pen.fillStyle = colours.glow;
  const mouth = new Path2D(path.mouth);
  if (path.open) {
    pen.globalAlpha = 0.2;
    pen.fill(mouth);
    pen.globalAlpha = 0.5;
    if (path.tongue) pen.fill(new Path2D(path.tongue));
    pen.globalAlpha = 1;
  }
  pen.lineWidth = 3;
  if (path.teeth) pen.stroke(new Path2D(path.teeth));
  pen.lineWidth = path.open ? 3.5 : 5;
  pen.stroke(mouth);
  for (let i = 0; i < LAMPS; i++) {
    pen.fillStyle = i < lit ? colours.lamp : colours.dark;
    pen.beginPath();
    pen.roundRect(46 + i * 12, 140, 8, 4, 2);
    pen.fill();
  }
  if (tracing) postMessage({ at: now(), name: lips.name, open: lips.shape.open, draws });
}

function frame() {
  timer = 0;
  if (!running) return;
  const position = heard();
  const border = position ? (lips.untilNext(position) * 1000) / RATE : Infinity;
  if (position) position.sample += (LEAD_MS * RATE) / 1000;
  lips.move(position, level, performance.now());
  draw();
  let wait = FRAME_MS;
  if (lips.name !== 'level' && border < Infinity) wait = border > BEFORE_MS + SHORTEST_MS ? Math.min(LAMPS_MS, border - BEFORE_MS) : Math.max(SHORTEST_MS, border);
  timer = setTimeout(frame, wait);
}

/** @param {MessageEvent} event */
onmessage = ({ data }) => {
  if (data.canvas) {
    canvas = /** @type {OffscreenCanvas} */ (data.canvas);
    pen = canvas.getContext('2d');
  }
  if (data.area && canvas) {
    area = data.area;
    canvas.width = data.width;
    canvas.height = Math.round((data.width * area.high) / area.wide);
    drawn = '';
    if (running) draw();
  }
  if (data.colours) {
    colours = data.colours;
    drawn = '';
  }
  if (data.visemes) lips.add(data.item, data.visemes);
  if (data.clock) clock = data.clock;
  if ('level' in data) level = data.level;
  if ('trace' in data) tracing = data.trace;
  if ('run' in data && data.run !== running) {
    running = data.run;
    clearTimeout(timer);
    lips.close();
    level = 0;
    drawn = '';
    if (running) frame();
  }
};
