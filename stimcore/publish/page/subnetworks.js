// Sub-networks: the accuracies of all ordered sub-networks, by method and over the work per image.
import { asked, change, link } from './address.js';
import * as arrangement from './arrangement.js';
import { figure, scatter, table } from './figures.js';
import { showPage } from './main.js';
import { fixed, make, paragraph, say, term } from './text.js';

function subnetworks(here, main) {
  const { data, methods } = here, { topology } = data, specs = Object.keys(data.families.ordered || {});
  document.body.dataset.ready = 'true';
  main.append(make('h1', '', say('subnetworks.title')));
  if (!specs.length) { main.append(paragraph(say('subnetworks.none'), 'notice')); return; }
  const full = arrangement.spec(arrangement.full(topology)), pct = (method, spec) => (100 * method.states[spec][0]) / data.images;
  const shown = methods.filter((method) => specs.some((spec) => method.states[spec]));
  main.append(paragraph(say('subnetworks.lead')));
  let wanted = null, problem = '';
  if (asked().get('subnet')) { try { wanted = arrangement.spec(arrangement.read(topology, asked().get('subnet'))); } catch (error) { problem = error.message; } }
  if (problem) main.append(paragraph(problem, 'notice'));
  const choose = (spec) => { change({ subnet: spec ? arrangement.short(topology, spec) : null }); here.redraw(); };
  const row = make('div', 'row'), select = make('select'), name = Object.assign(make('label', '', say('subnetworks.name')), { htmlFor: 'subnet' });
  select.id = 'subnet';
  select.append(new Option(say('subnetworks.choose'), ''), ...specs.map((spec) => new Option(spec === full ? say('subnetworks.full_option', { name: arrangement.short(topology, spec) }) : arrangement.short(topology, spec), spec, false, spec === wanted)));
  select.onchange = () => choose(select.value);
  row.append(name, select);
  main.append(row);
  if (wanted) {
    for (const method of shown) if (method.states[wanted]) main.append(paragraph(say(wanted === full ? 'subnetworks.whole' : 'subnetworks.less', { method: `${method.glyph} ${method.label}`, accuracy: fixed(pct(method, wanted), 1), points: fixed((100 * (method.correct - method.states[wanted][0])) / data.images, 1) })));
    const open = make('a', 'button', say('subnetworks.open'));
    open.href = link('', { spec: wanted });
    main.append(open);
  }
  const point = (method, spec, x, m) => ({ x, y: pct(method, spec), method, star: spec === full, chosen: spec === wanted, name: `${method.label}, ${arrangement.short(topology, spec)}: ${fixed(pct(method, spec), 1)} %`, onclick: () => choose(spec), faint: wanted !== null && spec !== wanted, m });
  const spread = shown.flatMap((method, m) => specs.filter((spec) => method.states[spec]).map((spec, i) => point(method, spec, m + 0.5 + 0.6 * (((i * 0.618034) % 1) - 0.5), m)));
  const lowest = Math.min(...spread.map((p) => p.y)), y = { from: Math.floor(lowest / 10) * 10, to: 100, title: say('subnetworks.axis_right') };
  const two = make('div', 'two');
  two.append(figure(scatter(spread, { from: 0, to: shown.length, title: say('subnetworks.axis_method'), ticks: shown.map((method, i) => [i + 0.5, shown.length > 3 ? method.glyph : method.label]) }, y, say('subnetworks.figure_methods')), say('subnetworks.figure_methods_note'), shown));
  const macs = shown.map((method) => method.files.macs).find((costs) => specs.every((spec) => costs[spec]));
  if (macs) {
    const costs = specs.map((spec) => macs[spec] / 1e6);
    two.append(figure(scatter(shown.flatMap((method) => specs.filter((spec) => method.states[spec]).map((spec) => point(method, spec, macs[spec] / 1e6))), { from: 0.95 * Math.min(...costs), to: 1.05 * Math.max(...costs), title: term('million multiply-adds per image') }, y, say('subnetworks.figure_work')), say('subnetworks.figure_work_note'), shown));
  }
  main.append(two);
  const rows = shown.map((method) => {
    const values = specs.filter((spec) => method.states[spec]).map((spec) => pct(method, spec)), mean = values.reduce((a, b) => a + b, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    return [`${method.glyph} ${method.label}`, `${fixed((100 * method.correct) / data.images, 2)} %`, `${fixed(mean, 2)} ± ${fixed(deviation, 2)} %`, `${fixed(Math.min(...values), 1)} %`];
  });
  main.append(table([say('subnetworks.method'), say('subnetworks.full'), say('subnetworks.mean', { count: specs.length }), say('subnetworks.worst')], rows));
  if (data.twins.length) {
    main.append(make('h2', '', say('subnetworks.twins')), paragraph(say('subnetworks.twins_lead')));
    main.append(table([say('subnetworks.name'), say('subnetworks.alone'), ...shown.map((method) => say('subnetworks.inside', { method: method.label }))], data.twins.map((twin) => [arrangement.short(topology, twin.spec), `${fixed((100 * twin.correct) / twin.images, 1)} %`, ...shown.map((method) => (method.states[twin.spec] ? `${fixed(pct(method, twin.spec), 1)} %` : '–'))])));
  }
  main.append(table([say('subnetworks.name'), ...shown.map((method) => method.label)], specs.map((spec) => [arrangement.short(topology, spec), ...shown.map((method) => (method.states[spec] ? `${fixed(pct(method, spec), 1)} %` : '–'))]), say('subnetworks.table')));
}

showPage(subnetworks);
