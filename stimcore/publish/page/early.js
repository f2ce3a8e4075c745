// Becomes part of every page itself: asks for the stored results before any other script is there, because on a slow connection
// every round trip counts. `files.js` takes the answers over.
globalThis.early = (() => {
  const asked = new URLSearchParams(location.search), stated = (name) => document.querySelector(`meta[name="${name}"]`).content;
  const root = new URL(stated('root'), location.href), requests = new Map();
  const ask = (path) => {
    const address = new URL(path, root).href, coming = fetch(address, { credentials: 'omit', cache: 'no-cache' });
    coming.catch(() => {}); // who waits for it reports the error
    requests.set(address, coming);
    return address;
  };
  // The language of the address, else that of the site, else the first of the browser's that there are texts in.
  const known = stated('languages').split(' ');
  const wanted = [asked.get('lang'), stated('language'), ...navigator.languages].map((code) => (code ?? '').replace('_', '-').split('-')[0].toLowerCase());
  const language = wanted.find((code) => known.includes(code)) ?? 'en';
  // An address may ask for an experiment that isn't here.
  const first = stated('first-experiment'), experiment = asked.get('experiment') ?? '';
  const states = ask(`data/${encodeURIComponent(/^[\w.-]+$/.test(experiment) ? experiment : first)}/states.json`);
  return { requests, first, states, words: ask(`web/text/${language}.json`), catalogue: ask('data/catalogue.json') };
})();
