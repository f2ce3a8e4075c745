"""Joining modules: what the style of the page's scripts allows is joined, anything else is refused instead of lost."""

import pytest

from stimcore.publish.scripts import joined


@pytest.mark.parametrize(
    "line",
    [
        "import { a as b } from './a.js';",
        "import a, { b } from './a.js';",
        "import './a.js';",
        "import { a } from './a.js'; const b = 1;",
        "export let b = 1;",
        "export { b };",
        "export default 1;",
        "export * from './a.js';",
    ],
)
def test_other_forms_are_refused(line: str) -> None:
    files = {"a.js": b"export const a = 1;\n", "b.js": f"{line}\n".encode()}
    with pytest.raises(ValueError, match="can't be joined"):
        joined(files, "b.js")


def test_a_circle_is_refused() -> None:
    files = {"a.js": b"import * as b from './b.js';\n", "b.js": b"import * as a from './a.js';\n"}
    with pytest.raises(ValueError, match="in a circle: a.js -> b.js -> a.js"):
        joined(files, "a.js")


def test_a_module_comes_once_and_after_those_that_it_imports() -> None:
    files = {
        "page/a.js": b"import { b } from './b.js';\nimport d from '../web/d.js';\nd(b);\n",
        "page/b.js": b"import * as c from './c.js';\nexport const b = c.c;\n",
        "page/c.js": b"export async function c() {}\n",
        "web/d.js": b"export default function () {}\n",
    }
    text = joined(files, "page/a.js").decode()
    places = [text.index(f"{{ // {path}") for path in ("page/c.js", "page/b.js", "web/d.js", "page/a.js")]
    assert places == sorted(places)
    assert text.count("// page/c.js") == 1
    assert "const { default: d } = modules['web/d.js'];" in text
    assert "modules['web/d.js'] = { default: exported };" in text
