// Text of tools and strangers must be seen as it is: what would hide or reorder it is named instead of drawn.

/** Controls, and characters without a shape of their own: they turn the direction of writing, or hide. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
const ESCAPE = String.fromCharCode(27);
const BELL = String.fromCharCode(7);
/** Colours, cursor movements and titles that programs write for a terminal. */
const TERMINAL = new RegExp(`${ESCAPE}\\[[0-?]*[ -/]*[@-~]|${ESCAPE}\\][^${BELL}${ESCAPE}]*(?:${BELL}|${ESCAPE}\\\\)?|${ESCAPE}[@-Z\\\\^_]`, 'g');

/** Every character can be seen. @param {string} text */
export function visible(text) {
  return text.replace(HIDDEN, (c) => (c === '\n' || c === '\t' ? c : `⟨U+${(c.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}⟩`));
}

/** The same for what a program put out: without what was meant for its terminal. @param {string} text */
export function output(text) {
  return visible(text.replace(TERMINAL, '').replaceAll('\r\n', '\n'));
}

/** A value of JSON as a person reads it: texts as they are, the rest as JSON. @param {unknown} value */
export function shown(value) {
  return visible(typeof value === 'string' ? value : JSON.stringify(value, null, 1) ?? '');
}

/** All arguments in one line: a text as it is, a switch by its name. @param {unknown} args */
export function oneLine(args) {
  const pairs = args && typeof args === 'object' ? Object.entries(args) : [];
  const words = pairs.map(([name, value]) => (typeof value === 'string' ? value : value === true ? name : `${name} ${JSON.stringify(value)}`));
  return visible(words.join(' · ')).replace(/\s+/g, ' ').slice(0, 200);
}

/** Somebody's name, or the way a nameless one came. @param {string} name */
export function person(name) {
  if (name.startsWith('unix:')) return 'a terminal of this machine';
  return name === 'loopback' ? 'a program on this machine' : visible(name);
}

/** Who asks for something, from a session's name. @param {string|undefined} session */
export function asker(session) {
  const program = /^api (.*)$/s.exec(session ?? '')?.[1];
  return program ? person(program) : visible(session || 'this conversation');
}

/** What the classes of docs/tools.md mean to a person. @type {Record<string, string>} */
export const CLASSES = {
  read: 'only looks',
  local: 'in the sandbox',
  change: 'changes something',
  fleet: 'cannot be undone',
  denied: 'never allowed',
};
