"""The page `docs/compression.md`, made from what `bench compress` wrote into `docs/measurements/compress.json`.

    python -m stimcore.bench compress --work DIR --torch-pruning PYTHON --json docs/measurements/compress.json
    python -m stimcore.bench.compress.page

Every figure and every comparison on the page is read from that file; without it the page says how to measure.
"""

import json
import statistics
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stimcore import cli
from stimcore.bench.choices import COMPRESS_SLACK, COMPRESS_WAYS
from stimcore.bench.performance import FOLDER

FILE, PAGE = FOLDER / "compress.json", Path("docs/compression.md")
HEAD = """# Does it pay?

You need a small network that answers within some time. Four ways lead to one:

- **trained alone**: the small network is built and trained from random weights.
- **pruned**: a larger network is trained the common way, loses channels until it is as fast
  ([Torch-Pruning](https://github.com/VainF/Torch-Pruning), the same share of every layer, those with the smallest weights), and
  is fine-tuned.
- **as extracted**: the larger network is trained the stimulative way, and the small one is cut out of it; its batch norms are
  re-calibrated. One training leads to all sizes, and to the larger network.
- **extracted and fine-tuned**: the same, and then common training goes on for the small one alone
  (`python -m stimcore.train resnet20-fashion --method common --init RUN_DIR --spec d1-1-1`).

This page is made by `python -m stimcore.bench.compress.page` from what this command measured:

```console
$ python -m venv tp && tp/bin/pip install torch-pruning
$ python -m stimcore.bench compress --work DIR --torch-pruning tp/bin/python --json docs/measurements/compress.json
```

It keeps every finished step in the folder `--work` and goes on there; `--runs DIR` takes trainings that are finished already.
"""
OTHER_WORK = 0.5
"""Processes that want to run, per core, from which on the page says that other work shared the machine."""
UNMEASURED = "\nIt was not measured yet.\n"


def render(report: Mapping[str, Any] | None) -> str:
    """Return the page.

    Args:
        report: What `bench compress` wrote; None where it was not run.
    """
    if report is None:
        return HEAD + UNMEASURED
    ways: Sequence[str] = report["ways"]
    lines = [HEAD.rstrip(), *_conditions(report), "", "## What each way leads to", ""]
    lines += [
        "| size | way | accuracy, % | minus trained alone, points | one image | 32 images | file, kB | memory, MB |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [_row(report, "main", way, f"main network, {way} training") for way in ("common", "stimulative")]
    lines += [_row(report, size, way, COMPRESS_WAYS[way]) for size in report["sizes"] for way in ways]
    lines += ["", "## What each way costs", ""]
    lines += [f"| way | {' | '.join(report['sizes'])} | all {len(report['sizes'])} together |"]
    lines += ["| --- |" + " ---: |" * (len(report["sizes"]) + 1)]
    for way in ways:
        times = report["training_s"][way]
        cells = " | ".join(f"{times[size]:,.0f} s" for size in (*report["sizes"], "all"))
        lines.append(f"| {COMPRESS_WAYS[way]} | {cells} |")
    lines += _wrapped(
        "Processor time of all training steps that lead there, without evaluations. Every way but the first leads to the "
        "larger network as well."
    )
    lines += ["", "## In short", ""]
    for sentence in sentences(report):
        lines += textwrap.wrap(f"- {sentence}", 140, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _conditions(report: Mapping[str, Any]) -> list[str]:
    """Return what was measured, where and how often."""
    machine, tuning = report["machine"], report["fine_tuning"]
    seeds = f"seed {report['seeds'][0]}" if report["n"] == 1 else f"{report['n']} seeds"
    over = "over images, differences paired image by image" if report["n"] == 1 else "over seeds, differences paired by seed"
    busy = report.get("load", 0.0) > OTHER_WORK
    lines = []
    if report["quick"]:
        lines += ["**Tiny sizes (`--quick`): whether everything runs, no figures to quote.**"]
    each = "all" if report["train_images"] is None else report["train_images"]
    lines += _wrapped(
        f"Network {report['network']}, recipe `{report['recipe']}` ({each} training images per class, {report['epochs']} "
        f"epochs), {seeds}, {report['images']:,} test images. Both fine-tunings run {tuning['epochs']} epochs with a peak rate "
        f"of {tuning['learning_rate']:g}; neither rate, epochs nor sizes were chosen by test images. Intervals cover 95% "
        f"({over})."
    )
    turns = report["turns"]
    lines += _wrapped(
        f"Times are those of the ONNX files in onnxruntime with one thread, over the time of the commonly trained main "
        f"network (medians of {turns['batch1']} turns for one image and {turns['batch32']} for 32, in which all networks of a "
        f"seed follow each other); memory is what a session adds to a process of its own (median of 3). "
        f"{machine['cores']} cores of {machine['device']}{', shared with other work' if busy else ''}."
    )
    if not report["pruned"]:
        return lines + _wrapped("Pruned networks were left out: the command was run without `--torch-pruning`.")
    parts = [
        f"for `{size}` {100 * row['ratio']:.0f}% of the channels go"
        + (f", what is left is a multiple of {row['round_to']}" if row["round_to"] > 1 else "")
        for size, row in report["pruned"].items()
    ]
    lines += _wrapped(
        f"Of all shares and multiples that were tried (Torch-Pruning {machine.get('torch_pruning', '')}) and that every layer "
        f"lost alike, the one was taken that leaves most operations within {100 * (COMPRESS_SLACK - 1):.0f}% of the "
        f"sub-network's time: {'; '.join(parts)}."
    )
    if slower := [size for size, row in report["pruned"].items() if row["over_size"] > COMPRESS_SLACK]:
        names = ", ".join(f"`{size}` ({report['pruned'][size]['over_size']:.2f} times)" for size in slower)
        lines += _wrapped(f"No share was fast enough for {names}: the fastest one was taken there.")
    return lines


def _wrapped(text: str) -> list[str]:
    """Return a paragraph in lines of the length that the documentation has, and an empty line before it."""
    return ["", *textwrap.wrap(text, 140, break_long_words=False, break_on_hyphens=False)]


def _row(report: Mapping[str, Any], size: str, way: str, name: str) -> str:
    """Return one line of the table: means over seeds of all that has no interval."""
    rows = [row for row in report["rows"] if (row["size"], row["way"]) == (size, way)]
    gap = next((d for d in report["differences"] if (d["size"], d["way"], d["minus"]) == (size, way, "alone")), None)
    mean = {
        key: statistics.mean(row[key] for row in rows)
        for key in ("batch1_over_main", "batch32_over_main", "bytes", "memory_mb")
    }
    return (
        f"| {'' if size == 'main' else f'`{size}`'} | {name} | {_interval(report['accuracy'][size][way])} | "
        f"{'' if gap is None else _interval(gap)} | {mean['batch1_over_main']:.2f} | {mean['batch32_over_main']:.2f} | "
        f"{mean['bytes'] / 1e3:,.0f} | {mean['memory_mb']:.1f} |"
    )


def sentences(report: Mapping[str, Any]) -> list[str]:
    """Return what the figures say, one sentence for every comparison."""
    sizes, lines = list(report["sizes"]), []
    for way in [way for way in report["ways"] if way != "alone"]:
        words = [_compared(d) for d in report["differences"] if (d["way"], d["minus"]) == (way, "alone")]
        lines.append(f"{COMPRESS_WAYS[way].capitalize()}, beside trained alone: {'; '.join(words)}.")
    for way in [way for way in ("extracted", "tuned") if "pruned" in report["ways"]]:
        words = [_compared(d) for d in report["differences"] if (d["way"], d["minus"]) == (way, "pruned")]
        lines.append(f"{COMPRESS_WAYS[way].capitalize()}, beside pruned: {'; '.join(words)}.")
    alone, stimulative = report["training_s"]["alone"], report["training_s"]["extracted"]["all"]
    single = ", ".join(f"{alone[size] / stimulative:.2f} for `{size}`" for size in sizes)
    lines.append(
        f"Training one small network alone takes this share of the processor time of stimulative training: {single}; "
        f"all {len(sizes)} together take {alone['all'] / stimulative:.2f}."
    )
    return lines


def _compared(difference: Mapping[str, Any]) -> str:
    """Return a difference in words; it is one where its interval leaves zero out."""
    clear = difference["low"] > 0 or difference["high"] < 0
    verdict = "" if clear else ", no difference that can be shown"
    return (
        f"`{difference['size']}` {difference['value']:+.2f} points [{difference['low']:.2f}, {difference['high']:.2f}]{verdict}"
    )


def _interval(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def main(file: Path = FILE, page: Path = PAGE) -> None:
    """Write the page."""
    report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    page.write_text(render(report), encoding="utf-8")


if __name__ == "__main__":
    main()
    sys.exit(cli.DONE)
