// Words and numbers as the dashboard writes them; sentences come from the table that both share.
let table = {};
export const useSentences = (sentences) => { table = sentences; };
export const say = (name, values = {}) => table[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);

// Rounds as Python prints: a number exactly in the middle goes to the even neighbour.
export function fixed(value, digits) {
  const scaled = Math.abs(value) * 10 ** digits, low = Math.floor(scaled);
  const rounded = scaled - low === 0.5 && Number.isInteger(2 * scaled) ? low + (low % 2) : null;
  return rounded === null ? value.toFixed(digits) : ((value < 0 ? -1 : 1) * rounded / 10 ** digits).toFixed(digits);
}
export const count = (number) => number.toLocaleString('en-US');
export const images = (number) => `${count(number)} image${number === 1 ? '' : 's'}`;

export const make = (tag, name = '', text = '') => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== '') element.textContent = text;
  return element;
};

// The bold and slanted words of a sentence in Markdown, as nodes.
export const rich = (text) => text.split(/(\*\*[^*]+\*\*|\*[^*]+\*)/).filter(Boolean).map((piece) => (
  piece.startsWith('**') ? make('strong', '', piece.slice(2, -2)) : piece.startsWith('*') ? make('em', '', piece.slice(1, -1)) : document.createTextNode(piece)));
export const paragraph = (text, name = '') => { const p = make('p', name); p.append(...rich(text)); return p; };
export const button = (text, onclick, name = '') => Object.assign(make('button', name, text), { type: 'button', onclick });

const MAX_NAMED = 3;
// What the methods get right; `known` holds [name, accuracy in percent].
export function finding(known, whole, wholePct = null) {
  if (!known.length) return say('measuring');
  let text;
  if (known.length > MAX_NAMED) {
    const sorted = [...known].sort((a, b) => b[1] - a[1]), [best, most] = sorted[0], [worst, least] = sorted[sorted.length - 1];
    text = say('finding_best', { best, most: fixed(most, 0), worst: worst.toLowerCase(), least: fixed(least, 0) });
  } else {
    const [[name, value], ...others] = known;
    text = say('finding_first', { name, value: fixed(value, 0) });
    for (const [other, pct] of others) text += say('finding_next', { name: other.replaceAll(' training', ''), value: fixed(pct, 0) });
  }
  if (wholePct !== null && !whole) text += say('finding_whole', { value: fixed(wholePct, 0) });
  return whole ? say('finding_start', { finding: text }) : text;
}
