"""The button that copies the address of what is on the screen; an inline component, because only the browser may."""

from pathlib import Path

from app.inline import inline

_HTML = """<button type="button">Copy link</button>
<label hidden>Copy this link: <input readonly aria-label="Link to this view"></label>
<span class="heard" aria-live="polite"></span>
"""
_component = inline(Path(__file__).parent, _HTML)


def copy_link(experiment: str) -> None:
    """Draws the button.

    Args:
        experiment: Stands in every copied link, so that it means the same where the list of experiments begins with another.
    """
    _component(key="copy_link", data={"experiment": experiment})
