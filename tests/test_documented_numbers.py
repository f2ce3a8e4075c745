"""Pages in docs/: the accuracies that they state of committed bundles are those of the bundles, as in the README.

`STIMCORE_GOLDEN=write` with `-m golden` writes the numbers of the bundles that are there into the pages. Pages that a program
writes (results, smoke, compression, performance) are compared with the program; docs/lesson.md has its own test.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from stimcore.analysis.intervals import mean_std, wilson
from stimcore.analysis.result import Interval, Result
from stimcore.analysis.spreads import deleted_blocks, first_blocks
from stimcore.bundle import Bundle, open_bundle
from tests.golden import golden_sentences

ROOT = Path(__file__).parents[1]
DOCS, EXPORTED = ROOT / "docs", ROOT / "exported"
PCT = r"\d+\.\d\d"
INTERVAL = rf"\[{PCT}, {PCT}\]"
VIT, CONVNEXT, RESNET = "vit-tiny-fashion", "convnext-mini-fashion", "resnet20-fashion"
METHODS = ("common", "stimulative")
Promises = Iterator[tuple[str, str]]

pytestmark = pytest.mark.skipif(not EXPORTED.is_dir(), reason="exported/ is not in this checkout")


@functools.cache
def bundle(experiment: str, method: str) -> Bundle:
    """Open a committed bundle."""
    return open_bundle(EXPORTED / experiment / method, verify=False)


@functools.cache
def ordered(experiment: str, method: str) -> list[Result]:
    """Return the stored results of all ordered sub-networks."""
    sweep = bundle(experiment, method).sweep("ordered")
    assert sweep is not None
    return [Result.from_dict(row) for row in sweep["results"]]


@functools.cache
def deletions(experiment: str, method: str) -> Mapping[tuple[int, ...], Result]:
    """Return the stored results of all deletions by the blocks that are gone."""
    sweep = bundle(experiment, method).sweep("delete")
    assert sweep is not None
    results = [Result.from_dict(row) for row in sweep["results"]]
    return {deleted_blocks(bundle(experiment, method).topology, result.spec): result for result in results}


def mean(results: list[Result]) -> float:
    """Return the mean accuracy."""
    return mean_std([result.accuracy_pct for result in results])[0]


def main(experiment: str, method: str) -> float:
    """Return the accuracy of the whole network."""
    return bundle(experiment, method).main.accuracy_pct


def brackets(interval: Interval) -> str:
    """Return an interval as the pages write it."""
    return f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def of_data() -> Promises:
    """docs/data.md: the program of the README."""
    manifest = bundle(RESNET, "stimulative").manifest
    correct = manifest.networks["subnet-d1-1-1.onnx"].correct
    yield (
        r"program of the README gets [\d,]+ of the [\d,]+ Fashion-MNIST",
        f"program of the README gets {correct:,} of the {manifest.images:,} Fashion-MNIST",
    )


def of_networks() -> Promises:
    """docs/networks.md: a transformer and a ConvNeXt."""
    for network, experiment in (("vit-tiny", VIT), ("convnext-mini", CONVNEXT)):
        for method in METHODS:
            singles = {gone[0]: result for gone, result in deletions(experiment, method).items() if len(gone) == 1}
            inner = {b: r for b, r in singles.items() if b not in first_blocks(bundle(experiment, method).topology)}
            costliest = max(inner, key=lambda block: inner[block].drop_pct)
            results = ordered(experiment, method)
            smallest = min(results, key=lambda result: len(result.spec.blocks))
            numbers = f"{main(experiment, method):.2f} | {mean(results):.2f} | {smallest.accuracy_pct:.2f}"
            yield (
                rf"\| {network}, {method} \| {PCT} \| {PCT} \| {PCT} \| block \d+: {PCT} points \|",
                f"| {network}, {method} | {numbers} | block {costliest}: {inner[costliest].drop_pct:.2f} points |",
            )
    loss = {experiment: main(experiment, "common") - main(experiment, "stimulative") for experiment in (VIT, CONVNEXT)}
    yield (
        rf"with {PCT} points in the transformer and {PCT} in the ConvNeXt",
        f"with {loss[VIT]:.2f} points in the transformer and {loss[CONVNEXT]:.2f} in the ConvNeXt",
    )
    first = {(e, m): deletions(e, m)[1,].accuracy_pct for e in (VIT, CONVNEXT) for m in METHODS}
    yield (
        rf"the ConvNeXt gets {PCT} percent with common and {PCT} with stimulative training",
        f"the ConvNeXt gets {first[CONVNEXT, 'common']:.2f} percent with common and "
        f"{first[CONVNEXT, 'stimulative']:.2f} with stimulative training",
    )
    yield (
        rf"without it either way \({PCT} and {PCT}\)",
        f"without it either way ({first[VIT, 'common']:.2f} and {first[VIT, 'stimulative']:.2f})",
    )


def of_scan() -> Promises:
    """docs/scan.md: what the committed ResNet-20 loses, and the main networks that exits and 8 bits are compared with."""
    for gone, result in deletions(RESNET, "common").items():
        if len(gone) == 1 or gone in ((1, 2), (8, 9)):
            name = " and ".join(map(str, gone))
            as_trained = rf"(?=-?{PCT} {INTERVAL} \| (0\.\d{{3}} )?\|)"  # not stored; tells these rows from those of the exits
            yield (
                rf"\| {name} \| -?{PCT} {INTERVAL} \| {as_trained}",
                f"| {name} | {result.drop_pct:.2f} {brackets(result.drop_interval_pct)} | ",
            )
    yield (
        rf"main networks get {PCT} \(layer supervision\) and {PCT} \(stage supervision\)",
        f"main networks get {main(RESNET, 'layer_supervision'):.2f} (layer supervision) and "
        f"{main(RESNET, 'stage_supervision'):.2f} (stage supervision)",
    )
    before, images = bundle(RESNET, "stimulative").main, bundle(RESNET, "stimulative").manifest.images
    yield (
        rf"in 8 bits, {PCT}% {INTERVAL} before;",
        f"in 8 bits, {before.accuracy_pct:.2f}% {brackets(wilson(before.correct, images))} before;",
    )


@pytest.mark.golden
@pytest.mark.parametrize(("page", "promises"), [("data", of_data), ("networks", of_networks), ("scan", of_scan)])
def test_every_number_of_a_bundle_is_the_bundles(page: str, promises: Callable[[], Promises]) -> None:
    corrected, committed = golden_sentences(DOCS / f"{page}.md", promises())
    assert corrected == committed


def test_no_accuracy_stands_in_a_page_unwatched() -> None:
    """Percentages with two decimals of the section about loafing networks are all among those that are compared."""
    text = (DOCS / "networks.md").read_text(encoding="utf-8")
    section = text.partition("## Do they loaf?")[2].partition("\n## ")[0]
    watched = " ".join(sentence for _, sentence in of_networks())
    assert [number for number in re.findall(PCT, section) if number not in watched] == []
