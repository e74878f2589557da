// The little formatting that language models like to write, built as elements: fenced code, `code`, **bold**, headings
// and list marks. Everything else, HTML included, stays the text it is.
import { h } from './dom.js';

const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*/g;

/** @param {string} line @param {HTMLElement} parent */
function inline(line, parent) {
  let last = 0;
  for (const match of line.matchAll(INLINE)) {
    parent.append(line.slice(last, match.index));
    parent.append(match[1] !== undefined ? h('code', {}, match[1]) : h('strong', {}, match[2]));
    last = match.index + match[0].length;
  }
  parent.append(line.slice(last));
}

/** @param {string} text @param {DocumentFragment} out */
function prose(text, out) {
  for (const block of text.split(/\n{2,}/)) {
    if (!block.trim()) continue;
    const paragraph = h('p');
    block.split('\n').forEach((line, index) => {
      if (index) paragraph.append('\n');
      const heading = /^#{1,6}\s+(.*)$/.exec(line);
      const item = /^(\s*)[-*]\s+(.*)$/.exec(line);
      if (heading) {
        const strong = h('strong');
        inline(heading[1], strong);
        paragraph.append(strong);
      } else if (item) {
        paragraph.append(`${item[1]}• `);
        inline(item[2], paragraph);
      } else inline(line, paragraph);
    });
    out.append(paragraph);
  }
}

/**
 * @param {string} text
 * @returns {DocumentFragment}
 */
export function richText(text) {
  const out = document.createDocumentFragment();
  // Odd parts lie between fences; an unclosed fence (still streaming) counts as code.
  text.split(/^```[^\n]*\n?/m).forEach((part, index) => {
    if (index % 2) out.append(h('pre', {}, h('code', {}, part.replace(/\n$/, ''))));
    else prose(part, out);
  });
  return out;
}
