// Draws the same pictures once per method: in the method's colour where its answer is right, greyed with the wrong answer under it
// elsewhere. Pointing at a picture, or moving the focus to it, says what each method answers and how sure it is.
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const make = (tag, name, text = '') => Object.assign(document.createElement(tag), { className: name, textContent: text });
const short = (name) => name.split(/[/,]/)[0].trim(); // 'T-shirt/top' does not fit under a picture
const percent = (share) => Math.round(100 * share);

export default function ({ data, parentElement }) {
  const wall = parentElement.querySelector('.wall'), says = parentElement.querySelector('.says');
  const say = (index) => {
    wall.querySelectorAll('button').forEach((button) => button.classList.toggle('shown', Number(button.dataset.picture) === index));
    if (index === null) { says.textContent = data.words.usual; return; }
    const answers = data.methods.map((method) => fill(data.words.sure, { method: method.name, answer: data.classes[method.classes[index]], share: percent(method.confidence[index]) }));
    says.textContent = `${fill(data.words.this_is, { name: data.classes[data.pictures[index].label] })} ${answers.join(' ')}`;
  };

  const picture = (method, index) => {
    const one = data.pictures[index], right = method.classes[index] === one.label, answer = data.classes[method.classes[index]];
    const button = make('button', right ? '' : 'wrong'), frame = make('span', data.tinted ? 'frame tinted' : 'frame'), image = make('img', '');
    button.type = 'button';
    button.dataset.picture = index;
    button.tabIndex = index ? -1 : 0; // one stop of the Tab key per method; arrow keys walk along the pictures
    button.setAttribute('aria-label', fill(right ? data.words.right : data.words.wrong, { name: data.classes[one.label], answer }));
    image.src = 'data:image/png;base64,' + one.png;
    image.alt = '';
    frame.append(image);
    button.append(frame, make('span', 'answer', right ? '' : short(answer)));
    button.onpointerenter = button.onfocus = button.onclick = () => say(index);
    button.onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const next = step && [...button.parentElement.children][index + step];
      if (next) { event.preventDefault(); button.tabIndex = -1; next.tabIndex = 0; next.focus(); }
      if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // Streamlit binds r, c and Escape on the document
    };
    return button;
  };

  const group = (method) => {
    const box = make('div', 'group'), title = make('div', 'method'), pictures = make('div', 'pictures'), mark = make('span', 'glyph', method.glyph);
    const right = data.pictures.filter((one, i) => method.classes[i] === one.label).length;
    mark.style.color = method.color;
    mark.setAttribute('aria-hidden', 'true');
    box.style.setProperty('--method', method.color);
    pictures.setAttribute('role', 'group');
    pictures.setAttribute('aria-label', fill(data.words.answers, { method: method.name, count: data.pictures.length }));
    title.append(mark, make('span', '', method.name), make('span', 'count', fill(data.words.count, { right, count: data.pictures.length })));
    pictures.append(...data.pictures.map((_, index) => picture(method, index)));
    box.append(title, pictures);
    return box;
  };

  wall.replaceChildren(...data.methods.map(group));
  wall.onpointerleave = () => say(null);
  say(null);
}
