// Small figures as SVG: points, bars and lines with the methods' colours and symbols. Everything that they show is also in a table.
import { fixed, say } from './text.js';

const NS = 'http://www.w3.org/2000/svg', LEFT = 46, RIGHT = 12, TOP = 12;
const ticked = (value) => String(value).replace('.', say('number.decimal'));
let WIDTH = 640; // of the figure in its own units: fewer on a phone, so that letters keep their size
const node = (tag, attributes, ...children) => {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const label = (x, y, text, anchor = 'middle', size = 13) => node('text', { x, y, 'text-anchor': anchor, 'font-size': size }, text);
const nice = (low, high) => {
  const raw = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const ticks = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + 1e-9; value += step) ticks.push(Number(value.toFixed(9)));
  return ticks;
};

// A frame with axes. `x` and `y` are { from, to, title, ticks? }; ticks of x may be [value, text].
function frame(x, y, height, described) {
  WIDTH = Math.max(320, Math.min(640, innerWidth - 32));
  const bottom = height - 44, svg = node('svg', { viewBox: `0 0 ${WIDTH} ${height}`, role: 'img', 'aria-label': described });
  const px = (value) => LEFT + ((value - x.from) / (x.to - x.from || 1)) * (WIDTH - LEFT - RIGHT);
  const py = (value) => bottom - ((value - y.from) / (y.to - y.from || 1)) * (bottom - TOP);
  for (const tick of nice(y.from, y.to)) svg.append(node('line', { x1: LEFT, x2: WIDTH - RIGHT, y1: py(tick), y2: py(tick), stroke: 'currentColor', opacity: tick === 0 ? 0.6 : 0.15 }), label(LEFT - 6, py(tick) + 4, ticked(tick), 'end'));
  for (const tick of x.ticks ?? nice(x.from, x.to)) { const [value, text] = Array.isArray(tick) ? tick : [tick, ticked(tick)]; svg.append(label(px(value), bottom + 18, text)); }
  svg.append(label((LEFT + WIDTH) / 2, height - 6, x.title), node('text', { x: 0, y: 0, 'text-anchor': 'middle', transform: `translate(11 ${(TOP + bottom) / 2}) rotate(-90)` }, y.title));
  return { svg, px, py };
}

export function legend(methods) {
  const list = document.createElement('ul');
  list.className = 'legend';
  for (const method of methods) {
    const item = document.createElement('li'), glyph = document.createElement('span');
    glyph.style.color = method.color;
    glyph.textContent = `${method.glyph} `;
    glyph.setAttribute('aria-hidden', 'true');
    item.append(glyph, method.label);
    list.append(item);
  }
  return list;
}

// Points { x, y, method, name, href, star } of several methods.
export function scatter(points, x, y, described) {
  const { svg, px, py } = frame(x, y, 340, described);
  for (const point of points) {
    const mark = node('text', { x: px(point.x), y: py(point.y) + 5, 'text-anchor': 'middle', 'font-size': point.chosen ? 22 : 14 }, point.star ? '★' : point.method.glyph);
    mark.style.fill = point.method.color;
    mark.style.opacity = point.faint ? 0.45 : 0.9;
    if (point.chosen) { mark.style.stroke = 'currentColor'; mark.style.strokeWidth = 1; }
    mark.append(node('title', {}, point.name));
    if (point.onclick) { mark.style.cursor = 'pointer'; mark.addEventListener('click', point.onclick); }
    svg.append(mark);
  }
  return svg;
}

// Groups of bars: `groups` are names, `series` are { method, values } with one value per group, null where there is none. Bars are
// as wide as in a figure of `x.slots` groups at least.
export function bars(groups, series, y, x, described) {
  const { svg, px, py } = frame({ from: 0, to: Math.max(groups.length, x.slots ?? 0), title: x.title, ticks: groups.map((g, i) => [i + 0.5, g.text]) }, y, 320, described);
  svg.append(node('defs', {}, node('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' }, node('rect', { width: 3, height: 6, fill: 'currentColor', opacity: 0.55 }))));
  groups.forEach((group, g) => series.forEach(({ method, values }, s) => {
    if (values[g] === null) return;
    const width = (px(1) - px(0)) * 0.8 / series.length, left = px(g) + (px(1) - px(0)) * 0.1 + s * width, zero = py(0), top = py(values[g]);
    const box = { x: left, y: Math.min(zero, top), width: Math.max(1, width - 1), height: Math.max(1, Math.abs(zero - top)) };
    const bar = node('rect', { ...box, fill: method.color }, node('title', {}, say('damage.bar', { method: method.label, block: group.text, points: fixed(values[g], 1) })));
    if (group.onclick) { bar.style.cursor = 'pointer'; bar.addEventListener('click', group.onclick); }
    svg.append(bar);
    if (group.hatched) svg.append(node('rect', { ...box, fill: 'url(#hatch)', 'pointer-events': 'none' }));
  }));
  return svg;
}

// Median lines with a band from the mildest to the worst: `series` are { method, spreads: [{ amount, low, median, high }] }.
export function curves(series, x, y, described) {
  const { svg, px, py } = frame(x, y, 320, described), banded = series.length <= 3;
  for (const { method, spreads } of series) {
    const up = spreads.map((s) => `${px(s.amount)},${py(s.high)}`), down = [...spreads].reverse().map((s) => `${px(s.amount)},${py(s.low)}`);
    if (banded) svg.append(node('polygon', { points: [...up, ...down].join(' '), fill: method.color, opacity: 0.16 }));
    svg.append(node('polyline', { points: spreads.map((s) => `${px(s.amount)},${py(s.median)}`).join(' '), fill: 'none', stroke: method.color, 'stroke-width': 2.5 }));
    for (const s of spreads) {
      const mark = node('text', { x: px(s.amount), y: py(s.median) + 5, 'text-anchor': 'middle', 'font-size': 14 }, method.glyph);
      mark.style.fill = method.color;
      mark.append(node('title', {}, say('damage.point', { method: method.label, amount: s.amount, median: fixed(s.median, 1), low: fixed(s.low, 1), high: fixed(s.high, 1), count: s.num })));
      svg.append(mark);
    }
  }
  return svg;
}

export function figure(svg, caption, methods) {
  const box = document.createElement('figure'), text = document.createElement('figcaption');
  text.textContent = caption;
  box.append(...(methods ? [legend(methods)] : []), svg, text);
  return box;
}

export function table(columns, rows, open = null) {
  const box = document.createElement('div'), element = document.createElement('table'), head = element.createTHead().insertRow(), body = element.createTBody();
  box.className = 'scroll';
  box.tabIndex = 0;
  box.setAttribute('role', 'region');
  box.setAttribute('aria-label', open ?? say('page.table'));
  // On a phone every row becomes a block of names and values (page.css); the roles keep it a table for screen readers.
  element.setAttribute('role', 'table');
  head.setAttribute('role', 'row');
  for (const name of columns) {
    const th = Object.assign(document.createElement('th'), { scope: 'col', textContent: name });
    th.setAttribute('role', 'columnheader');
    head.append(th);
  }
  for (const row of rows) {
    const tr = body.insertRow();
    tr.setAttribute('role', 'row');
    row.forEach((cell, i) => {
      const td = tr.insertCell();
      td.setAttribute('role', 'cell');
      td.dataset.column = columns[i];
      td.append(cell);
    });
  }
  box.append(element);
  if (open === null) return box;
  const details = document.createElement('details'), summary = document.createElement('summary');
  summary.textContent = open;
  details.append(summary, box);
  return details;
}
