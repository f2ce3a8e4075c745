// Draws the arrangement that the page sends and reports the one that the visitor asks for. Called again whenever `data` changes.
//
// An edit is drawn at once, before the page has answered it. The page may see only the last of several quick edits, and it answers
// older ones late: such an answer must not overwrite what was drawn since. So every edit carries its number, an answer repeats the
// number of the last edit that the page has seen, and one with a smaller number is ignored. Only an edit that stays unanswered for
// LOST_MS is given up: the connection was lost, and the picture has to show what the page has.
//
// An answer may also arrive while a block is held down: to draw then would take the block away from the finger, and the drag or the
// click would be lost. It is drawn when the block is let go.
const VIEWS = new WeakMap(); // the state of each picture, kept from call to call
const LOST_MS = 15000;
const DRAG_PX = 6; // a pointer that moves less than this is a click
const LOCK = 'M4 7V5a4 4 0 0 1 8 0v2h1v7H3V7zm2 0h4V5a2 2 0 0 0-4 0z';

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const parse = (text) => text.split('.').map((stage) => stage.split('-').map((t) => ({ id: t.replace('x', ''), gone: t[0] === 'x' })));
const print = (stages) => stages.map((stage) => stage.map((b) => (b.gone ? 'x' : '') + b.id).join('-')).join('.');
const make = (tag, name, text = '') => Object.assign(document.createElement(tag), { className: name, textContent: text });

function isDark(element) {
  const rgb = getComputedStyle(element).getPropertyValue('--st-background-color').trim();
  const hex = /^#([0-9a-f]{6})/i.exec(rgb);
  const parts = hex ? [0, 2, 4].map((i) => parseInt(hex[1].slice(i, i + 2), 16)) : (rgb.match(/\d+/g) || [255, 255, 255]).map(Number);
  return parts[0] + parts[1] + parts[2] < 384;
}

export default function (asked) {
  show(asked);
}

function show(asked) {
  const { data, parentElement, setStateValue } = asked;
  const words = (name, values = {}) => fill(data.words[name], values);
  const net = parentElement.querySelector('.net');
  const hint = parentElement.querySelector('.hint');
  let view = VIEWS.get(parentElement);
  if (!view) VIEWS.set(parentElement, (view = { sent: null, focus: null, drag: null, held: 0, late: null, edits: 0 }));
  if (view.held) {
    view.late = asked;
    return;
  }
  if (view.sent !== null && data.edits < view.edits && Date.now() - view.at < LOST_MS) return;
  const edited = view.text !== undefined && view.text !== data.text && view.sent !== data.text;
  view.sent = null;
  view.text = data.text;
  view.stages = parse(data.text);
  view.edits = Math.max(view.edits, data.edits); // the page remembers more than a picture that was drawn anew

  const say = (text, loud = true) => {
    hint.textContent = text;
    hint.classList.toggle('said', loud);
  };
  const usual = words(data.tail ? 'usual_tail' : 'usual');
  if (edited || view.usual !== usual) { // at first, and in another language
    view.usual = usual;
    say(usual, false);
    if (data.movable && !data.tail) hint.append(make('span', 'keys', words('keys')));
  }

  const emit = (message, id) => {
    view.edits += 1;
    view.sent = view.text = print(view.stages);
    view.at = Date.now();
    say(message);
    draw(id);
    setStateValue('edit', { number: view.edits, text: view.sent });
  };

  const first = (block) => data.firsts.includes(Number(block.id));

  const press = (stage, place, toEnd) => {
    const block = stage[place];
    const gone = !block.gone;
    if (data.tail || toEnd) {
      if (place === 0) return refuse(block);
      stage.forEach((b, i) => { b.gone = gone ? i >= place || b.gone : i > place && b.gone; });
      return emit(words(gone ? 'cut' : 'uncut', { block: block.id }), block.id);
    }
    if (data.locked[block.id]) return refuse(block);
    block.gone = gone;
    emit(words(gone ? 'deleted' : 'back', { block: block.id }) + (gone && first(block) ? words('never') : ''), block.id);
  };

  const refuse = (block) => say(words('refused', { block: block.id, reason: data.locked[block.id] || words('first_stays') }));

  const move = (stage, from, to) => {
    const fixed = (i) => Boolean(data.locked[stage[i].id]);
    let low = from, high = from; // blocks move only between their locked neighbours
    while (low > 0 && !fixed(low - 1)) low -= 1;
    while (high < stage.length - 1 && !fixed(high + 1)) high += 1;
    const place = Math.max(low, Math.min(high, to));
    if (place === from) return;
    const [block] = stage.splice(from, 1);
    stage.splice(place, 0, block);
    emit(words('moved', { block: block.id, place: place + 1, places: stage.length }), block.id);
  };

  const buttons = () => [...net.querySelectorAll('button')];
  const focus = (button) => {
    if (!button) return;
    buttons().forEach((b) => { b.tabIndex = -1; });
    button.tabIndex = 0;
    view.focus = button.dataset.block;
    button.focus();
  };

  const keys = (event, button, stage, place) => {
    const all = buttons();
    const at = all.indexOf(button);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && event.altKey) {
      event.preventDefault();
      if (data.tail) say(words('none_moves'));
      else if (data.locked[stage[place].id]) refuse(stage[place]);
      else move(stage, place, place + step);
    } else if (step) { event.preventDefault(); focus(all[at + step]); }
    else if (event.key === 'Home') { event.preventDefault(); focus(all[0]); }
    else if (event.key === 'End') { event.preventDefault(); focus(all[all.length - 1]); }
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // Streamlit binds r, c and Escape on the document
  };

  const drag = (button, cell, row, stage, place) => {
    button.onpointerdown = (down) => {
      if (down.button !== 0) return;
      let target = place;
      button.setPointerCapture(down.pointerId);
      button.onpointermove = (now) => {
        const dx = now.clientX - down.clientX, dy = now.clientY - down.clientY;
        if (view.drag !== down && Math.hypot(dx, dy) < DRAG_PX) return;
        view.drag = down;
        button.classList.add('drag');
        button.style.transform = `translate(${dx}px, ${dy}px)`;
        const boxes = [...row.children].map((c) => c.getBoundingClientRect()); // an answer may have moved the page since
        const away = boxes.map((b) => Math.hypot(now.clientX - (b.left + b.right) / 2, now.clientY - (b.top + b.bottom) / 2));
        target = away.indexOf(Math.min(...away));
      };
      button.onpointerup = button.onpointercancel = (up) => {
        button.onpointermove = button.onpointerup = button.onpointercancel = null;
        button.classList.remove('drag');
        button.style.transform = '';
        if (view.drag !== down) return;
        if (up.type === 'pointerup') move(stage, place, target);
        setTimeout(() => { if (view.drag === down) view.drag = null; }); // after the click event that follows a drag, which must not delete the block
      };
    };
  };

  const cellOf = (block, place, stage, row) => {
    const cell = make('div', 'cell'), button = make('button', '', block.id);
    const why = data.locked[block.id];
    const fixed = Boolean(why) && !block.gone;
    button.type = 'button';
    button.dataset.block = block.id;
    button.tabIndex = -1;
    cell.classList.toggle('skip', !why || data.tail);
    cell.classList.toggle('gone', block.gone);
    if (fixed) {
      button.setAttribute('aria-disabled', 'true');
      button.setAttribute('aria-label', words('locked', { block: block.id, reason: why }));
      button.title = words('locked_title', { reason: why });
      const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      svg.setAttribute('viewBox', '0 0 16 16');
      svg.setAttribute('aria-hidden', 'true');
      path.setAttribute('d', LOCK);
      svg.append(path);
      button.append(svg);
    } else {
      button.setAttribute('aria-pressed', String(block.gone));
      button.setAttribute('aria-label', words(block.gone ? 'gone_label' : 'running_label', { block: block.id }) + (why || data.tail ? '' : words('moves_label')) + (first(block) ? words('first_label') : ''));
      if (first(block)) { button.classList.add('first'); button.title = words('first_title'); }
      if (!why && !data.tail) { button.classList.add('movable'); drag(button, cell, row, stage, place); }
    }
    button.onclick = (event) => { if (!view.drag) { view.focus = block.id; press(stage, place, event.shiftKey); } };
    button.onkeydown = (event) => keys(event, button, stage, place);
    cell.append(button);
    return cell;
  };

  // Where the browser is busy, the next press begins before the timers of the one before have run. So what is held is counted, and
  // a drag is known by the event that it began with.
  net.onpointerdown = (down) => {
    if (down.button !== 0) return; // it opens a menu, which takes the end of this press for itself
    view.held += 1;
    if (view.drag?.pointerId === down.pointerId) view.drag = null;
    const release = (up) => {
      if (up.pointerId !== down.pointerId) return; // another finger
      removeEventListener('pointerup', release);
      removeEventListener('pointercancel', release);
      setTimeout(() => { // after the click event, which needs the button that was pressed
        view.held -= 1;
        const { late } = view;
        if (view.held || !late) return;
        view.late = null;
        show(late);
      });
    };
    addEventListener('pointerup', release);
    addEventListener('pointercancel', release);
  };

  function draw(focusId) {
    const total = view.stages.reduce((n, stage) => n + stage.length, 0);
    net.classList.toggle('dark', isDark(net));
    net.classList.toggle('large', data.large);
    net.style.setProperty('--n', total);
    net.style.setProperty('--stages', view.stages.length);
    net.setAttribute('aria-label', words('net', { stages: view.stages.length, blocks: total }));
    const parts = [make('div', 'end', words('image'))];
    view.stages.forEach((stage, s) => {
      const box = make('div', 'stage'), title = make('div', 'title'), row = make('div', 'row');
      title.append(make('span', '', words('stage', { stage: s + 1 })), make('span', 'count', words('count', { running: stage.filter((b) => !b.gone).length, blocks: stage.length })));
      stage.forEach((block, place) => row.append(cellOf(block, place, stage, row)));
      box.append(title, row);
      parts.push(Object.assign(make('div', 'arrow', '→'), { ariaHidden: 'true' }), box);
    });
    parts.push(Object.assign(make('div', 'arrow', '→'), { ariaHidden: 'true' }), make('div', 'end', words('answer')));
    net.replaceChildren(...parts);
    const all = buttons(), entry = all.find((b) => b.dataset.block === view.focus) || all[0];
    if (entry) entry.tabIndex = 0;
    if (focusId) net.querySelector(`[data-block="${focusId}"]`)?.focus();
  }
  draw(net.getRootNode().activeElement?.dataset?.block);
}
