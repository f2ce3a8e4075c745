// Starts the worker that runs networks, and hands its reports on. A new job ends the job before it.
import { ROOT } from './address.js';

let worker = null, number = 0, receive = () => {};

function started() {
  if (worker) return worker;
  worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
  worker.onmessage = ({ data }) => { if (data.job === number) receive(data); };
  worker.onerror = (event) => {
    event.preventDefault();
    worker = null;
    receive({ job: number, phase: 'failed', message: event.message || 'the worker could not be started' });
  };
  return worker;
}

// Runs a job: `kind` is measure, wall or classify; `report` gets every message until the job has finished, failed or was replaced.
export function run(experiment, job, report) {
  number += 1;
  receive = report;
  const base = new URL(`data/${encodeURIComponent(experiment)}/`, ROOT).href;
  started().postMessage({ ...job, number, base, site: ROOT.href });
}

export function stop() {
  number += 1;
  receive = () => {};
  worker?.postMessage({ kind: 'stop', number });
}
