// Use it: the best sub-networks for what they cost, as files, and what sub-networks say to a picture of the visitor's.
import { ROOT } from './address.js';
import { table } from './figures.js';
import { showPage } from './main.js';
import { ownPicture } from './picture.js';
import { count, fixed, make, paragraph, say, term } from './text.js';

function useIt(here, main) {
  const { data, methods } = here;
  document.body.dataset.ready = 'true';
  main.append(make('h1', '', say('page.use_it')), paragraph(say('use_it.lead')));
  const tables = make('div', 'two');
  main.append(tables);
  for (const method of methods) {
    const { front, unit } = method.files;
    if (!front.length) continue;
    const box = make('section');
    tables.append(box);
    box.append(make('h2', '', `${method.glyph} ${method.label}`));
    box.append(table([say('use_it.file'), say('use_it.right'), term(unit), say('use_it.parameters')], front.map((entry) => {
      const a = make('a', '', say('use_it.download', { name: entry.name }));
      a.href = new URL(`data/${encodeURIComponent(data.name)}/${encodeURIComponent(method.name)}/download/${encodeURIComponent(entry.file)}`, ROOT).href;
      a.download = entry.file;
      return [a, `${fixed(entry.accuracy, 2)} %`, fixed(entry.cost, 3), count(entry.parameters)];
    })));
  }
  main.append(paragraph(say('use_it.note'), 'quiet'));
  main.append(make('h2', '', say('picture.title')));
  ownPicture(here, main);
}

showPage(useIt);
