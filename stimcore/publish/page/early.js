// Asks for the stored results before the other scripts are there: on a slow connection every round trip counts.
import { fetchJson } from './files.js';

const asked = new URLSearchParams(location.search), root = new URL('../', import.meta.url);
const stated = (name) => document.querySelector(`meta[name="${name}"]`).content;
const file = (path) => {
  const coming = fetchJson(new URL(path, root).href);
  coming.catch(() => {}); // who waits for it reports the error
  return coming;
};

// The language of the address, else that of the site, else the first of the browser's that there are texts in.
function chosenLanguage() {
  const known = stated('languages').split(' ');
  const wanted = [asked.get('lang'), stated('language'), ...navigator.languages].map((code) => (code ?? '').replace('_', '-').split('-')[0].toLowerCase());
  return wanted.find((code) => known.includes(code)) ?? 'en';
}

export const first = stated('first-experiment');
export const statesOf = (name) => file(`data/${encodeURIComponent(name)}/states.json`);
// An address may ask for an experiment that isn't here.
const wanted = asked.get('experiment') ?? '';
export const states = statesOf(/^[\w.-]+$/.test(wanted) ? wanted : first);
export const words = file(`web/text/${chosenLanguage()}.json`);
export const catalogue = file('data/catalogue.json');
