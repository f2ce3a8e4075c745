// Damage: what it costs to delete one block, to delete many, and to change the order.
import { asked, change, flag, link } from './address.js';
import { numBlocks } from './arrangement.js';
import { bars, curves, figure, table } from './figures.js';
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
  const values = series.flatMap((one) => one.values).filter((value) => value !== null);
  const chosen = blocks.find((block) => String(block) === asked().get('block'));
  const choose = (block) => { change({ block }); here.redraw(); };
  const groups = blocks.map((block) => ({ text: String(block), hatched: data.first_blocks.includes(block), onclick: () => choose(block) }));
  main.append(make('h2', '', 'Delete one block'));
  const row = make('div', 'row'), select = make('select'), name = make('label', '', 'Block');
  select.id = 'block';
  name.htmlFor = 'block';
  select.append(new Option('Choose a block, or click a bar', ''), ...blocks.map((block) => new Option(String(block), String(block), false, block === chosen)));
  select.onchange = () => choose(select.value || null);
  row.append(name, select);
  main.append(row);
  main.append(figure(bars(groups, series, { from: Math.min(0, ...values), to: Math.max(1, ...values), title: 'points lost' }, { title: 'block' }, 'Points lost when one block is deleted, by block and training method'),
    data.first_blocks.length ? `Hatched: block ${data.first_blocks.join(', ')}, the first of its stage. Training never skips it, so that no method ever practised without it.` : '', methods));
  if (chosen) {
    for (const method of methods) {
      const state = method.states[without(chosen)];
      if (state) main.append(paragraph(`${method.glyph} ${method.label} without block ${chosen}: ${fixed((100 * state[0]) / data.images, 1)} % right, **${fixed(dropOf(data, method, without(chosen)), 1)} points lost** (${fixed(state[1], 1)} to ${fixed(state[2], 1)}).`));
    }
    const open = make('a', 'button', 'Open in Break it');
    open.href = link('', { spec: topology.stages.map((stage) => stage.map((b) => (b === chosen ? 'x' : '') + b).join('-')).join('.') });
    main.append(open);
  }
  const fixedBlocks = Object.keys(topology.fixed);
  if (fixedBlocks.length) main.append(paragraph(`Blocks ${fixedBlocks.join(', ')} have no skip path around them and can't be deleted.`, 'quiet'));
  main.append(table(['Block', ...methods.map((m) => m.label)], blocks.map((block, i) => [String(block), ...series.map(({ values: v }) => (v[i] === null ? '–' : fixed(v[i], 1)))]), 'Points lost as a table'));
}

function many(here, main, family, title, words, axis, also) {
  const { data, methods } = here;
  const series = methods.map((method) => ({ method, spreads: spreads(data, method, family, also) })).filter((one) => one.spreads.length);
  if (!series.length) return;
  const all = series.flatMap((one) => one.spreads), amounts = [...new Set(all.map((s) => s.amount))].sort((a, b) => a - b);
  main.append(make('h2', '', title), paragraph(words));
  main.append(figure(curves(series, { from: amounts[0] - 0.3, to: amounts[amounts.length - 1] + 0.3, title: axis, ticks: amounts }, { from: Math.min(0, ...all.map((s) => s.low)), to: Math.max(1, ...all.map((s) => s.high)), title: 'points lost' }, `Points lost over the number of ${axis}: median and range`),
    `Every stored network of the family counts${also ? '' : ' that keeps all first blocks'}: ${series[0].spreads.reduce((n, s) => n + s.num, 0)} per method.`, methods));
  main.append(table([axis, ...series.map((one) => one.method.label)], amounts.map((amount) => [String(amount), ...series.map((one) => {
    const s = one.spreads.find((spread) => spread.amount === amount);
    return s ? `${fixed(s.median, 1)} (${fixed(s.low, 1)} to ${fixed(s.high, 1)})` : '–';
  })]), 'Median and range as a table'));
}

export function damage(here, main) {
  const { data } = here;
  main.append(make('h1', '', 'Damage'), paragraph(say('lead_damage')));
  document.body.dataset.ready = 'true';
  if (data.topology.ordered_only || !(data.families.delete || data.families.permute)) {
    main.append(paragraph(data.topology.ordered_only ? `In ${data.topology.network} every block reads the outputs of all blocks before it, so none can be moved or deleted from the middle. Only ordered sub-networks exist: see the page Sub-networks.` : 'No damage was measured for this experiment before it was published.', 'notice'));
    return;
  }
  let also = !data.first_blocks.length || flag('first_blocks', false);
  if (data.families.delete) {
    single(here, main);
    if (data.first_blocks.length) {
      const tick = make('label', 'tick'), box = Object.assign(make('input'), { type: 'checkbox', checked: also });
      box.onchange = () => { change({ first_blocks: box.checked ? 'true' : null }); here.redraw(); };
      tick.append(box, 'also the first blocks');
      main.append(tick);
    }
    many(here, main, 'delete', 'Delete more and more', `Every set of removable blocks: the line is the median set${here.methods.length <= 3 ? ', the band reaches from the mildest to the worst' : ''}.`, 'blocks deleted', also);
  }
  if (data.families.permute) many(here, main, 'permute', 'Change the order', 'Blocks swapped within their stage; 1 operation is one swap.', 'operations', also);
}
