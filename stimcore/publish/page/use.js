// Use it: the best sub-networks for what they cost, as files, and what sub-networks say to a picture of the visitor's.
import { ROOT } from './address.js';
import { table } from './figures.js';
import { ownPicture } from './picture.js';
import { count, fixed, make, paragraph, say } from './text.js';

export function useIt(here, main) {
  const { data, methods } = here;
  document.body.dataset.ready = 'true';
  main.append(make('h1', '', 'Use it'), paragraph(say('lead_use_it')));
  const tables = make('div', 'two');
  main.append(tables);
  for (const method of methods) {
    const { front, unit } = method.files;
    if (!front.length) continue;
    const box = make('section');
    tables.append(box);
    box.append(make('h2', '', `${method.glyph} ${method.label}`));
    box.append(table(['File', 'Right', unit, 'Parameters'], front.map((entry) => {
      const a = make('a', '', `Download ${entry.name}`);
      a.href = new URL(`data/${encodeURIComponent(data.name)}/${encodeURIComponent(method.name)}/download/${encodeURIComponent(entry.file)}`, ROOT).href;
      a.download = entry.file;
      return [a, `${fixed(entry.accuracy, 2)} %`, fixed(entry.cost, 3), count(entry.parameters)];
    })));
  }
  main.append(paragraph('Only networks that no other one beats: every cheaper one is less accurate. Each file is a complete ONNX network with input “images” and output “logits”, and says in its metadata how pictures have to be prepared.', 'quiet'));
  main.append(make('h2', '', 'What do the sub-networks say?'));
  ownPicture(here, main);
}
