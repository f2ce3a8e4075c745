// Mounts the components of `web/`, which the dashboard uses too, each in a shadow root with its own style sheet.
import { ROOT } from './address.js';

const load = async (name) => {
  const answer = await fetch(new URL(`web/${name}`, ROOT), { credentials: 'omit', cache: 'no-cache' });
  if (!answer.ok) throw new Error(`web/${name} is not on this site (status ${answer.status}).`);
  return answer.text();
};
const files = new Map();
const filesOf = (name) => {
  if (!files.has(name)) files.set(name, Promise.all([load(`${name}.html`), load(`${name}.css`), import(new URL(`web/${name}.js`, ROOT).href)]));
  return files.get(name);
};

// Starts loading components that will be mounted later: on a slow connection every round trip counts.
export const expectComponents = (names) => names.forEach((name) => filesOf(name).catch(() => files.delete(name)));

export async function component(name, host) {
  const [html, css, module] = await filesOf(name);
  const shadow = host.attachShadow({ mode: 'open' }), sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  shadow.adoptedStyleSheets = [sheet];
  const box = document.createElement('div');
  box.innerHTML = html;
  shadow.append(box);
  return (data, setStateValue = () => {}) => module.default({ data, parentElement: box, setStateValue });
}
