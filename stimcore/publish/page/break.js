// Break it: delete and move blocks, and see which training method's network still works.
import { asked, change, flag } from './address.js';
import * as arrangement from './arrangement.js';
import { component } from './components.js';
import * as compute from './compute.js';
import { pairedDrop, wilson } from './intervals.js';
import { button, count, finding, fixed, images, make, paragraph, rich, say } from './text.js';

const undo = []; // texts of earlier arrangements
const measured = new Map(); // method, spec, re-calibration -> counts of this browser
const walls = new Map(); // the same -> answers of this browser
let step = 0; // open step of the lesson, 0 while it is closed

const spoken = (row) => {
  if (row.accuracy_pct === null) return `${row.name}: measuring`;
  const [low, high] = row.interval_pct.map((value) => fixed(value, 1)), text = `${row.name} ${fixed(row.accuracy_pct, 1)} percent, between ${low} and ${high}`;
  return row.drop_pct === null ? text : `${text}, ${fixed(Math.abs(row.drop_pct), 1)} points ${row.drop_pct >= 0 ? 'less' : 'more'} than the full network`;
};

export function breakIt({ catalogue, data, methods, head, large, redraw }, main) {
  const { topology } = data, whole = arrangement.print(arrangement.full(topology)), firsts = data.first_blocks;
  const box = make('div', 'break');
  main.append(box);
  const canCompute = catalogue.runtime && !data.computed;
  const why = data.computed || (catalogue.runtime ? '' : 'The program that runs networks in a browser is not part of this copy of the page.');
  let job = null, draws = {}, edits = 0; // the running job: { counts: method -> report, stopped, problem }

  const text = () => asked().get('spec') || data.opening;
  const recalibrate = () => !data.batch_norms || flag('recalibrate', true);
  const shownNow = () => {
    try { return { shown: arrangement.read(topology, text()), problem: '' }; }
    catch (error) { return { shown: arrangement.full(topology), problem: `${error.message} Showing the full network.` }; }
  };
  const keyOf = (method, spec) => `${data.name} ${method.name} ${spec} ${recalibrate()}`;

  // --- frame ---
  const sentence = make('div', 'sentence'), says = make('div'), diagramHost = make('div', 'diagram'), tools = make('div', 'row tools');
  const body = make('div', 'body'), answers = make('div', 'answers'), side = make('div', 'side'), settings = make('div', 'row settings');
  const lanesHost = make('div'), status = make('div', 'status'), problem = make('div'), wallHost = make('div'), wallNote = make('div');
  const reset = button('Put everything back', () => edit(whole));
  const undoButton = button('Undo', () => { if (undo.length) go(undo.pop()); });
  const heading = make('h1');
  says.setAttribute('aria-live', 'polite');
  says.append(heading);
  sentence.append(says, reset);
  answers.append(lanesHost, status);
  body.append(answers, settings, side);
  box.append(problem, sentence, diagramHost, tools, body);
  if (!large) box.append(paragraph(say('lead'), 'lead'));
  for (const preset of data.presets) tools.append(button(preset.label, () => edit(preset.text)));
  tools.append(button('Surprise me', () => edit(arrangement.print(arrangement.surprise(topology)))), undoButton);

  const code = Object.assign(make('input'), { type: 'text', id: 'code', spellcheck: false, autocomplete: 'off' });
  const label = Object.assign(make('label', 'quiet', 'Architecture code'), { htmlFor: 'code' });
  code.onchange = () => edit(code.value.trim() || data.opening);
  const tick = make('label', 'tick'), toggle = Object.assign(make('input'), { type: 'checkbox', checked: recalibrate() });
  toggle.onchange = () => { change({ recalibrate: toggle.checked ? null : 'false' }); show(); };
  tick.append(toggle, 'Re-calibrate');
  tick.title = say('recalibrate');
  settings.append(label, code);
  if (canCompute) settings.append(data.batch_norms ? tick : Object.assign(make('span', 'quiet', 'No re-calibration'), { title: say('no_batch_norms') }));

  const linkHost = make('div');
  if (data.lesson) head.prepend(Object.assign(button('Lesson in five steps', () => turn(1), 'primary'), { id: 'lesson' }));
  head.append(button(large ? 'Leave teacher view' : 'Teacher view', () => { change({ view: large ? null : 'class' }); redraw(); }), linkHost);

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
  const laneOf = (method, spec, isWhole) => {
    const answer = answerOf(method, spec);
    // Without re-calibration the full network has other statistics too, so that its stored accuracy is not the reference.
    const reference = !recalibrate() && answer ? (answer.correct + answer.lost - answer.won) / answer.images : method.correct / data.images;
    return {
      key: method.name, name: method.label, glyph: method.glyph, color: method.color, full_pct: 100 * reference,
      accuracy_pct: answer ? (100 * answer.correct) / answer.images : null,
      interval_pct: answer ? wilson(answer.correct, answer.images) : [0, 100],
      drop_pct: answer && !isWhole ? answer.drop : null, drop_interval_pct: answer ? answer.interval : [0, 0], guess_pct: null, hidden: false,
    };
  };

  function drawAnswers() {
    const { shown } = shownNow(), spec = arrangement.spec(shown), isWhole = !shown.deleted.size && arrangement.print(shown) === whole;
    const rows = methods.map((method) => laneOf(method, spec, isWhole)), running = Boolean(job && !job.done);
    const known = methods.map((method, i) => [method.label, rows[i].accuracy_pct]).filter(([, value]) => value !== null);
    const only = methods.length === 1 ? (100 * methods[0].correct) / data.images : null;
    heading.replaceChildren(...rich(`${arrangement.summarise(topology, shown)} ${known.length || running || canCompute ? finding(known, isWhole, only) : 'This state is not stored.'}`));
    says.querySelectorAll('p').forEach((old) => old.remove());
    const note = arrangement.caution(topology, firsts, shown);
    if (note) says.append(paragraph(note));
    draws.lanes?.({ rows, label: rows.map(spoken).join('; '), done: !running, large });
    drawStatus(spec, running);
  }

  function drawStatus(spec, running) {
    const given = methods.map((method) => answerOf(method, spec)), parts = [];
    if (running) {
      const reports = [...job.counts.values()], last = job.last, bar = make('progress');
      bar.max = 1;
      bar.value = job.share;
      bar.setAttribute('aria-label', 'Progress');
      const calibrating = last?.phase === 'calibrate', provisional = reports.some((r) => r.provisional || r.phase === 'provisional');
      let words = calibrating ? 'Fitting the batch-norm statistics to what is left of the network' : last?.seen ? `${count(last.seen.images)} of ${images(last.images_total)}` : 'Loading the networks …';
      if (provisional) words += '. Provisional: from 256 calibration and 256 test images';
      parts.push(bar, make('span', '', `${words}.`), button('Stop', halt));
    } else if (job?.problem) {
      parts.push(paragraph(`Could not be computed: ${job.problem}`), button('Try again', () => start(job.fresh)));
    } else if (job?.stopped) {
      const numbers = given.filter(Boolean), seen = numbers.length ? Math.min(...numbers.map((answer) => answer.images)) : 0;
      parts.push(paragraph(seen ? `Stopped: counted on ${images(seen)} only.` : 'Stopped before the first number.'), button('Go on', () => start(job.fresh)));
    } else if (given.every((answer) => answer?.stored)) {
      parts.push(paragraph(say('stored', { images: images(data.images) })));
      if (canCompute && !large) parts.push(Object.assign(button('Measure here now', () => start(true)), { title: 'Runs the networks in this browser, and shows how the interval narrows.' }));
    } else if (given.every(Boolean)) {
      const here = given.filter((answer) => !answer.stored);
      parts.push(paragraph(`Done: measured in this browser on ${images(Math.min(...here.map((answer) => answer.images)))}${here.length < given.length ? ', partly when the bundle was made' : ''}.`));
    } else {
      parts.push(paragraph(canCompute ? 'This state is not stored.' : `This state is not stored, and can't be computed here. ${why}`));
      if (canCompute) parts.push(button('Compute it here', () => start(false)));
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
    wallNote.replaceChildren(paragraph(`Asking the networks about ${data.wall.pictures.length} test pictures …`, 'quiet'));
    const key = `${data.name} ${spec} ${recalibrate()}`;
    compute.run(data.name, { kind: 'wall', methods: names, route: arrangement.route(shown), recalibrate: recalibrate() }, (report) => {
      if (report.phase === 'failed') wallNote.replaceChildren(paragraph(`The pictures can't be shown: ${report.message}`, 'notice'));
      if (report.phase === 'wall') found[report.method] = report.answers;
      if (report.phase === 'finished') { walls.set(key, found); drawSide(); }
    });
  }

  // --- side: lesson or picture wall ---
  const wallMethods = () => {
    const compared = methods.filter((method) => data.compared.includes(method.name));
    return compared.length === data.compared.length ? compared : methods.slice(0, 2);
  };

  function drawSide() {
    document.getElementById('lesson')?.toggleAttribute('disabled', step > 0);
    if (step && data.lesson) { side.replaceChildren(lessonPanel()); return; }
    side.replaceChildren(wallHost, wallNote);
    wallNote.replaceChildren();
    const { shown } = shownNow(), spec = arrangement.spec(shown), chosen = wallMethods();
    const here = walls.get(`${data.name} ${spec} ${recalibrate()}`);
    const found = chosen.map((method) => here?.[method.name] || (recalibrate() && data.wall.answers[method.name]?.[spec]));
    wallHost.hidden = !found.every(Boolean);
    if (found.every(Boolean)) {
      draws.wall?.({
        pictures: data.wall.pictures, classes: data.classes, tinted: data.shape[0] === 1,
        methods: chosen.map((method, i) => ({ name: method.label, glyph: method.glyph, color: method.color, ...found[i] })),
      });
      return;
    }
    if (job && !job.done) wallNote.append(paragraph(`What do they say to ${data.wall.pictures.length} test pictures? The pictures follow the numbers.`, 'quiet'));
    else if (job?.done && !job.problem && !job.stopped) askPictures();
    else if (canCompute) wallNote.append(button(`What do they say to ${data.wall.pictures.length} test pictures?`, askPictures), paragraph('Runs the networks in this browser; the first time it loads them.', 'quiet'));
  }

  function turn(number) {
    step = number;
    drawSide();
    const panel = side.querySelector('.panel');
    panel?.focus({ preventScroll: true });
    panel?.scrollIntoView({ block: 'nearest' }); // on a phone the button is far below
  }

  function lessonPanel() {
    const { steps, question, replies, right } = data.lesson, now = steps[step - 1], panel = make('section', 'panel'), row = make('div', 'row');
    panel.setAttribute('aria-label', 'Lesson');
    panel.tabIndex = -1;
    panel.append(make('h2', '', `${step} of ${steps.length}: ${now.title}`), paragraph(now.text));
    if (step === steps.length) {
      const fieldset = make('fieldset'), reply = make('p', 'quiet');
      reply.setAttribute('aria-live', 'polite');
      fieldset.append(make('legend', '', question));
      for (const [answer, said] of Object.entries(replies)) {
        const option = make('label', 'tick'), dot = Object.assign(make('input'), { type: 'radio', name: 'loafing' });
        dot.onchange = () => { reply.textContent = said; reply.style.fontWeight = answer === right ? '650' : '400'; };
        option.append(dot, answer);
        fieldset.append(option, make('br'));
      }
      panel.append(fieldset, reply);
    }
    if (now.edit) {
      row.append(button(now.edit.label, () => {
        edit(now.edit.text);
        says.scrollIntoView({ block: 'nearest' }); // on a phone the finding is above the lesson
      }, 'primary'));
    }
    row.append(Object.assign(button('Back', () => turn(step - 1)), { disabled: step === 1 }));
    if (step < steps.length) row.append(button('Next', () => turn(step + 1)));
    row.append(button('Close the lesson', () => turn(0)));
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
    draws.diagram?.({ ...data.diagram, text: arrangement.print(shown), edits, large }, (_, sent) => { edits = sent.number; edit(sent.text); });
    const missing = methods.some((method) => !(stored(method, spec) || measured.has(keyOf(method, spec))));
    drawAnswers();
    drawSide();
    if (missing && canCompute) start(false);
  }

  window.onkeydown = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === 'z' && !/INPUT|TEXTAREA/.test(document.activeElement?.tagName) && undo.length && box.isConnected) { event.preventDefault(); go(undo.pop()); }
  };
  Promise.all([component('diagram', diagramHost), component('lanes', lanesHost), component('wall', wallHost), component('link', linkHost)])
    .then(([diagram, lanes, wall, link]) => {
      draws = { diagram, lanes, wall };
      link({ experiment: data.name });
      show();
      document.body.dataset.ready = 'true';
    })
    .catch((error) => refuse(`The page could not be shown: ${error.message}`));
}
