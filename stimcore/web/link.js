// Copies the page's address. Browsers allow that on https and localhost only; elsewhere the address is shown, selected.
const SHOWN_MS = 2500;

export default function ({ data, parentElement }) {
  const [button, label, input, heard] = ['button', 'label', 'input', '.heard'].map((q) => parentElement.querySelector(q));
  const { words } = data;
  if (button.textContent !== words.copied) button.textContent = words.copy; // called again while it says that the link is copied
  button.dataset.copy = words.copy;
  label.querySelector('span').textContent = words.label;
  input.setAttribute('aria-label', words.name);
  // The browser's button Back led to an address that has lost its network. In place, so that Forward stays possible.
  const here = new URL(location.href);
  if (data.spec && !here.searchParams.has('spec')) {
    here.searchParams.set('spec', data.spec);
    history.replaceState(history.state, '', here);
  }
  const address = () => {
    const url = new URL(location.href);
    url.searchParams.set('experiment', data.experiment);
    // A link to localhost opens nothing on another machine.
    if (data.address && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname)) {
      return new URL(data.address).origin + url.pathname + url.search + url.hash;
    }
    return url.href;
  };
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(address());
      label.hidden = true;
      button.textContent = words.copied;
      heard.textContent = words.copied_heard;
      setTimeout(() => { button.textContent = button.dataset.copy; heard.textContent = ''; }, SHOWN_MS);
    } catch {
      label.hidden = false;
      input.value = address();
      input.focus();
      input.select();
      heard.textContent = words.selected_heard;
    }
  };
  input.onkeydown = (event) => {
    if (event.key === 'Escape') { label.hidden = true; button.focus(); }
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // Streamlit binds r, c and Escape on the document
  };
}
