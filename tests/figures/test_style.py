"""One style per method, legible on both themes and apart without colour."""

import math

import plotly.graph_objects as go
import pytest

from stimcore.analysis.networks import METHOD_ORDER
from stimcore.figures.style import NAMED, OTHER, STYLES, VARIANTS, method_style, variant
from stimcore.web.words import LANGUAGES, words_of


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return math.fsum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("ground", ["#FFFFFF", "#191817"])
def test_colors_are_legible_on_both_themes(ground: str) -> None:
    for style in STYLES.values():
        high, low = sorted((luminance(style.color), luminance(ground)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, style.label


def test_methods_are_apart_by_color_symbol_and_dash() -> None:
    for key in ("label", "color", "symbol", "glyph", "dash"):
        assert len({getattr(style, key) for style in STYLES.values()}) == len(STYLES), key


def test_styles_stand_in_the_one_order_of_methods() -> None:
    assert tuple(STYLES) == METHOD_ORDER


@pytest.mark.parametrize(
    ("method", "name", "label"),
    [
        ("common", "common", "Common training"),
        ("common", "", "Common training"),
        ("stimulative", "stimulative-lambda5", "Stimulative training (λ = 5)"),
        ("stimulative", "stimulative-labels", "Stimulative, from labels"),
        ("stochastic_depth", "stochastic_depth-0.5", "Stochastic depth (p = 0.5)"),
        ("common", "common-epochs78", "Common training (78 epochs)"),
        ("common", "common-epochs2-lambda0.5", "Common training (epochs2-lambda0.5)"),
        ("imported", "my_weights", "my weights"),
        ("my_own", "", "my own"),
        ("my_methods:Mixed_up", "", "Mixed_up"),
        ("my_methods:Mixed_up", "Mixed_up", "Mixed_up"),
        ("my_methods:Mixed_up", "Mixed_up-share_of-0.25", "Mixed_up (share_of-0.25)"),
        ("my_methods:Mixed_up", "mine", "Mixed_up (mine)"),
    ],
)
def test_a_label_names_method_and_bundle(method: str, name: str, label: str) -> None:
    assert method_style(method, name).label == label


@pytest.mark.parametrize("label", NAMED.values())
@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_ways_to_train_have_a_name_in_every_language(label: str, language: str) -> None:
    assert words_of(language).term(label) != label


def test_bundles_of_one_method_share_its_color_alone() -> None:
    base = STYLES["stimulative"]
    assert variant(base, 0) is base
    others = [variant(base, number) for number in range(1, len(VARIANTS))]
    assert {style.color for style in others} == {base.color}
    assert len({(style.symbol, style.dash) for style in [base, *others]}) == len(VARIANTS)


def test_second_bundles_of_two_methods_are_apart_without_color() -> None:
    """Of stimulative training on any block and stochastic depth with another survival, for example."""
    seconds = [variant(style, number) for style in [*STYLES.values(), OTHER] for number in (0, 1, 2)]
    assert len({style.symbol for style in seconds}) == len({style.glyph for style in seconds}) == len(seconds)
    for style in [*STYLES.values(), OTHER]:
        assert len({variant(style, number).dash for number in (0, 1, 2)}) == 3, style.label
        go.Scatter(marker_symbol=[variant(style, number).symbol for number in range(8)])  # plotly refuses unknown symbols


def test_unlisted_methods_share_one_style() -> None:
    assert method_style("my_own").color == OTHER.color
