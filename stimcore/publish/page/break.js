// Break it: delete and move blocks, and see which training method's network still works.
import { asked, change, flag } from './address.js';
import * as arrangement from './arrangement.js';
import { mounted } from './components.js';
import * as compute from './compute.js';
import { pairedDrop, wilson } from './intervals.js';
import { showPage } from './main.js';
import { button, count, finding, fixed, images, make, paragraph, rich, say, section, term } from './text.js';
import diagram from '../web/diagram.js';
import lanes from '../web/lanes.js';
import link from '../web/link.js';
import wall from '../web/wall.js';

const undo = []; // texts of earlier arrangements
const measured = new Map(); // method, spec, re-calibration -> counts of this browser
const walls = new Map(); // the same -> answers of this browser
let step = 0; // open step of the lesson, 0 while it is closed
let revealed = ''; // arrangement whose answers were uncovered
let guesses = new Map(); // method -> what the visitor expected of it, in percent
const labelOf = (edit) => say(`edit.${edit.name}`, edit.values);

const spoken = (row) => {
  if (row.hidden) return say('lanes.spoken_hidden', { name: row.name });
  if (row.accuracy_pct === null) return say('lanes.spoken_measuring', { name: row.name });
  const [low, high] = row.interval_pct.map((value) => fixed(value, 1)), text = say('lanes.spoken', { name: row.name, accuracy: fixed(row.accuracy_pct, 1), low, high });
  return row.drop_pct === null ? text : say(row.drop_pct >= 0 ? 'lanes.spoken_less' : 'lanes.spoken_more', { lane: text, points: fixed(Math.abs(row.drop_pct), 1) });
};

function breakIt({ catalogue, data, methods, head, large, redraw }, main) {
  const { topology } = data, whole = arrangement.print(arrangement.full(topology)), firsts = data.first_blocks;
  const box = make('div', 'break');
  main.append(box);
  const locked = Object.fromEntries(Object.entries(data.diagram.locked).map(([block, reason]) => [block, term(reason)]));
  const canCompute = catalogue.runtime && !data.computed;
  const why = data.computed ? term(data.computed) : catalogue.runtime ? '' : say('break_it.no_runtime');
  let job = null, draws = {}, edits = 0; // the running job: { counts: method -> report, stopped, problem }

  const text = () => asked().get('spec') || data.opening;
  const recalibrate = () => !data.batch_norms || flag('recalibrate', true);
  const shownNow = () => {
    try { return { shown: arrangement.read(topology, text()), problem: '' }; }
    catch (error) { return { shown: arrangement.full(topology), problem: say('break_it.showing_full', { reason: error.message }) }; }
  };
  const guessing = () => large || flag('guess_first', false);
  // As on the dashboard: something was changed, and nothing is uncovered yet.
  const covered = (shown) => guessing() && arrangement.print(shown) !== whole && revealed !== arrangement.print(shown);
  const keyOf = (method, spec) => `${data.name} ${method.name} ${spec} ${recalibrate()}`;

  // --- frame ---
  const sentence = make('div', 'sentence'), says = make('div'), diagramHost = make('div', 'diagram'), tools = make('div', 'row tools');
  const body = make('div', 'body'), answers = make('div', 'answers'), side = make('div', 'side'), settings = make('div', 'row settings');
  const lanesHost = make('div'), status = make('div', 'status'), problem = make('div'), wallHost = make('div'), wallNote = make('div');
  const reset = button(say('edit.put_back'), () => edit(whole));
  const undoButton = button(say('break_it.undo'), () => { if (undo.length) go(undo.pop()); });
  const heading = make('h1');
  says.setAttribute('aria-live', 'polite');
  says.append(heading);
  sentence.append(says, reset);
  answers.append(lanesHost, status);
  body.append(answers, settings, side);
  box.append(problem, sentence, diagramHost, tools, body);
  if (!large) box.append(paragraph(say('break_it.lead'), 'lead'));
  for (const preset of data.presets) tools.append(button(labelOf(preset), () => edit(preset.text)));
  tools.append(button(say('break_it.surprise'), () => edit(arrangement.print(arrangement.surprise(topology)))), undoButton);

  const code = Object.assign(make('input'), { type: 'text', id: 'code', spellcheck: false, autocomplete: 'off' });
  const label = Object.assign(make('label', 'quiet', say('break_it.code')), { htmlFor: 'code' });
  code.onchange = () => edit(code.value.trim() || data.opening);
  const tick = make('label', 'tick'), toggle = Object.assign(make('input'), { type: 'checkbox', checked: recalibrate() });
  toggle.onchange = () => { change({ recalibrate: toggle.checked ? null : 'false' }); show(); };
  tick.append(toggle, say('break_it.recalibrate'));
  tick.title = say('break_it.recalibrate_help');
  settings.append(label, code);
  if (!large) {
    const first = make('label', 'tick'), guessFirst = Object.assign(make('input'), { type: 'checkbox', checked: flag('guess_first', false) });
    guessFirst.onchange = () => { change({ guess_first: guessFirst.checked ? 'true' : null }); show(); };
    first.append(guessFirst, say('guess.first'));
    first.title = say('guess.first_help');
    settings.append(first);
  }
  const none = () => Object.assign(make('span', 'quiet', say('break_it.no_recalibration')), { title: say('break_it.no_recalibration_help') });
  if (canCompute) settings.append(data.batch_norms ? tick : none());

  const linkHost = make('div');
  if (data.lesson) head.prepend(Object.assign(button(say('lesson.button'), () => turn(1), 'primary'), { id: 'lesson' }));
  head.append(button(say(large ? 'page.leave_teacher_view' : 'page.teacher_view'), () => { change({ view: large ? null : 'class' }); redraw(); }), linkHost);

  // --- edits ---
  function edit(next) {
    const before = text();
    if (next === before) return;
    try { arrangement.read(topology, next); } catch (error) { refuse(error.message); return; }
    undo.push(before);
    go(next);
  }
  function go(next) { change({ spec: next }); show(); }
  function refuse(message) {
    problem.replaceChildren(paragraph(message[0].toUpperCase() + message.slice(1), 'notice'));
    problem.firstChild.setAttribute('role', 'alert');
    code.value = text();
  }

  // --- answers ---
  const stored = (method, spec) => {
    const state = recalibrate() ? method.states[spec] : undefined;
    if (!state) return null;
    const [correct, low, high] = state;
    return { correct, images: data.images, drop: (100 * (method.correct - correct)) / data.images, interval: [low, high], stored: true };
  };
  const computed = (seen) => ({ ...seen, ...pairedDrop(seen.lost, seen.won, seen.images) });
  const answerOf = (method, spec) => {
    const report = job?.counts.get(method.name);
    if (report?.seen) return { ...computed(report.seen), provisional: report.phase === 'provisional' || report.provisional };
    if (job?.fresh) return null;
    const known = measured.get(keyOf(method, spec));
    return stored(method, spec) || (known ? computed(known) : null);
  };
  const laneOf = (method, spec, isWhole, hidden, text) => {
    const answer = answerOf(method, spec);
    // Without re-calibration the full network has other statistics too, so that its stored accuracy is not the reference.
    const reference = !recalibrate() && answer ? (answer.correct + answer.lost - answer.won) / answer.images : method.correct / data.images;
    return {
      key: method.name, name: method.label, glyph: method.glyph, color: method.color, full_pct: 100 * reference,
      accuracy_pct: answer ? (100 * answer.correct) / answer.images : null,
      interval_pct: answer ? wilson(answer.correct, answer.images) : [0, 100],
      drop_pct: answer && !isWhole ? answer.drop : null, drop_interval_pct: answer ? answer.interval : [0, 0], guess_pct: guessing() && revealed === text ? guesses.get(method.name) ?? null : null, hidden,
    };
  };

  function drawAnswers() {
    const { shown } = shownNow(), spec = arrangement.spec(shown), isWhole = !shown.deleted.size && arrangement.print(shown) === whole;
    const hidden = covered(shown), rows = methods.map((method) => laneOf(method, spec, isWhole, hidden, arrangement.print(shown))), running = Boolean(job && !job.done);
    const known = methods.map((method, i) => [method.label, rows[i].accuracy_pct]).filter(([, value]) => value !== null);
    const only = methods.length === 1 ? (100 * methods[0].correct) / data.images : null;
    heading.replaceChildren(...rich(`${arrangement.summarise(topology, shown)} ${hidden ? say('finding.covered') : known.length || running || canCompute ? finding(known, isWhole, only) : say('break_it.not_stored')}`));
    says.querySelectorAll('p').forEach((old) => old.remove());
    const note = arrangement.caution(topology, firsts, shown);
    if (note) says.append(paragraph(note));
    draws.lanes({ rows, label: rows.map(spoken).join('; '), done: !running, large, words: { ...section('lanes'), decimal: say('number.decimal') } });
    drawStatus(spec, running);
  }

  function drawStatus(spec, running) {
    const given = methods.map((method) => answerOf(method, spec)), parts = [];
    if (running) {
      const reports = [...job.counts.values()], last = job.last, bar = make('progress');
      bar.max = 1;
      bar.value = job.share;
      bar.setAttribute('aria-label', say('break_it.progress'));
      const calibrating = last?.phase === 'calibrate' && data.batch_norms && recalibrate(), provisional = reports.some((r) => r.provisional || r.phase === 'provisional');
      const words = [calibrating ? say('break_it.calibrating') : last?.seen ? say('break_it.counted', { seen: count(last.seen.images), images: images(last.images_total) }) : say('break_it.loading')];
      if (provisional) words.push(say('break_it.provisional', data.quick));
      parts.push(bar, make('span', '', words.join(' ')), button(say('break_it.stop'), halt));
    } else if (job?.problem) {
      parts.push(paragraph(say('break_it.failed', { reason: job.problem })), button(say('page.try_again'), () => start(job.fresh)));
    } else if (job?.stopped) {
      const numbers = given.filter(Boolean), seen = numbers.length ? Math.min(...numbers.map((answer) => answer.images)) : 0;
      parts.push(paragraph(seen ? say('break_it.stopped', { images: images(seen) }) : say('break_it.stopped_before')), button(say('break_it.go_on'), () => start(job.fresh)));
    } else if (given.every((answer) => answer?.stored)) {
      parts.push(paragraph(say('break_it.stored', { images: images(data.images) })));
      if (canCompute && !large) parts.push(Object.assign(button(say('break_it.measure_again'), () => start(true)), { title: say('break_it.measure_again_browser_help') }));
    } else if (given.every(Boolean)) {
      const here = given.filter((answer) => !answer.stored);
      parts.push(paragraph(say(here.length < given.length ? 'break_it.measured_in_browser_partly' : 'break_it.measured_in_browser', { images: images(Math.min(...here.map((answer) => answer.images))) })));
    } else {
      parts.push(paragraph(canCompute ? say('break_it.not_stored') : say('break_it.not_computable', { reason: why })));
      if (canCompute) parts.push(button(say('break_it.compute'), () => start(false)));
    }
    status.replaceChildren(...parts);
  }

  // --- computing ---
  function halt() {
    compute.stop();
    job.done = job.stopped = true;
    drawAnswers();
    drawSide();
  }

  function start(fresh) {
    const { shown } = shownNow(), spec = arrangement.spec(shown);
    const missing = methods.filter((method) => fresh || !(stored(method, spec) || measured.has(keyOf(method, spec))));
    if (!missing.length) return;
    const mine = { counts: new Map(), share: 0, fresh, done: false, last: null };
    job = mine;
    const keys = new Map(missing.map((method) => [method.name, keyOf(method, spec)]));
    compute.run(data.name, { kind: 'measure', methods: missing.map((m) => m.name), route: arrangement.route(shown), recalibrate: recalibrate() }, (report) => {
      if (job !== mine) return;
      const before = mine.counts.get(report.method), place = missing.findIndex((method) => method.name === report.method);
      if (report.phase === 'failed') Object.assign(mine, { done: true, problem: report.message });
      else if (report.phase === 'finished') mine.done = true;
      else {
        if (report.phase === 'calibrate' && before?.seen) mine.counts.set(report.method, { ...report, seen: before.seen, provisional: true });
        else mine.counts.set(report.method, report);
        mine.last = report;
        if (report.phase === 'calibrate' && before?.seen) mine.share = Math.max(mine.share, (place + 0.5 * (report.done / report.total)) / missing.length);
        if (report.phase === 'count') mine.share = Math.max(mine.share, (place + 0.5 + 0.5 * (report.seen.images / report.images_total)) / missing.length);
        if (report.phase === 'done') measured.set(keys.get(report.method), report.seen);
      }
      drawAnswers();
      if (mine.done) drawSide();
    });
    drawAnswers();
    drawSide();
  }

  function askPictures() {
    const { shown } = shownNow(), spec = arrangement.spec(shown), found = {}, names = wallMethods().map((m) => m.name);
    job = null;
    wallNote.replaceChildren(paragraph(say('wall.asking', { count: data.wall.pictures.length }), 'quiet'));
    const key = `${data.name} ${spec} ${recalibrate()}`;
    compute.run(data.name, { kind: 'wall', methods: names, route: arrangement.route(shown), recalibrate: recalibrate() }, (report) => {
      if (report.phase === 'failed') wallNote.replaceChildren(paragraph(say('wall.failed', { reason: report.message }), 'notice'));
      if (report.phase === 'wall') found[report.method] = report.answers;
      if (report.phase === 'finished') { walls.set(key, found); drawSide(); }
    });
  }

  // --- side: guesses, lesson or picture wall ---
  function guessPanel(shown) {
    const panel = make('section', 'panel guess'), fields = make('div', 'guesses'), moved = new Map(); // a slider that nobody moved is no guess
    panel.setAttribute('aria-label', say('guess.first'));
    panel.dataset.of = arrangement.print(shown); // its sliders stay where they are while numbers arrive
    panel.append(paragraph(say('guess.question')), fields);
    for (const method of methods) {
      const name = make('label', '', `${method.glyph} ${method.label}`), value = make('output'), slider = Object.assign(make('input'), { type: 'range', min: 0, max: 100, value: 50 });
      const written = () => { value.textContent = say('guess.value').replace('%d', slider.value); };
      slider.oninput = () => { moved.set(method.name, Number(slider.value)); written(); };
      written();
      name.append(slider, value);
      fields.append(name);
    }
    panel.append(button(say('guess.reveal'), () => {
      revealed = arrangement.print(shown);
      guesses = moved;
      show();
    }, 'primary'));
    return panel;
  }

  const wallMethods = () => {
    const compared = methods.filter((method) => data.compared.includes(method.name));
    return compared.length === data.compared.length ? compared : methods.slice(0, 2);
  };

  function drawSide() {
    document.getElementById('lesson')?.toggleAttribute('disabled', step > 0);
    const { shown } = shownNow(), hidden = covered(shown), panels = [];
    if (hidden) panels.push(side.querySelector('.guess')?.dataset.of === arrangement.print(shown) ? side.querySelector('.guess') : guessPanel(shown));
    if (step && data.lesson) panels.push(lessonPanel());
    if (panels.length) { side.replaceChildren(...panels); return; }
    side.replaceChildren(wallHost, wallNote);
    wallNote.replaceChildren();
    const spec = arrangement.spec(shown), chosen = wallMethods();
    const here = walls.get(`${data.name} ${spec} ${recalibrate()}`);
    const found = chosen.map((method) => here?.[method.name] || (recalibrate() && data.wall.answers[method.name]?.[spec]));
    wallHost.hidden = !found.every(Boolean);
    if (found.every(Boolean)) {
      draws.wall({
        pictures: data.wall.pictures, classes: data.classes, tinted: data.shape[0] === 1, words: section('wall'),
        methods: chosen.map((method, i) => ({ name: method.label, glyph: method.glyph, color: method.color, ...found[i] })),
      });
      return;
    }
    if (job && !job.done) wallNote.append(paragraph(say('wall.follow', { count: data.wall.pictures.length }), 'quiet'));
    else if (job?.done && !job.problem && !job.stopped) askPictures();
    else if (canCompute) wallNote.append(button(say('wall.ask', { count: data.wall.pictures.length }), askPictures), paragraph(say('wall.ask_note'), 'quiet'));
  }

  function turn(number) {
    step = number;
    drawSide();
    const panel = side.querySelector('.panel:not(.guess)');
    panel?.focus({ preventScroll: true });
    panel?.scrollIntoView({ block: 'nearest' }); // on a phone the button is far below
  }

  function lessonPanel() {
    const { steps, replies, right } = data.lesson, now = steps[step - 1], panel = make('section', 'panel'), row = make('div', 'row');
    panel.setAttribute('aria-label', say('lesson.name'));
    panel.tabIndex = -1;
    panel.append(make('h2', '', say('lesson.heading', { number: step, count: steps.length, title: say(`lesson.${now.name}_title`) })), paragraph(say(`lesson.${now.variant}`, now.values)));
    if (step === steps.length) {
      const fieldset = make('fieldset'), reply = make('p', 'quiet');
      reply.setAttribute('aria-live', 'polite');
      fieldset.append(make('legend', '', say('lesson.question')));
      for (const answer of replies) {
        const option = make('label', 'tick'), dot = Object.assign(make('input'), { type: 'radio', name: 'loafing' });
        dot.onchange = () => { reply.textContent = say(`lesson.${answer}_reply`); reply.style.fontWeight = answer === right ? '650' : '400'; };
        option.append(dot, say(`lesson.${answer}`));
        fieldset.append(option, make('br'));
      }
      panel.append(fieldset, reply);
    }
    if (now.edit) {
      row.append(button(labelOf(now.edit), () => {
        edit(now.edit.text);
        says.scrollIntoView({ block: 'nearest' }); // on a phone the finding is above the lesson
      }, 'primary'));
    }
    row.append(Object.assign(button(say('lesson.back'), () => turn(step - 1)), { disabled: step === 1 }));
    if (step < steps.length) row.append(button(say('lesson.next'), () => turn(step + 1)));
    row.append(button(say('lesson.close'), () => turn(0)));
    panel.append(row);
    return panel;
  }

  // --- all of it ---
  function show() {
    compute.stop();
    job = null;
    const { shown, problem: wrong } = shownNow(), spec = arrangement.spec(shown);
    problem.replaceChildren(...(wrong ? [paragraph(wrong[0].toUpperCase() + wrong.slice(1), 'notice')] : []));
    code.value = arrangement.print(shown);
    reset.disabled = arrangement.print(shown) === whole;
    undoButton.disabled = !undo.length;
    toggle.checked = recalibrate();
    draws.diagram({ ...data.diagram, locked, text: arrangement.print(shown), edits, large, words: section('diagram') }, (_, sent) => { edits = sent.number; edit(sent.text); });
    const missing = methods.some((method) => !(stored(method, spec) || measured.has(keyOf(method, spec))));
    drawAnswers();
    drawSide();
    if (missing && canCompute) start(false);
  }

  window.onkeydown = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === 'z' && !/INPUT|TEXTAREA/.test(document.activeElement?.tagName) && undo.length && box.isConnected) { event.preventDefault(); go(undo.pop()); }
  };
  draws = { diagram: mounted(diagram, 'diagram', diagramHost), lanes: mounted(lanes, 'lanes', lanesHost), wall: mounted(wall, 'wall', wallHost) };
  mounted(link, 'link', linkHost)({ experiment: data.name, words: section('link') });
  show();
  document.body.dataset.ready = 'true';
}

showPage(breakIt);
