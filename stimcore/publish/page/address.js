// The page's address holds its state, in the dashboard's grammar: ?experiment=&methods=&methods=&spec=&recalibrate=&guess_first=&view=&lang=
export const ROOT = new URL('../', import.meta.url);
export const asked = () => new URLSearchParams(location.search);
export const flag = (name, otherwise) => ({ true: true, false: false }[asked().get(name)] ?? otherwise);

// Changes parts of the address; null removes one, a list repeats it.
export function change(changes, replace = false) {
  const params = asked();
  for (const [name, value] of Object.entries(changes)) {
    params.delete(name);
    for (const one of value === null ? [] : [value].flat()) params.append(name, one);
  }
  const text = params.toString();
  history[replace ? 'replaceState' : 'pushState'](null, '', text ? `?${text}` : location.pathname);
}

// The address of another page with what all pages share.
export function link(folder, changes = {}) {
  const params = new URLSearchParams(), now = asked();
  for (const name of ['experiment', 'methods', 'view', 'lang']) for (const value of now.getAll(name)) params.append(name, value);
  for (const [name, value] of Object.entries(changes)) params.set(name, value);
  const text = params.toString();
  return new URL(folder ? `${folder}/` : './', ROOT).href + (text ? `?${text}` : '');
}
