"""A browser component: the HTML, CSS and JavaScript files of one name in this package. There is no build step."""

from dataclasses import dataclass
from importlib.resources import files

NAMES = ("diagram", "lanes", "languages", "link", "wall")
"""The components of this package."""


@dataclass(frozen=True)
class Component:
    """What a page needs to draw a component.

    Attributes:
        name: Name of its files.
        html: What the script finds when it starts.
        css: Its style sheet. It uses the custom properties of Streamlit's themes (`--st-text-color` and others), so that a page
            without Streamlit has to define them.
        js: An ES module. Its default export is called with `{data, parentElement, setStateValue, setTriggerValue}` at the start
            and whenever `data` changes; `data` is the value of the component's `payload` function.
    """

    name: str
    html: str
    css: str
    js: str

    @classmethod
    def load(cls, name: str) -> "Component":
        """Return one of `NAMES`, read from the files `NAME.html`, `NAME.css` and `NAME.js`.

        Example:
            >>> Component.load("lanes").html.splitlines()[0]
            '<div class="lanes" role="img"></div>'
        """
        html, css, js = (
            (files("stimcore.web") / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
        )
        return cls(name, html, css, js)
