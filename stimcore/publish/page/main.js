// Starts a page: reads what is stored, draws the head, and hands over to what a page shows.
import { asked, change, link, ROOT } from './address.js';
import { useTemplates } from './components.js';
import { fetchJson } from './files.js';
import { images, language, make, paragraph, say, term, useWords } from './text.js';

const FAILED = document.getElementById('loading').dataset.failed; // the element is gone once something was drawn
const head = document.getElementById('head'), main = document.getElementById('main');
const folder = location.pathname.replace(/index\.html$/, '').slice(ROOT.pathname.length).replace(/\/+$/, '');
function chosenMethods(data) {
  const labels = asked().getAll('methods').filter(Boolean);
  const known = data.methods.filter((method) => labels.includes(method.address));
  return known.length ? known : data.methods.filter((method) => data.compared.includes(method.name));
}

function navigation(pages) {
  const nav = make('nav');
  nav.setAttribute('aria-label', say('page.pages'));
  for (const [path, name] of Object.entries(pages)) {
    const a = make('a', '', say(`page.${name}`));
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
    select.setAttribute('aria-label', say('page.experiment'));
    for (const name of catalogue.experiments) select.append(new Option(name, name, false, name === data.name));
    select.onchange = () => { change({ experiment: select.value, spec: null, methods: null, subnet: null, block: null }); location.reload(); };
    box.append(select);
  }
  if (data.methods.length > 2) {
    const details = make('details'), fieldset = make('fieldset'), legend = make('legend', '', say('page.training_methods'));
    fieldset.append(legend);
    for (const method of data.methods) {
      const label = make('label', 'tick'), tick = Object.assign(make('input'), { type: 'checkbox', checked: chosen.includes(method) });
      tick.onchange = () => {
        const names = data.methods.filter((_, i) => fieldset.querySelectorAll('input')[i].checked).map((m) => m.address);
        if (!names.length) { tick.checked = true; return; }
        change({ methods: names });
        draw();
        document.querySelector('.choices details').open = true;
      };
      label.append(tick, `${method.glyph} ${method.label}`);
      fieldset.append(label);
    }
    details.append(make('summary', '', say('page.methods')), fieldset);
    details.onkeydown = (event) => { if (event.key === 'Escape') { details.open = false; details.firstChild.focus(); } };
    box.append(details);
  }
  return box;
}

function languages(names) {
  const nav = make('nav', 'languages');
  nav.setAttribute('aria-label', say('page.language'));
  for (const [code, name] of Object.entries(names)) {
    const here = () => { const url = new URL(location.href); url.searchParams.set('lang', code); return url.href; };
    const a = Object.assign(make('a', '', name), { lang: code, href: here() });
    a.onclick = a.onauxclick = a.onfocus = () => { a.href = here(); }; // edits change the address after this was drawn
    if (code === language()) a.setAttribute('aria-current', 'true');
    nav.append(a);
  }
  return nav;
}

let state = null;
function draw() {
  const { catalogue, data, view } = state, methods = chosenMethods(data), large = asked().get('view') === 'class';
  document.body.classList.toggle('large', large);
  head.querySelectorAll('nav, .choices').forEach((old) => old.remove());
  head.append(navigation(catalogue.pages));
  const controls = choices(catalogue, data, methods);
  head.append(controls);
  const here = { catalogue, data, methods, folder, head: controls, large, redraw: draw };
  main.replaceChildren();
  const asks = asked().get('experiment');
  if (asks && asks !== data.name) main.append(paragraph(say('page.no_experiment', { name: data.name }), 'notice'));
  const labels = asked().getAll('methods').filter(Boolean);
  if (labels.some((label) => !data.methods.some((method) => method.address === label))) main.append(paragraph(say('page.no_method'), 'notice'));
  view(here, main);
  const training = [...new Set(methods.map((method) => method.trained))].join(', ');
  const source = say('page.source', { network: data.topology.network, dataset: data.dataset, classes: data.classes.length, images: images(data.images), training });
  main.append(paragraph(data.licence ? `${source} ${say('page.source_images', { licence: data.licence })}` : source, 'quiet foot'));
  if (!large) main.append(languages(catalogue.languages));
}

// What the file of the page says in the language that it was made in.
function translateFrame({ title, pages }) {
  const name = say(`page.${pages[folder]}`), heading = title || say('page.break_it_title');
  document.documentElement.lang = language();
  document.title = folder ? `${heading}: ${name}` : heading;
  document.querySelector('.jump').textContent = say('page.to_content');
  document.querySelector('.brand').textContent = heading;
}

// The words of bundles, in the visitor's language; what an address holds stays as it is, so that links open in every language.
function translateMethods(data) {
  for (const method of data.methods) {
    method.address = method.label;
    method.label = term(method.label);
  }
}

// The stored states of a method by spec; the file has one list of specs for all methods.
function unpack(method, specs) {
  method.states = Object.fromEntries(specs.map((spec, i) => [spec, method.states[i]]).filter(([, state]) => state));
}

// Shows a page: `view` draws it, again after every step back.
export async function showPage(view) {
  try {
    const { early } = globalThis, states = fetchJson(early.states), wanted = asked().get('experiment');
    states.catch(() => {}); // the catalogue may lack it, and then another one is shown
    const [catalogue, words] = await Promise.all([fetchJson(early.catalogue), fetchJson(early.words)]);
    useWords(words);
    useTemplates(catalogue.components);
    translateFrame(catalogue);
    const name = catalogue.experiments.includes(wanted) ? wanted : early.first, loaded = await states.catch(() => null);
    const data = loaded?.name === name ? loaded : await fetchJson(new URL(`data/${encodeURIComponent(name)}/states.json`, ROOT).href);
    data.methods.forEach((method) => unpack(method, data.specs));
    translateMethods(data);
    state = { catalogue, data, view };
    if (!wanted) change({ experiment: name }, true);
    draw();
    window.addEventListener('popstate', draw);
  } catch (error) {
    // The texts themselves may be what is missing.
    main.replaceChildren(paragraph(`${FAILED} ${error.message}`.trim(), 'notice'));
    main.firstChild.setAttribute('role', 'alert');
  }
}
