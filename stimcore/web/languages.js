// A link to the page in every language. A plain click reports the language, so that the visitor keeps what no address holds: the
// open step of the lesson, undo, revealed guesses. Other clicks open or copy the address, as with any link.
export default function ({ data, parentElement, setTriggerValue }) {
  const nav = parentElement.querySelector('nav');
  nav.setAttribute('aria-label', data.label);
  // Links stay, so that the one that was clicked keeps the focus.
  while (nav.children.length < data.links.length) nav.append(document.createElement('a'), ' ');
  data.links.forEach(({ code, name, address, current }, i) => {
    const link = nav.children[i];
    Object.assign(link, { href: address, lang: code, textContent: name });
    link.toggleAttribute('aria-current', current);
    if (current) link.setAttribute('aria-current', 'true');
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      setTriggerValue('language', code);
    };
  });
}
