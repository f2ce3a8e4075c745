// Draws lanes in place: their elements are made once per method and language and only changed afterwards, so that movements can be
// animated.
const MADE = new WeakMap(); // what the lanes of each element were made of
const MANY = 3; // with more methods than this, lanes are thinner
const make = (tag, name, text = '') => Object.assign(document.createElement(tag), { className: name, textContent: text });
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const width = (word) => [...word].reduce((sum, sign) => sum + (sign < '\u2e80' ? 0.6 : 1), 0); // in em; Chinese signs are squares
const one = (value, words) => (Math.abs(value) < 0.05 ? 0 : value).toFixed(1).replace('.', words.decimal);

function build(row, words) {
  const lane = make('div', 'lane'), name = make('span', 'name'), track = make('div', 'track'), numbers = make('span', 'numbers');
  const cover = make('div', 'covered');
  lane.dataset.key = row.key;
  cover.append(make('span', '', words.hidden));
  name.append(make('i', 'glyph'), make('span', 'text'));
  track.append(make('i', 'fill'), make('i', 'band'), make('i', 'full'), make('i', 'guess'), cover);
  numbers.append(make('span', 'accuracy'), make('span', 'spread'), make('span', 'drop'));
  lane.append(name, track, numbers);
  return lane;
}

function dropText(row, words) {
  if (row.drop_pct === null) return words.full;
  const [low, high] = row.drop_interval_pct;
  const [a, b] = row.drop_pct > -0.05 ? [low, high] : [-high, -low];
  const text = row.drop_pct > -0.05 ? words.loses : words.gains;
  return fill(text, { points: one(Math.abs(row.drop_pct), words), low: one(a, words), high: one(b, words) });
}

function update(lane, row, words) {
  const part = (name) => lane.querySelector('.' + name);
  const known = row.accuracy_pct !== null && !row.hidden;
  part('glyph').textContent = row.glyph;
  part('glyph').style.color = row.color;
  part('text').textContent = row.name;
  part('full').style.left = `calc(${row.full_pct}% - 2px)`;
  part('covered').hidden = !row.hidden;
  for (const name of ['fill', 'band']) part(name).hidden = !known;
  part('guess').hidden = row.guess_pct === null;
  if (row.guess_pct !== null) part('guess').style.left = row.guess_pct + '%';
  if (!known) {
    part('accuracy').textContent = row.hidden ? '?' : '…';
    part('spread').textContent = '';
    part('drop').textContent = row.hidden ? '' : words.measuring;
    return;
  }
  const [low, high] = row.interval_pct;
  part('fill').style.width = row.accuracy_pct + '%';
  part('fill').style.background = row.color;
  part('band').style.left = low + '%';
  part('band').style.width = high - low + '%';
  part('accuracy').textContent = one(row.accuracy_pct, words) + ' %';
  part('spread').textContent = ' ± ' + one((high - low) / 2, words);
  part('drop').textContent = dropText(row, words);
}

function axis(words) {
  const box = make('div', 'axis'), ticks = make('div', 'ticks'), legend = make('div', 'legend');
  for (const value of [0, 25, 50, 75, 100]) ticks.append(Object.assign(make('span', '', value === 100 ? '100 %' : String(value)), { style: `left:${value}%` }));
  for (const [mark, text] of [['b', words.legend_full], ['u', words.legend_sure], ['s', words.legend_guess]]) {
    const entry = make('span', mark === 's' ? 'guesses' : '');
    entry.append(make(mark, ''), text);
    legend.append(entry);
  }
  box.append(ticks, legend);
  return box;
}

export default function ({ data, parentElement }) {
  const box = parentElement.querySelector('.lanes'), heard = parentElement.querySelector('.heard');
  const made = JSON.stringify([data.rows.map((row) => row.key), data.words]);
  if (MADE.get(box) !== made) box.replaceChildren(...data.rows.map((row) => build(row, data.words)), axis(data.words));
  MADE.set(box, made);
  // The column of names is as wide as their longest word: languages differ.
  const longest = Math.max(...data.rows.flatMap((row) => row.name.split(' ')).map(width));
  box.style.setProperty('--longest', `${Math.min(13, longest + 1.2)}em`);
  box.classList.toggle('large', data.large);
  box.classList.toggle('many', data.rows.length > MANY);
  box.querySelector('.guesses').hidden = data.rows.every((row) => row.guess_pct === null);
  data.rows.forEach((row, i) => update(box.querySelectorAll('.lane')[i], row, data.words));
  box.setAttribute('aria-label', data.label);
  // The live region changes only when the numbers are final: a screen reader would read out every poll.
  const spoken = data.done ? data.label : '';
  if (heard.textContent !== spoken) heard.textContent = spoken;
}
