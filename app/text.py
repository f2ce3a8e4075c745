"""Words and numbers as every page writes them."""

import math
import re


def plain(text: str) -> str:
    r"""Return a text from outside so that Markdown shows it as it is: no links, pictures or formulas.

    Example:
        >>> print(plain("[a](b)"))
        \[a\](b)
    """
    return re.sub(r"([\\`*_\[\]<>$:~#|])", r"\\\1", text)


def as_sentence(error: Exception) -> str:
    r"""Return what an error says as a sentence of its own on a page: it begins with a capital unless it begins with a name.

    Args:
        error: Its text may come from outside.

    Example:
        >>> print(as_sentence(ValueError("the answer was late. Try [again].")))
        The answer was late. Try \[again\].
        >>> print(as_sentence(ValueError("main.onnx is missing.")))
        main.onnx is missing.
    """
    text = str(error)
    first = text.partition(" ")[0]
    return plain(text[0].upper() + text[1:] if first.isalpha() else text)


def code(text: str) -> str:
    """Return a text from outside as a span of code: its fence is longer than any in the text.

    Example:
        >>> code("a*b"), code("a`b")
        ('`a*b`', '`` a`b ``')
    """
    runs = [len(run) for run in re.findall("`+", text)]
    if not runs:
        return f"`{text}`"
    fence = "`" * (max(runs) + 1)
    return f"{fence} {text} {fence}"


def images(count: int) -> str:
    """Return a number of images in words.

    Example:
        >>> images(10_000), images(1)
        ('10,000 images', '1 image')
    """
    return f"{count:,} image{'' if count == 1 else 's'}"


def three_digits(value: float) -> str:
    """Return a number with three significant digits, or all digits before the point where it has more; never as a power of ten.

    Example:
        >>> three_digits(0.51234), three_digits(4089.2)
        ('0.512', '4,089')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def change(points: float) -> str:
    """Return a change of accuracy with its sign.

    Example:
        >>> change(-1.25), change(0.01)
        ('-1.2 points', 'no change')
    """
    return "no change" if abs(points) < 0.05 else f"{points:+.1f} points"


def nats(value: float) -> str:
    """Return a number of nats, which may be astronomically large.

    Example:
        >>> nats(1.2345), nats(1e43)
        ('1.23', '10^43')
    """
    if math.isinf(value):
        return "beyond any number"
    return f"{value:.3g}" if abs(value) < 1e5 else f"10^{math.log10(value):.0f}"
