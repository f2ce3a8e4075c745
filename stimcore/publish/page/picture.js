// A picture of the visitor's, or a test picture, and what ordered sub-networks say to it. Nothing leaves the browser.
import * as compute from './compute.js';
import { table } from './figures.js';
import { button, fixed, make, paragraph, say } from './text.js';

const PAD = 196, MAX_BYTES = 20e6;

// The pixels that networks see: the largest centred square or rectangle of their shape, resized, as uint8 [C, H, W].
function pixelsOf(source, width, height, shape) {
  const [channels, rows, columns] = shape, scale = Math.max(columns / width, rows / height);
  const canvas = Object.assign(document.createElement('canvas'), { width: columns, height: rows }), context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.drawImage(source, (columns - width * scale) / 2, (rows - height * scale) / 2, width * scale, height * scale);
  const { data } = context.getImageData(0, 0, columns, rows), pixels = new Uint8Array(channels * rows * columns);
  for (let i = 0; i < rows * columns; i += 1) {
    const [r, g, b] = data.subarray(4 * i, 4 * i + 3);
    if (channels === 1) pixels[i] = Math.round((299 * r + 587 * g + 114 * b) / 1000);
    else [r, g, b].forEach((value, c) => { pixels[c * rows * columns + i] = value; });
  }
  return pixels;
}

function preview(pixels, shape) {
  const [channels, rows, columns] = shape, canvas = Object.assign(make('canvas', 'seen'), { width: columns, height: rows }), image = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i += 1) for (let c = 0; c < 4; c += 1) image.data[4 * i + c] = c === 3 ? 255 : pixels[(channels === 1 ? 0 : c) * rows * columns + i];
  canvas.getContext('2d').putImageData(image, 0, 0);
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', say('picture.seen'));
  return canvas;
}

export function ownPicture({ catalogue, data, methods }, main) {
  main.append(paragraph(say('picture.lead')));
  if (!catalogue.runtime) {
    main.append(paragraph(say('picture.no_runtime'), 'notice'));
    return;
  }
  const { shape } = data, lab = make('div', 'picture-lab'), result = make('div'), problem = make('div');
  result.setAttribute('aria-live', 'polite');
  let last = null;
  const invert = Object.assign(make('input'), { type: 'checkbox' }), inverted = make('label', 'tick');
  inverted.append(invert, say('picture.invert'));
  invert.onchange = () => { if (last) classify(last.pixels, last.name, last.own); };
  const refuseUpload = (text) => { last = null; result.replaceChildren(); refuse(text); }; // what stands there is about another picture
  const refuse = (text) => { problem.replaceChildren(paragraph(text, 'notice')); problem.firstChild.setAttribute('role', 'alert'); };

  function classify(pixels, name, own) {
    last = { pixels, name, own };
    problem.replaceChildren();
    const seen = own && invert.checked ? pixels.map((value) => 255 - value) : pixels, answers = new Map();
    const files = methods.flatMap((method) => method.files.ensemble.map((entry) => ({ method: method.name, spec: entry.spec, file: entry.file })));
    const note = make('p', 'quiet', say('picture.asking'));
    result.replaceChildren(preview(seen, shape), note);
    compute.run(data.name, { kind: 'classify', files, pixels: seen }, (report) => {
      if (report.phase === 'failed') { refuse(say('picture.failed', { reason: report.message })); note.remove(); }
      if (report.phase === 'answer') {
        answers.set(`${report.method} ${report.spec}`, report.probabilities);
        note.textContent = say('picture.asking_count', { done: answers.size, count: files.length });
      }
      if (report.phase === 'finished') drawAnswers(seen, name, answers);
    });
  }

  function drawAnswers(seen, name, answers) {
    const best = (shares) => shares.indexOf(Math.max(...shares));
    result.replaceChildren(preview(seen, shape), make('p', 'quiet', name ? say('picture.caption_named', { name }) : say('picture.caption')));
    const asked = methods.filter((method) => method.files.ensemble.length);
    for (const method of asked) {
      const votes = method.files.ensemble.map((entry) => best(answers.get(`${method.name} ${entry.spec}`))), whole = votes[votes.length - 1];
      result.append(paragraph(say('picture.vote', { method: `${method.glyph} ${method.label}`, answer: data.classes[whole], agreeing: votes.filter((v) => v === whole).length, count: votes.length })));
    }
    const names = asked[0]?.files.ensemble ?? [];
    result.append(table([say('subnetworks.name'), ...asked.map((method) => method.label)], names.map((entry) => [entry.name, ...asked.map((method) => {
      const shares = answers.get(`${method.name} ${entry.spec}`);
      return shares ? `${data.classes[best(shares)]}, ${fixed(100 * Math.max(...shares), 0)} %` : '–';
    })])));
  }

  // --- test pictures ---
  const samples = make('div', 'samples'), first = new Map();
  data.wall.pictures.forEach((picture) => { if (!first.has(picture.label)) first.set(picture.label, picture); });
  for (const picture of [...first.values()].slice(0, 10)) {
    const image = Object.assign(make('img'), { src: `data:image/png;base64,${picture.png}`, alt: say('picture.sample', { name: data.classes[picture.label] }) });
    const take = button('', async () => {
      await image.decode();
      classify(pixelsOf(image, image.naturalWidth, image.naturalHeight, shape), data.classes[picture.label], false);
    });
    take.append(image);
    samples.append(take);
  }

  // --- upload ---
  const upload = make('div'), field = Object.assign(make('input'), { type: 'file', accept: 'image/*', id: 'own' });
  upload.append(Object.assign(make('label', '', say('picture.own')), { htmlFor: 'own' }), make('br'), field);
  field.onchange = async () => {
    const [file] = field.files;
    if (!file) return;
    if (file.size > MAX_BYTES) { refuseUpload(say('picture.too_large', { size: fixed(file.size / 1e6, 1), limit: MAX_BYTES / 1e6 })); return; }
    try {
      const bitmap = await createImageBitmap(file, { imageOrientation: 'from-image' });
      classify(pixelsOf(bitmap, bitmap.width, bitmap.height, shape), '', true);
      bitmap.close();
    } catch { refuseUpload(say('picture.unreadable')); }
  };

  // --- drawing ---
  const drawing = make('div'), pad = Object.assign(make('canvas', 'pad'), { width: PAD, height: PAD }), ink = pad.getContext('2d');
  const clear = () => { ink.fillStyle = '#000'; ink.fillRect(0, 0, PAD, PAD); };
  clear();
  pad.setAttribute('role', 'img');
  pad.setAttribute('aria-label', say('picture.pad'));
  pad.onpointerdown = (down) => {
    pad.setPointerCapture(down.pointerId);
    const at = (event) => { const box = pad.getBoundingClientRect(); return [((event.clientX - box.left) / box.width) * PAD, ((event.clientY - box.top) / box.height) * PAD]; };
    Object.assign(ink, { strokeStyle: '#fff', lineWidth: 16, lineCap: 'round', lineJoin: 'round' });
    ink.beginPath();
    ink.moveTo(...at(down));
    pad.onpointermove = (now) => { ink.lineTo(...at(now)); ink.stroke(); };
    pad.onpointerup = pad.onpointercancel = () => { ink.lineTo(...at(down)); ink.stroke(); pad.onpointermove = pad.onpointerup = pad.onpointercancel = null; };
  };
  const padButtons = make('div', 'row');
  padButtons.append(button(say('picture.ask_drawing'), () => classify(pixelsOf(pad, PAD, PAD, shape), '', true)), button(say('picture.clear'), clear));
  drawing.append(pad, padButtons);

  // --- camera ---
  const camera = make('div'), open = button(say('picture.camera'), async () => {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } }), video = Object.assign(make('video'), { srcObject: stream, muted: true, playsInline: true });
      await video.play();
      const end = () => { stream.getTracks().forEach((track) => track.stop()); camera.replaceChildren(open); };
      camera.replaceChildren(video, make('br'), button(say('picture.take'), () => { classify(pixelsOf(video, video.videoWidth, video.videoHeight, shape), '', true); end(); }), button(say('picture.close_camera'), end));
    } catch { refuse(say('picture.no_camera')); }
  });
  camera.append(open);
  const own = make('div');
  own.append(upload, camera, inverted);
  lab.append(samples, own, drawing);
  main.append(lab, problem, result);
}
