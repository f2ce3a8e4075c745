// Mounts the components of `web/`, which the dashboard uses too, each in a shadow root with its own style sheet.
import { ROOT } from './address.js';

let templates = {};
export const useTemplates = (known) => { templates = known; };

const scripts = new Map();
const scriptOf = (name) => {
  if (!scripts.has(name)) scripts.set(name, import(new URL(`web/${name}.js`, ROOT).href));
  return scripts.get(name);
};

// Starts loading components that will be mounted later: on a slow connection every round trip counts.
export const expectComponents = (names) => names.forEach((name) => scriptOf(name).catch(() => scripts.delete(name)));

export async function component(name, host) {
  const module = await scriptOf(name), { html, css } = templates[name];
  const shadow = host.attachShadow({ mode: 'open' }), sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  shadow.adoptedStyleSheets = [sheet];
  const box = document.createElement('div');
  box.innerHTML = html;
  shadow.append(box);
  return (data, setStateValue = () => {}) => module.default({ data, parentElement: box, setStateValue });
}
