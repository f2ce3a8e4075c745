// Starts a page: reads what is stored, draws the head, and hands over to the page that the address names.
import { asked, change, link, ROOT } from './address.js';
import { expectComponents } from './components.js';
import { fetchJson } from './files.js';
import { make, paragraph, useSentences, images } from './text.js';
import { breakIt } from './break.js';
import { damage } from './damage.js';
import { subnetworks } from './subnetworks.js';
import { useIt } from './use.js';

const VIEWS = { '': breakIt, subnetworks, damage, 'use-it': useIt };
const head = document.getElementById('head'), main = document.getElementById('main');
const folder = location.pathname.replace(/index\.html$/, '').slice(ROOT.pathname.length).replace(/\/+$/, '');

function chosenMethods(data) {
  const labels = asked().getAll('methods').filter(Boolean);
  const known = data.methods.filter((method) => labels.includes(method.label));
  return known.length ? known : data.methods.filter((method) => data.compared.includes(method.name));
}

function navigation(pages) {
  const nav = make('nav');
  nav.setAttribute('aria-label', 'Pages');
  for (const [path, name] of Object.entries(pages)) {
    const a = make('a', '', name);
    a.href = link(path);
    if (path === folder) a.setAttribute('aria-current', 'page');
    nav.append(a);
  }
  return nav;
}

function choices(catalogue, data, chosen) {
  const box = make('div', 'choices');
  if (catalogue.experiments.length > 1) {
    const select = make('select');
    select.setAttribute('aria-label', 'Experiment');
    for (const name of catalogue.experiments) select.append(new Option(name, name, false, name === data.name));
    select.onchange = () => { change({ experiment: select.value, spec: null, methods: null, subnet: null, block: null }); location.reload(); };
    box.append(select);
  }
  if (data.methods.length > 2) {
    const details = make('details'), fieldset = make('fieldset'), legend = make('legend', '', 'Training methods');
    fieldset.append(legend);
    for (const method of data.methods) {
      const label = make('label', 'tick'), tick = Object.assign(make('input'), { type: 'checkbox', checked: chosen.includes(method) });
      tick.onchange = () => {
        const names = data.methods.filter((_, i) => fieldset.querySelectorAll('input')[i].checked).map((m) => m.label);
        if (!names.length) { tick.checked = true; return; }
        change({ methods: names });
        draw();
        document.querySelector('.choices details').open = true;
      };
      label.append(tick, `${method.glyph} ${method.label}`);
      fieldset.append(label);
    }
    details.append(make('summary', '', 'Methods'), fieldset);
    details.onkeydown = (event) => { if (event.key === 'Escape') { details.open = false; details.firstChild.focus(); } };
    box.append(details);
  }
  return box;
}

let state = null;
function draw() {
  const { catalogue, data } = state, methods = chosenMethods(data);
  document.body.classList.toggle('large', asked().get('view') === 'class');
  head.querySelectorAll('nav, .choices').forEach((old) => old.remove());
  head.append(navigation(catalogue.pages));
  const controls = choices(catalogue, data, methods);
  head.append(controls);
  const here = { catalogue, data, methods, folder, head: controls, large: asked().get('view') === 'class', redraw: draw };
  main.replaceChildren();
  const asks = asked().get('experiment');
  if (asks && asks !== data.name) main.append(paragraph(`This address asks for an experiment that isn't here. Showing ${data.name}.`, 'notice'));
  const labels = asked().getAll('methods').filter(Boolean);
  if (labels.some((label) => !data.methods.some((method) => method.label === label))) main.append(paragraph("This address asks for a training method that isn't here.", 'notice'));
  VIEWS[folder](here, main);
  const trained = [...new Set(methods.map((method) => method.trained))].join(', ');
  main.append(paragraph(`${data.topology.network} on ${data.dataset}, ${data.classes.length} classes. Accuracies are measured on ${images(data.images)} that were not used in training. Training: ${trained}.${data.licence ? ` Images: ${data.licence}.` : ''}`, 'quiet foot'));
}

async function start() {
  try {
    const wanted = asked().get('experiment'), first = document.querySelector('meta[name="first-experiment"]').content;
    const statesOf = (name) => fetchJson(new URL(`data/${encodeURIComponent(name)}/states.json`, ROOT).href);
    if (folder === '') expectComponents(['diagram', 'lanes', 'wall', 'link']);
    // Both files at once; an address may ask for an experiment that isn't here.
    const early = statesOf(/^[\w.-]+$/.test(wanted ?? '') ? wanted : first).catch(() => null);
    const catalogue = await fetchJson(new URL('data/catalogue.json', ROOT).href);
    useSentences(catalogue.sentences);
    const name = catalogue.experiments.includes(wanted) ? wanted : first, loaded = await early;
    const data = loaded?.name === name ? loaded : await statesOf(name);
    state = { catalogue, data };
    if (!wanted) change({ experiment: name }, true);
    draw();
    window.addEventListener('popstate', draw);
  } catch (error) {
    main.replaceChildren(paragraph(`The page could not be shown: ${error.message}`, 'notice'));
    main.firstChild.setAttribute('role', 'alert');
  }
}
start();
