// Mounts the components of `web/`, which the dashboard uses too, each in a shadow root with its own style sheet.
let templates = {};
export const useTemplates = (known) => { templates = known; };

// Puts a component into an element; returns the function that draws it.
export function mounted(draw, name, host) {
  const { html, css } = templates[name], shadow = host.attachShadow({ mode: 'open' }), sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  shadow.adoptedStyleSheets = [sheet];
  const box = document.createElement('div');
  box.innerHTML = html;
  shadow.append(box);
  return (data, setStateValue = () => {}) => draw({ data, parentElement: box, setStateValue });
}
