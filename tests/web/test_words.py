"""The texts: every one exists in every language, with the same names in braces, and nothing asks for one that doesn't exist."""

import doctest
import re
from pathlib import Path

import pytest

from stimcore.figures.style import NAMED, STYLES
from stimcore.nets import adapters, probe
from stimcore.web import words
from stimcore.web.lesson import REPLIES, lesson
from stimcore.web.words import ENGLISH, LANGUAGES, choose, read_table, words_of
from tests.app.networks import EVERY_NETWORK

ROOT = Path(__file__).parents[2]
OTHERS = LANGUAGES[1:]
FIELD = re.compile(r"\{\w*\}|%d")
SAME = {
    "de": {"page.experiment", "edit.all", "finding.next", "damage.block"},
    "fr": {"number.one_image", "number.many_images", "page.pages", "edit.all"},
    "es": {"edit.all", "finding.next"},
    "zh": {"number.decimal", "number.group"},
}
"""What a language writes as English does."""


def test_examples() -> None:
    outcome = doctest.testmod(words)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("code", OTHERS)
def test_every_text_exists_in_every_language(code: str) -> None:
    table, english = read_table(code), read_table("en")
    assert set(table) == set(english)
    for name, text in english.items():
        assert sorted(FIELD.findall(table[name])) == sorted(FIELD.findall(text)), name
        assert table[name].count("**") == text.count("**"), name
        assert table[name].count("**") % 2 == 0, name
    assert {name for name in english if table[name] == english[name]} == SAME[code]


@pytest.mark.parametrize("code", ["en", *OTHERS])
def test_what_is_bold_is_so_for_markdown(code: str) -> None:
    """Two stars between a mark and a letter neither open nor close (CommonMark, left- and right-flanking runs)."""
    for name, text in read_table(code).items():
        pieces = text.split("**")
        for number, bold in enumerate(pieces[1::2]):
            before, after = pieces[2 * number], pieces[2 * number + 2]
            opens = bold[:1].isalnum() or not before[-1:].isalnum()
            closes = bold[-1:].isalnum() or not after[:1].isalnum()
            assert opens, (name, bold)
            assert closes, (name, bold)


def test_a_missing_text_is_shown_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"en": {"a.one": "one", "a.two": "two"}, "de": {"a.one": "eins"}}
    monkeypatch.setattr(words, "read_table", tables.__getitem__)
    german = words_of.__wrapped__("de")
    assert [german.say("a.one"), german.say("a.two")] == ["eins", "two"]


def test_every_text_that_is_asked_for_exists_and_every_one_is_asked_for() -> None:
    files = [*ROOT.glob("app/**/*.py"), *ROOT.glob("stimcore/**/*.py"), *ROOT.glob("stimcore/publish/page/*.js")]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in files)
    sections = "|".join({name.partition(".")[0] for name in ENGLISH.table})
    asked = set(re.findall(rf"['\"`]((?:{sections})\.(?!js|html)\w+)['\"`]", sources))
    # names that are put together, and those of the components, which get their whole section
    asked |= {f"lesson.{name}{ending}" for name in REPLIES for ending in ("", "_reply")}
    for topology in EVERY_NETWORK:
        for step in lesson(topology):
            asked |= {f"lesson.{step.name}_title", f"lesson.{step.variant or step.name}"}
            asked |= {f"edit.{step.edit.name}"} if step.edit else set()
    for name in ("diagram", "lanes", "wall", "link"):
        script = (ROOT / "stimcore" / "web" / f"{name}.js").read_text(encoding="utf-8")
        used = set(re.findall(r"words\.(\w+)|words\('(\w+)'|\? '(\w+)' : '(\w+)'", script))
        asked |= {f"{name}.{key}" for keys in used for key in keys if key in ENGLISH.section(name)}
    composed = {f"break_it.{name}" for name in ("on_processor", "on_gpu", "here")}
    composed |= {
        f"page.{name}" for name in ("to_content", "loading", "no_script", "break_it", "subnetworks", "damage", "use_it")
    }
    asked |= composed | {name for name in ENGLISH.table if name.startswith(("term.", "number."))}
    assert asked <= set(ENGLISH.table)
    assert set(ENGLISH.table) - asked == set()


def test_the_words_of_bundles_are_known() -> None:
    german = words_of("de")
    for label in (*(style.label for style in STYLES.values()), *NAMED.values()):
        assert german.term(label) != label
    reasons = set()
    for module in (adapters, probe):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        reasons |= set(re.findall(r"(it (?:changes|has no)[^\"'\n]*skip path around it)", source))
    assert len(reasons) >= 3
    for reason in reasons:
        assert german.term(reason) != reason


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (("de",), "de"),
        (("de-CH", "fr"), "de"),
        (("xx", "fr_CA"), "fr"),
        ((None, "ZH-TW"), "zh"),
        (("", "pt"), "en"),
        ((), "en"),
    ],
)
def test_the_first_language_that_there_are_texts_in(wanted: tuple[str | None, ...], code: str) -> None:
    assert choose(*wanted) == code


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_first_step_of_the_lesson_says_which_button_shows_the_whole_network(code: str) -> None:
    """The page opens on a state with blocks gone: without a click, one of the copies does badly."""
    words = words_of(code)
    assert words.say("edit.show_full") in words.say("lesson.team", blocks=9)
