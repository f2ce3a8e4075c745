// Mounts the components of `web/`, which the dashboard uses too, each in a shadow root with its own style sheet.
import { ROOT } from './address.js';

const text = async (name) => {
  const answer = await fetch(new URL(`web/${name}`, ROOT), { credentials: 'omit', cache: 'no-cache' });
  if (!answer.ok) throw new Error(`web/${name} is not on this site (status ${answer.status}).`);
  return answer.text();
};

export async function component(name, host) {
  const [html, css, module] = await Promise.all([text(`${name}.html`), text(`${name}.css`), import(new URL(`web/${name}.js`, ROOT).href)]);
  const shadow = host.attachShadow({ mode: 'open' }), sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  shadow.adoptedStyleSheets = [sheet];
  const box = document.createElement('div');
  box.innerHTML = html;
  shadow.append(box);
  return (data, setStateValue = () => {}) => module.default({ data, parentElement: box, setStateValue });
}
