"""Every relative link of the documentation leads to a file that git has, its anchor to a heading; the glossary is in order."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for pattern in ("*.md", "docs/*.md", "stimcore/**/*.md") for path in ROOT.glob(pattern)
)
_FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(\s*<?([^\s<>)]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]: +<?([^\s<>]+)", re.MULTILINE)
_HEADING = re.compile(r"^ {0,3}#{1,6} +(.*?)(?: +#+)? *$", re.MULTILINE)
_TARGET = re.compile(r"<a +(?:id|name)=\"([^\"]+)\"")


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures, code left out."""
    prose = _CODE.sub("", _FENCE.sub("", text))
    return [*_LINK.findall(prose), *_DEFINITION.findall(prose)]


def anchors(text: str) -> set[str]:
    """The anchors of a page as GitHub makes them: lower case, punctuation gone, spaces to dashes, repeats numbered."""
    names: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        repeats = (f"{slug}-{number}" for number in range(1, len(names) + 1))
        names.add(slug if slug not in names else next(one for one in repeats if one not in names))
    return names | set(_TARGET.findall(text))


def problem(page: str, target: str, tracked: set[str]) -> str:
    """What is wrong with a link of a page; empty where it is fine or leads out of the repository."""
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return ""
    path, _, anchor = target.partition("#")
    place = (ROOT / page).parent / path if path else ROOT / page
    try:
        name = place.resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return f"{target} leaves the repository"
    if name not in tracked and not any(other.startswith(f"{name}/") for other in tracked):
        return f"{target}: there is no {name}"
    if anchor and anchor not in anchors((ROOT / name).read_text(encoding="utf-8")):
        return f"{target}: {name} has no heading #{anchor}"
    return ""


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """Files that git has or would add: a link to anything else breaks in a clone."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return {name for name in listed if (ROOT / name).exists()}


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str, tracked: set[str]) -> None:
    targets = links((ROOT / page).read_text(encoding="utf-8"))
    assert [complaint for target in targets if (complaint := problem(page, target, tracked))] == []


def test_the_pages_have_links_to_check() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/semantics.md"} <= set(PAGES)
    assert len(links((ROOT / "README.md").read_text(encoding="utf-8"))) >= 5


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("docs/networks.md#the-catalogue", ""),
        ("docs/", ""),
        ("https://example.org/nowhere", ""),
        ("docs/nothing.md", "there is no docs/nothing.md"),
        ("docs/networks.md#nothing", "has no heading #nothing"),
        ("../outside.md", "leaves the repository"),
        (".venv/ready", "there is no .venv/ready"),
    ],
)
def test_a_broken_link_is_found(target: str, expected: str, tracked: set[str]) -> None:
    complaint = problem("README.md", target, tracked)
    assert expected in complaint
    assert bool(expected) == bool(complaint)


def test_anchors_are_those_of_github() -> None:
    text = "# A `code` heading, twice!\n```\n# no heading\n```\n## A `code` heading, twice!\n### snake_case & more\n"
    assert anchors(text) == {"a-code-heading-twice", "a-code-heading-twice-1", "snake_case--more"}


def test_links_in_code_are_not_links() -> None:
    text = '[one](a.md) `[two](b.md)`\n\n```\n[three](c.md)\n```\n![four](d.png "title")\n[![five](e.png)](f.md)\n[six]: g.md\n'
    assert sorted(links(text)) == ["a.md", "d.png", "e.png", "f.md", "g.md"]


def test_the_glossary_is_alphabetical_and_complete() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")][2:]
    terms = [term for term, _, _ in rows]
    assert terms == sorted(set(terms), key=str.lower)
    assert all(meaning.endswith((".", ".)")) and re.search(r"`[a-z.]+`", where) for _, meaning, where in rows)


def test_docstrings_cite_sections_that_exist() -> None:
    headings = set(_HEADING.findall((ROOT / "docs/semantics.md").read_text(encoding="utf-8")))
    sources = [path.read_text(encoding="utf-8") for folder in ("stimcore", "app") for path in (ROOT / folder).rglob("*.py")]
    cited = {" ".join(name.split()) for text in sources for name in re.findall(r"docs/semantics\.md,\s+\"([^\"]+)\"", text)}
    assert cited
    assert cited <= headings
