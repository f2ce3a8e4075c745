"""Texts and numbers in the languages of the dashboard and the published page.

The table of a language is `text/CODE.toml`: sections of templates with names in braces, as Markdown. What a language lacks is
shown in English.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

LANGUAGES = ("en", "de", "fr", "es", "zh")
"""Codes of the languages, ISO 639-1."""
MAX_NAMED = 3
"""Methods that one sentence can name; of more it names the one that does best and the one that does worst."""


@dataclass(frozen=True, eq=False)
class Words:
    """The texts of one language.

    Attributes:
        code: Its ISO 639-1 code.
        table: `section.name` -> template.
    """

    code: str
    table: Mapping[str, str]

    def say(self, name: str, /, **values: object) -> str:
        """Return a text.

        Args:
            name: Its section and name.
            values: What stands in the place of the names in braces.

        Raises:
            KeyError: There is no such text, or a value is missing.

        Example:
            >>> ENGLISH.say("edit.many_gone", gone=2, blocks=9), words_of("de").say("edit.many_gone", gone=2, blocks=9)
            ('2 of 9 blocks are gone', '2 von 9 Blöcken fehlen')
        """
        return self.table[name].format(**values)

    def section(self, name: str) -> dict[str, str]:
        """Return the templates of a section by name, for a browser component."""
        return {key.partition(".")[2]: text for key, text in self.table.items() if key.startswith(f"{name}.")}

    @cached_property
    def terms(self) -> Mapping[str, str]:
        """English words of bundles and tables -> the same in this language."""
        return {ENGLISH.table[key]: text for key, text in self.table.items() if key.startswith("term.")}

    def term(self, english: str) -> str:
        """Return a method's name, or a reason that a bundle gives, in this language; as it is where the table lacks it.

        Example:
            >>> words_of("de").term("Stimulative training (λ = 5)"), words_of("de").term("my weights")
            ('Stimulatives Training (λ = 5)', 'my weights')
        """
        known, bracket, extra = english.partition(" (")
        return self.terms.get(english) or self.terms.get(known, known) + bracket + extra

    def count(self, number: int) -> str:
        """Return a whole number with its groups of three digits apart.

        Example:
            >>> ENGLISH.count(10_000), words_of("de").count(10_000)
            ('10,000', '10.000')
        """
        return f"{number:,}".replace(",", self.table["number.group"])

    def fixed(self, value: float, digits: int) -> str:
        """Return a number with a fixed number of decimals.

        Example:
            >>> ENGLISH.fixed(52.34, 1), words_of("de").fixed(52.34, 1)
            ('52.3', '52,3')
        """
        return f"{value:.{digits}f}".replace(".", self.table["number.decimal"])

    def images(self, number: int) -> str:
        """Return a number of images in words.

        Example:
            >>> ENGLISH.images(10_000), ENGLISH.images(1)
            ('10,000 images', '1 image')
        """
        return self.say("number.one_image") if number == 1 else self.say("number.many_images", count=self.count(number))

    def finding(self, known: Sequence[tuple[str, float]], *, whole: bool, whole_pct: float | None = None) -> str:
        """Return what the methods' networks get right in one sentence, as Markdown.

        Args:
            known: Name and accuracy in [0, 100] of every method whose accuracy is known.
            whole: Whether nothing was changed in the networks.
            whole_pct: Accuracy of the full network, in [0, 100]; given where only one method is shown.

        Example:
            >>> ENGLISH.finding([("Common training", 52.3), ("Stimulative training", 89.8)], whole=False)
            'Common training: **52 of 100** pictures right. Stimulative: **90**.'
            >>> ENGLISH.finding([("Common training", 52.3)], whole=False, whole_pct=92.7)
            'Common training: **52 of 100** pictures right. Whole: **93**.'
            >>> ENGLISH.finding([], whole=True)
            'Measuring …'
        """
        if not known:
            return self.say("finding.measuring")
        if len(known) > MAX_NAMED:
            (best, most), *_, (worst, least) = sorted(known, key=lambda pair: -pair[1])
            text = self.say("finding.best", best=best, most=f"{most:.0f}", worst=worst, least=f"{least:.0f}")
        else:
            (name, value), *others = known
            text = self.say("finding.first", name=name, value=f"{value:.0f}")
            dropped = self.table["finding.dropped_word"]
            for other, pct in others:
                text += self.say("finding.next", name=other.replace(dropped, "") if dropped else other, value=f"{pct:.0f}")
        if whole_pct is not None and not whole:
            text += self.say("finding.whole", value=f"{whole_pct:.0f}")
        return self.say("finding.start", finding=text) if whole else text


def read_table(code: str) -> dict[str, str]:
    """Return the texts that the file of a language has, by section and name."""
    content = (files("stimcore.web") / "text" / f"{code}.toml").read_text(encoding="utf-8")
    return {f"{section}.{name}": str(text) for section, texts in tomllib.loads(content).items() for name, text in texts.items()}


@cache
def words_of(code: str) -> Words:
    """Return the texts of one of `LANGUAGES`."""
    return Words(code, read_table("en") | (read_table(code) if code != "en" else {}))


def choose(*wanted: str | None) -> str:
    """Return the first of some languages that there are texts in; English where there is none.

    Args:
        wanted: Codes or locales, the most wanted one first; not trusted.

    Example:
        >>> choose("xx", None, "de-AT", "fr"), choose("<b>"), choose("zh-Hans-CN")
        ('de', 'en', 'zh')
    """
    codes = ((text or "").replace("_", "-").partition("-")[0].lower() for text in wanted)
    return next((code for code in codes if code in LANGUAGES), "en")


ENGLISH = words_of("en")
