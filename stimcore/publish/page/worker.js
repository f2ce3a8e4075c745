// Runs networks in a web worker: chains the parts of an arrangement, measures the statistics of their batch norms on the
// calibration images, and counts right answers. One job runs at a time; a new one ends the job before it.
//
// The steps are those of the Python engine, so that both count the same: in training mode a batch norm normalises with its batch,
// batch after batch in the order of the file, and the statistics are the plain average over batches, in float64, of the mean and of
// the unbiased variance (docs/semantics.md, "Batch-norm re-calibration").
import { floats, fetchBytes, fetchJson, fetchPacked } from './files.js';
import { unpackImages, unpackWeights } from './packing.js';

const CHUNK = 125; // images that run at once: few enough for a processor's caches
let ort = null;
let current = 0; // number of the job that may go on
const loaded = new Map(); // what was fetched: address -> promise
const sessions = new Map(); // method, part and kind -> promise of a session
const moments = new Map(); // method and route -> per batch the moments of every part
const once = (map, key, make) => {
  if (!map.has(key)) map.set(key, make().catch((error) => { map.delete(key); throw error; }));
  return map.get(key);
};

class Stopped extends Error {}
// A macrotask lets messages in: 'stop', or the next job.
const pause = () => new Promise((resolve) => { const channel = new MessageChannel(); channel.port1.onmessage = resolve; channel.port2.postMessage(0); });
const goOn = async (number) => { await pause(); if (number !== current) throw new Stopped(); };

async function runtime(base) {
  if (!ort) {
    ort = await import(new URL('runtime/ort.wasm.bundle.min.mjs', base).href);
    ort.env.wasm.numThreads = 1; // one path on every host: several threads need headers that most static hosts don't send
    ort.env.wasm.proxy = false;
    ort.env.wasm.wasmPaths = { wasm: new URL('runtime/ort-wasm-simd-threaded.wasm', base).href };
  }
  return ort;
}

const experimentOf = (base) => once(loaded, base + 'compute.json', () => fetchJson(base + 'compute.json'));
// The first images of a part, the calibration or the evaluation of an experiment, at least `count`: those behind a provisional
// number come in a file of their own, so that nobody waits for the others.
async function imagesOf(base, experiment, part, count) {
  const shape = experiment.image_shape, size = shape[0] * shape[1] * shape[2], load = (name) => once(loaded, base + name, async () => {
    const pixels = unpackImages(await fetchPacked(base + name), shape);
    // In every file the calibration's come before the evaluation's.
    const calibrating = experiment.calibration.batches.reduce((a, b) => a + b, 0), quick = Math.min(calibrating, experiment.quick);
    const cut = (name === experiment.images[0] ? quick : calibrating - quick) * size;
    return { calibration: pixels.subarray(0, cut), evaluation: pixels.subarray(cut) };
  });
  const first = await load(experiment.images[0]);
  if (count <= experiment.quick) return first[part];
  return once(loaded, `${base}${part} of both files`, async () => {
    const pieces = [first[part], (await load(experiment.images[1]))[part]], all = new Uint8Array(pieces[0].length + pieces[1].length);
    all.set(pieces[0]);
    all.set(pieces[1], pieces[0].length);
    return all;
  });
}
const weightsOf = (base, experiment, method) => {
  const address = `${base}${method}/${experiment.weights.file}`;
  return once(loaded, address, async () => [{ path: experiment.weights.name, data: unpackWeights(await fetchPacked(address)) }]);
};
const graphsOf = (base) => once(loaded, `${base}graphs.json`, () => fetchJson(`${base}graphs.json`));
const partsOf = (base, method) => once(loaded, base + method, async () => {
  const experiment = await experimentOf(base);
  const [{ parts }, externalData, graphs] = await Promise.all([fetchJson(`${base}${method}/parts.json`), weightsOf(base, experiment, method), graphsOf(base)]);
  return { parts, externalData, graphs };
});

// --- networks ---

async function session(job, method, part, kind) {
  const description = await partsOf(job.base, method);
  return once(sessions, `${job.base} ${method} ${part} ${kind}`, () => {
    const bytes = Uint8Array.from(atob(description.graphs[description.parts[part][kind]]), (c) => c.charCodeAt(0));
    return ort.InferenceSession.create(bytes, { executionProviders: ['wasm'], externalData: description.externalData });
  });
}

function tensorOf(experiment, pixels, first, count) {
  const [channels, height, width] = experiment.image_shape, plane = height * width, size = channels * plane;
  const table = experiment.table ??= floats(experiment.lookup); // [channels, 256]: a pixel's value after normalisation
  const values = new Float32Array(count * size);
  for (let i = 0; i < count * size; i += 1) values[i] = table[256 * (Math.floor(i / plane) % channels) + pixels[first * size + i]];
  return new ort.Tensor('float32', values, [count, channels, height, width]);
}

async function chain(job, method, statistics, input) {
  const description = await partsOf(job.base, method);
  let value = input;
  for (const [i, part] of job.route.entries()) {
    const network = await session(job, method, part, 'run');
    const feeds = { [network.inputNames[0]]: value };
    description.parts[part].norms.forEach((_, n) => {
      const [mean, variance] = statistics[i][n];
      feeds[network.inputNames[1 + 2 * n]] = new ort.Tensor('float32', mean, [mean.length]);
      feeds[network.inputNames[2 + 2 * n]] = new ort.Tensor('float32', variance, [variance.length]);
    });
    const result = (await network.run(feeds))[network.outputNames[0]];
    value.dispose();
    value = result;
  }
  return value;
}

// --- calibration ---

async function calibrateBatch(job, method, experiment, batch) {
  const key = `${job.base} ${method} ${job.route.join(' ')}`;
  const known = moments.get(key) || moments.set(key, []).get(key);
  if (known[batch]) return;
  const sizes = experiment.calibration.batches, first = sizes.slice(0, batch).reduce((a, b) => a + b, 0);
  const pixels = await imagesOf(job.base, experiment, 'calibration', first + sizes[batch]), found = [];
  let value = tensorOf(experiment, pixels, first, sizes[batch]);
  for (const part of job.route) {
    const network = await session(job, method, part, 'measure');
    const outputs = await network.run({ [network.inputNames[0]]: value });
    value.dispose();
    const values = network.outputNames.map((name) => outputs[name]);
    value = values[0];
    found.push(values.slice(1).map((tensor) => { const data = Float32Array.from(tensor.data); tensor.dispose(); return data; }));
    await goOn(job.number);
  }
  value.dispose();
  known[batch] = found;
}

function statisticsOf(job, method, experiment, description, count) {
  const sizes = experiment.calibration.batches.slice(0, count), known = moments.get(`${job.base} ${method} ${job.route.join(' ')}`);
  return job.route.map((part, i) => description.parts[part].norms.map((norm, n) => {
    const average = (place, factor) => {
      const sum = new Float64Array(known[0][i][place].length);
      sizes.forEach((size, batch) => known[batch][i][place].forEach((value, c) => { sum[c] += value * factor(norm.positions * size); }));
      return Float32Array.from(sum, (value) => value / sizes.length);
    };
    return [average(2 * n, () => 1), average(2 * n + 1, (values) => values / Math.max(1, values - 1))];
  }));
}

const trained = (job, description) => job.route.map((part) => description.parts[part].norms.map((norm) => [floats(norm.mean), floats(norm.var)]));

async function calibrated(job, method, experiment, count, report = () => {}) {
  const description = await partsOf(job.base, method);
  if (!job.recalibrate) return trained(job, description);
  const sizes = experiment.calibration.batches;
  for (let batch = 0; batch < count; batch += 1) {
    await calibrateBatch(job, method, experiment, batch);
    report(sizes.slice(0, batch + 1).reduce((a, b) => a + b, 0));
  }
  return statisticsOf(job, method, experiment, description, count);
}

// --- jobs ---

const argmax = (values, row, classes) => {
  let best = 0;
  for (let k = 1; k < classes; k += 1) if (values[row * classes + k] > values[row * classes + best]) best = k;
  return best;
};

// Counts right answers of images [0, limit); `add` receives the counts after every chunk.
async function count(job, method, experiment, statistics, limit, add) {
  const pixels = await imagesOf(job.base, experiment, 'evaluation', limit);
  const labels = experiment.labels ??= Uint16Array.from(experiment.evaluation.labels);
  // which images the whole network gets right, on the same kind of statistics: eight per byte, the first in the highest bit
  const main = Uint8Array.from(atob(experiment.methods[method][job.recalibrate ? 'hits' : 'hits_trained']), (c) => c.charCodeAt(0));
  const seen = { images: 0, correct: 0, lost: 0, won: 0, close: 0 };
  for (let first = 0; first < limit; first += CHUNK) {
    const size = Math.min(CHUNK, limit - first);
    const logits = await chain(job, method, statistics, tensorOf(experiment, pixels, first, size));
    const values = logits.data, classes = logits.dims[1];
    for (let row = 0; row < size; row += 1) {
      const image = first + row, right = argmax(values, row, classes) === labels[image];
      const mainRight = Boolean(main[image >> 3] & (128 >> (image & 7)));
      const sorted = Array.from(values.subarray(row * classes, (row + 1) * classes)).sort((a, b) => b - a);
      seen.correct += right;
      seen.lost += mainRight && !right;
      seen.won += right && !mainRight;
      seen.close += sorted[0] - sorted[1] < 1e-3;
    }
    seen.images += size;
    logits.dispose();
    await goOn(job.number);
    add({ ...seen });
  }
  return seen;
}

async function measure(job) {
  const experiment = await experimentOf(job.base), total = experiment.evaluation.labels.length;
  const send = (method, fields) => postMessage({ job: job.number, method, images_total: total, ...fields });
  // All that the first numbers need is loaded at the same time; the next methods' parts while the first one's run.
  const [first, ...others] = job.methods;
  await Promise.all([runtime(job.site), partsOf(job.base, first), imagesOf(job.base, experiment, 'calibration', 1)]);
  others.forEach((method) => partsOf(job.base, method).catch(() => {})); // asked for again below, where an error is reported
  const batches = experiment.calibration.batches.length;
  const images = experiment.calibration.batches.reduce((a, b) => a + b, 0);
  if (job.quick !== false) {
    for (const method of job.methods) {
      send(method, { phase: 'calibrate', done: 0, total: images });
      const statistics = await calibrated(job, method, experiment, 1);
      await count(job, method, experiment, statistics, Math.min(experiment.quick, total), (seen) => send(method, { phase: 'provisional', seen }));
    }
  }
  for (const method of job.methods) {
    const statistics = await calibrated(job, method, experiment, batches, (done) => send(method, { phase: 'calibrate', done, total: images }));
    const seen = await count(job, method, experiment, statistics, total, (now) => send(method, { phase: 'count', seen: now }));
    send(method, { phase: 'done', seen });
  }
}

const softmax = (values) => {
  const largest = Math.max(...values), powers = Array.from(values, (value) => Math.exp(value - largest)), sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
};

// What networks say to the pictures of the wall.
async function wall(job) {
  const experiment = await experimentOf(job.base);
  await runtime(job.site);
  const pixels = Uint8Array.from(atob(experiment.wall.pixels), (c) => c.charCodeAt(0));
  for (const method of job.methods) {
    const statistics = await calibrated(job, method, experiment, experiment.calibration.batches.length);
    const logits = await chain(job, method, statistics, tensorOf(experiment, pixels, 0, experiment.wall.images));
    const size = logits.dims[1], answers = { classes: [], confidence: [] };
    for (let row = 0; row < logits.dims[0]; row += 1) {
      const shares = softmax(logits.data.subarray(row * size, (row + 1) * size)), best = argmax(logits.data, row, size);
      answers.classes.push(best);
      answers.confidence.push(Math.round(1000 * shares[best]) / 1000);
    }
    postMessage({ job: job.number, method, phase: 'wall', answers });
    logits.dispose();
    await goOn(job.number);
  }
}

// What listed files say to one picture: `pixels` as the networks take it, uint8 [C, H, W].
async function classify(job) {
  const experiment = await experimentOf(job.base);
  await runtime(job.site);
  for (const { method, spec, file } of job.files) {
    const folder = `${job.base}${method}/`, externalData = await weightsOf(job.base, experiment, method);
    const network = await once(sessions, folder + file, async () => ort.InferenceSession.create(await fetchBytes(folder + file), { executionProviders: ['wasm'], externalData }));
    const input = tensorOf(experiment, job.pixels, 0, 1), logits = (await network.run({ [network.inputNames[0]]: input }))[network.outputNames[0]];
    postMessage({ job: job.number, method, spec, phase: 'answer', logits: Array.from(logits.data), probabilities: softmax(logits.data) });
    input.dispose();
    logits.dispose();
    await goOn(job.number);
  }
}

async function perform(job) {
  if (job.number !== current) return;
  try {
    await { measure, wall, classify }[job.kind](job);
    if (job.number === current) postMessage({ job: job.number, phase: 'finished' });
  } catch (error) {
    if (!(error instanceof Stopped)) postMessage({ job: job.number, phase: 'failed', message: String(error?.message ?? error) });
  }
}

let last = Promise.resolve();
onmessage = ({ data: job }) => {
  current = job.number;
  // A job waits until the one before it has let go of the sessions.
  if (job.kind !== 'stop') last = last.then(() => perform(job));
};
