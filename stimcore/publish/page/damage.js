// Damage: what it costs to delete one block, to delete many, and to change the order.
import { asked, change, flag, link } from './address.js';
import { numBlocks } from './arrangement.js';
import { bars, curves, figure, table } from './figures.js';
import { showPage } from './main.js';
import { fixed, make, paragraph, say } from './text.js';

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};
const dropOf = (data, method, spec) => (method.states[spec] ? (100 * (method.correct - method.states[spec][0])) / data.images : null);
const keepsFirsts = (data, spec) => spec.split('.').every((stage, s) => Number(stage.split('-')[0]) === data.topology.stages[s][0]);

function spreads(data, method, family, also) {
  const groups = new Map();
  for (const [spec, amount] of Object.entries(data.families[family])) {
    const drop = dropOf(data, method, spec);
    if (drop === null || !(also || keepsFirsts(data, spec))) continue;
    groups.set(amount, [...(groups.get(amount) || []), drop]);
  }
  return [...groups].sort(([a], [b]) => a - b).map(([amount, drops]) => ({ amount, num: drops.length, low: Math.min(...drops), median: median(drops), high: Math.max(...drops) }));
}

function single(here, main) {
  const { data, methods } = here, { topology } = data, all = topology.stages.flat();
  const without = (block) => topology.stages.map((stage) => stage.filter((b) => b !== block).join('-') || 'x').join('.');
  const blocks = all.filter((block) => !topology.fixed[block]);
  const series = methods.map((method) => ({ method, values: blocks.map((block) => dropOf(data, method, without(block))) }));
  const chosen = blocks.find((block) => String(block) === asked().get('block'));
  const choose = (block) => { change({ block }); here.redraw(); };
  const firsts = blocks.filter((block) => data.first_blocks.includes(block)), later = blocks.filter((block) => !firsts.includes(block));
  // First blocks have a figure and a scale of their own: what is lost without one would make all other bars too small to compare.
  const drawn = (some, caption) => {
    const picked = series.map(({ method, values }) => ({ method, values: some.map((block) => values[blocks.indexOf(block)]) }));
    const values = picked.flatMap((one) => one.values).filter((value) => value !== null);
    const groups = some.map((block) => ({ text: String(block), hatched: firsts.includes(block), onclick: () => choose(block) }));
    const y = { from: Math.min(0, ...values), to: Math.max(1, ...values), title: say('damage.axis_lost') };
    return figure(bars(groups, picked, y, { title: say('damage.axis_block'), slots: later.length }, `${say('damage.figure_one')}: ${some.join(', ')}`), caption, some === firsts && later.length ? null : methods);
  };
  main.append(make('h2', '', say('damage.one')));
  const wanted = asked().get('block');
  if (wanted && !chosen) main.append(paragraph(say('page.no_value', { value: wanted.slice(0, 60) }), 'notice'));
  const row = make('div', 'row'), select = make('select'), name = make('label', '', say('damage.block'));
  select.id = 'block';
  name.htmlFor = 'block';
  select.append(new Option(say('damage.choose'), ''), ...blocks.map((block) => new Option(String(block), String(block), false, block === chosen)));
  select.onchange = () => choose(select.value || null);
  row.append(name, select);
  main.append(row);
  if (later.length) main.append(drawn(later, ''));
  if (firsts.length) main.append(drawn(firsts, say('damage.hatched', { blocks: firsts.join(', ') })));
  if (chosen) {
    for (const method of methods) {
      const state = method.states[without(chosen)];
      if (state) main.append(paragraph(say('damage.without', { method: `${method.glyph} ${method.label}`, block: chosen, accuracy: fixed((100 * state[0]) / data.images, 1), points: fixed(dropOf(data, method, without(chosen)), 1), low: fixed(state[1], 1), high: fixed(state[2], 1) })));
    }
    const open = make('a', 'button', say('subnetworks.open'));
    open.href = link('', { spec: topology.stages.map((stage) => stage.map((b) => (b === chosen ? 'x' : '') + b).join('-')).join('.') });
    main.append(open);
  }
  const fixedBlocks = Object.keys(topology.fixed);
  if (fixedBlocks.length) main.append(paragraph(say('damage.locked', { blocks: fixedBlocks.join(', ') }), 'quiet'));
  main.append(table([say('damage.block'), ...methods.map((m) => m.label)], blocks.map((block, i) => [String(block), ...series.map(({ values: v }) => (v[i] === null ? '–' : fixed(v[i], 1)))]), say('damage.table_one')));
}

function many(here, main, family, title, words, axis, also) {
  const { data, methods } = here;
  const series = methods.map((method) => ({ method, spreads: spreads(data, method, family, also) })).filter((one) => one.spreads.length);
  if (!series.length) return;
  const all = series.flatMap((one) => one.spreads), amounts = [...new Set(all.map((s) => s.amount))].sort((a, b) => a - b);
  main.append(make('h2', '', title), paragraph(words));
  main.append(figure(curves(series, { from: amounts[0] - 0.3, to: amounts[amounts.length - 1] + 0.3, title: axis, ticks: amounts }, { from: Math.min(0, ...all.map((s) => s.low)), to: Math.max(1, ...all.map((s) => s.high)), title: say('damage.axis_lost') }, say('damage.figure_many', { axis })),
    say(also ? 'damage.counts' : 'damage.counts_firsts', { count: series[0].spreads.reduce((n, s) => n + s.num, 0) }), methods));
  main.append(table([axis, ...series.map((one) => one.method.label)], amounts.map((amount) => [String(amount), ...series.map((one) => {
    const s = one.spreads.find((spread) => spread.amount === amount);
    return s ? say('damage.range', { median: fixed(s.median, 1), low: fixed(s.low, 1), high: fixed(s.high, 1) }) : '–';
  })]), say('damage.table_many')));
}

function damage(here, main) {
  const { data } = here;
  main.append(make('h1', '', say('page.damage')), paragraph(say('damage.lead')));
  document.body.dataset.ready = 'true';
  if (data.topology.ordered_only || !(data.families.delete || data.families.permute)) {
    main.append(paragraph(data.topology.ordered_only ? say('damage.ordered_only', { network: data.topology.network }) : say('damage.none'), 'notice'));
    return;
  }
  let also = !data.first_blocks.length || flag('first_blocks', false);
  if (data.families.delete) {
    single(here, main);
    if (data.first_blocks.length) {
      const tick = make('label', 'tick'), box = Object.assign(make('input'), { type: 'checkbox', checked: also });
      box.onchange = () => { change({ first_blocks: box.checked ? 'true' : null }); here.redraw(); };
      tick.append(box, say('damage.also'));
      main.append(tick);
    }
    many(here, main, 'delete', say('damage.many'), say(here.methods.length <= 3 ? 'damage.many_lead_band' : 'damage.many_lead'), say('damage.many_axis'), also);
  }
  if (data.families.permute) many(here, main, 'permute', say('damage.order'), say('damage.order_lead'), say('damage.order_axis'), also);
}

showPage(damage);
