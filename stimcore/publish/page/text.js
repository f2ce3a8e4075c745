// Words and numbers as the dashboard writes them, in the visitor's language; the tables are those that both share.
let words = { code: 'en', table: {}, terms: {} };
export const useWords = (chosen) => { words = chosen; };
export const language = () => words.code;
export const say = (name, values = {}) => words.table[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
// The templates of a section, for a component of `web/`.
export const section = (name) => Object.fromEntries(Object.entries(words.table).filter(([key]) => key.startsWith(`${name}.`)).map(([key, text]) => [key.slice(name.length + 1), text]));
// A method's name, or a reason that a bundle gives; as it is where the table lacks it.
export function term(english) {
  const at = english.indexOf(' ('), known = at < 0 ? english : english.slice(0, at), extra = at < 0 ? '' : english.slice(at);
  return words.terms[english] ?? (words.terms[known] ?? known) + extra;
}

// Rounds as Python prints: a number exactly in the middle goes to the even neighbour.
export function fixed(value, digits) {
  const scaled = Math.abs(value) * 10 ** digits, low = Math.floor(scaled);
  const rounded = scaled - low === 0.5 && Number.isInteger(2 * scaled) ? low + (low % 2) : null;
  const text = rounded === null ? value.toFixed(digits) : ((value < 0 ? -1 : 1) * rounded / 10 ** digits).toFixed(digits);
  return text.replace('.', say('number.decimal'));
}
export const count = (number) => number.toLocaleString('en-US').replaceAll(',', say('number.group'));
export const images = (number) => (number === 1 ? say('number.one_image') : say('number.many_images', { count: count(number) }));

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
  if (!known.length) return say('finding.measuring');
  let text;
  if (known.length > MAX_NAMED) {
    const sorted = [...known].sort((a, b) => b[1] - a[1]), [best, most] = sorted[0], [worst, least] = sorted[sorted.length - 1];
    text = say('finding.best', { best, most: fixed(most, 0), worst, least: fixed(least, 0) });
  } else {
    const [[name, value], ...others] = known;
    text = say('finding.first', { name, value: fixed(value, 0) });
    const dropped = say('finding.dropped_word');
    for (const [other, pct] of others) text += say('finding.next', { name: dropped ? other.replaceAll(dropped, '') : other, value: fixed(pct, 0) });
  }
  if (wholePct !== null && !whole) text += say('finding.whole', { value: fixed(wholePct, 0) });
  return whole ? say('finding.start', { finding: text }) : text;
}
