"""The model card of an experiment: `README.md`, written from the manifests of its methods."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from stimcore.analysis.intervals import wilson
from stimcore.bundle.bundle import Bundle
from stimcore.bundle.experiment import Experiment
from stimcore.bundle.opening import open_experiment, open_folder
from stimcore.bundle.store import apply_update
from stimcore.data.program import classify_program
from stimcore.subnets.families import count

FILE = "README.md"
INDEX = "standalone/index.json"
"""The list of self-contained files in the folder of a bundle."""


def write_card(path: Path) -> None:
    """Write the model card of an experiment where it differs from the one that is there. The caller holds the experiment.

    Args:
        path: `exported/EXPERIMENT`, of version 2.

    Raises:
        BundleError: A manifest is broken.
    """
    experiment = open_experiment(path)
    bundles = [open_folder(path / method) for method in experiment.methods]
    text = card(experiment, bundles).encode()
    if FILE not in experiment.hashes or not (path / FILE).is_file() or (path / FILE).read_bytes() != text:
        apply_update(path, {FILE: text})


def card(experiment: Experiment, bundles: Sequence[Bundle]) -> str:
    """Return the model card in Markdown.

    Args:
        experiment: The experiment.
        bundles: Its methods.
    """
    topology, shape = experiment.topology, " x ".join(map(str, experiment.image_shape))
    ordered = count(topology, "ordered")
    licence = experiment.licence or "unknown"
    sections = [
        f"# {_escape(experiment.name)}",
        f"{_escape(topology.network)} on {_escape(experiment.dataset)}: {len(experiment.classes)} classes, images of {shape} "
        f"(channels, height, width), {topology.num_blocks} blocks in {len(topology.stages)} stages, {ordered:,} ordered "
        f"sub-networks, {len(topology.removable)} blocks that can be deleted. Written by stimcore; `docs/bundle.md` of that "
        "project describes every file.",
        "## Networks",
        _table(bundles),
        "Accuracy is that of the main network in onnxruntime after re-calibration of its batch norms, on all evaluation images "
        "of this folder, with its 95% interval over images (Wilson). It is the accuracy after the last epoch: no epoch was "
        "chosen by it. *Parity* is the largest difference of logits between torch and onnxruntime over all listed networks, "
        "divided by the largest logit.",
        *_checks(bundles),
        *_notes(bundles),
        *_quantised(bundles),
        *_exits(bundles),
        "## Use",
        _usage(experiment, bundles),
        "## Data",
        f"`evaluation.npz` and `calibration.npz` hold images of {_escape(experiment.dataset)}. Their licence: "
        f"{_escape(licence)}.",
    ]
    return "\n\n".join(sections) + "\n"


def _table(bundles: Sequence[Bundle]) -> str:
    rows = ["| folder | method | seed | label | accuracy | n | listed networks | parity |", "|" + " --- |" * 8]
    for bundle in bundles:
        manifest = bundle.manifest
        low, high = wilson(bundle.main.correct, manifest.images)
        parity = max(entry.parity for entry in manifest.networks.values())
        accuracy = f"{bundle.main.accuracy_pct:.2f}% [{low:.2f}, {high:.2f}]"
        cells = [f"`{bundle.method}`", _escape(manifest.method), str(manifest.seed), _escape(manifest.label), accuracy]
        cells += [f"{manifest.images:,}", str(len(manifest.networks)), f"{parity:.1e}"]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _checks(bundles: Sequence[Bundle]) -> list[str]:
    """Return the paragraph on networks that were compared with torch on a part of the images; nothing where there are none."""
    sampled = [bundle for bundle in bundles if bundle.manifest.check == "sampled"]
    if not sampled:
        return []
    counts = ", ".join(
        f"`{bundle.method}` on {bundle.manifest.checked_images:,} of {bundle.manifest.images:,} images" for bundle in sampled
    )
    return [
        f"Networks of these folders were *sampled*: every file was compared with torch and with the tree of prefixes on a part "
        f"of the evaluation images, and counts on all images come from one walk over that tree: {counts}. The files of all "
        "other folders were *verified* on all images."
    ]


def _notes(bundles: Sequence[Bundle]) -> list[str]:
    """Return what the manifests say about how networks were made; nothing where they say nothing."""
    return [f"`{bundle.method}`: {_escape(note)}." for bundle in bundles for note in bundle.manifest.notes]


def _quantised(bundles: Sequence[Bundle]) -> list[str]:
    """Return the section on quantised files; nothing where there are none."""
    rows = []
    for bundle in bundles:
        index = json.loads(bundle.read(INDEX)) if bundle.has(INDEX) else {}
        for row in index.get("files", []) if index.get("bundle") == bundle.fingerprint else []:
            if row["precision"] != "int8":
                continue
            low, high = wilson(row["correct"], row["images"])
            before = bundle.known_correct(bundle.topology.parse(row["spec"]))
            accuracy = f"{100 * row['correct'] / row['images']:.2f}% [{low:.2f}, {high:.2f}]"
            float_accuracy = "not stored" if before is None else f"{100 * before / row['images']:.2f}%"
            cells = [f"`{bundle.method}/standalone/{row['file']}`", accuracy, float_accuracy, f"{row['bytes'] / 1e6:.2f} MB"]
            rows.append("| " + " | ".join(cells) + " |")
    if not rows:
        return []
    head = ["| file | accuracy in 8 bits | in float32 | size |", "|" + " --- |" * 4]
    return ["## Quantised files", "\n".join([*head, *rows])]


def _exits(bundles: Sequence[Bundle]) -> list[str]:
    """Return the section on early exits; nothing where there are none."""
    rows = []
    for bundle in bundles:
        for entry in bundle.manifest.exits:
            low, high = wilson(entry.correct, bundle.manifest.images)
            cells = [f"`{bundle.method}/{_escape(entry.file)}`", f"`{_escape(entry.output)}`", str(entry.block)]
            cells += [f"{entry.accuracy_pct:.2f}% [{low:.2f}, {high:.2f}]", f"{entry.parameters:,}", f"{entry.macs / 1e6:,.2f}"]
            rows.append("| " + " | ".join(cells) + " |")
    if not rows:
        return []
    head = ["| file | output | after block | accuracy | parameters up to it | million MACs up to it |", "|" + " --- |" * 6]
    return ["## Early exits", "\n".join([*head, *rows])]


def _usage(experiment: Experiment, bundles: Sequence[Bundle]) -> str:
    preprocessing = json.dumps(experiment.preprocessing.to_dict())
    folder = bundles[0].method if bundles else "METHOD"
    return f"""Every `.onnx` file runs in any ONNX runtime that finds `weights.bin` in the same folder. Input: `images`, float32
`[N, {", ".join(map(str, experiment.image_shape))}]`; output: `logits` `[N, {len(experiment.classes)}]`. The input is made
from a picture by this preprocessing:

    {preprocessing}

The evaluation images are stored with all but the last step done. On them this program prints the accuracy of the table:

```python
import numpy as np, onnxruntime
data = np.load("evaluation.npz")
mean, std = (np.array(values, np.float32)[:, None, None] for values in ({list(experiment.mean)}, {list(experiment.std)}))
images = (data["pixels"].astype(np.float32) / np.float32(255) - mean) / std
logits = onnxruntime.InferenceSession("{folder}/main.onnx").run(None, {{"images": images}})[0]
print((logits.argmax(1) == data["labels"]).mean())
```

This one classifies picture files, whose paths it takes, with all steps:

{_python(classify_program(experiment.preprocessing, experiment.classes, f"{folder}/main.onnx"))}"""


def _python(program: str) -> str:
    """Return a block of code whose fence is longer than any in the program, which has names from outside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", program)), default=0))
    return f"{fence}python\n{program.strip()}\n{fence}"


def _escape(text: str) -> str:
    """Return a text from outside so that Markdown shows it as it is."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~&$" else c for c in flat)
