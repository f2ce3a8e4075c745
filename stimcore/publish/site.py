"""Builds the folder of a published page from bundles: pages, data, networks, and the program that runs them in a browser."""

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stimcore.bundle import Bundle, Experiment, open_bundle
from stimcore.bundle.bundle import WEIGHTS
from stimcore.data.images import calibration_batches
from stimcore.engine.engine import Engine
from stimcore.engine.graph.external import load_inlined
from stimcore.engine.walls import wall_images
from stimcore.errors import UsageError
from stimcore.files import replacing_folder
from stimcore.publish.choices import DEFAULT_IMAGES, DEFAULT_LANGUAGE, DEFAULT_TITLE, DEFAULT_WALLS
from stimcore.publish.packing import packed_images, packed_weights
from stimcore.publish.parts import encoded, parts_of
from stimcore.publish.runtime import PACKAGE
from stimcore.publish.scripts import joined
from stimcore.publish.states import QUICK, Published, download_name, downloads_of, listed_ensemble, states_of
from stimcore.report.results import check_names, read_experiment
from stimcore.subnets.spec import Spec
from stimcore.web.component import Component
from stimcore.web.words import ENGLISH, LANGUAGES, words_of

CATALOGUE = "data/catalogue.json"
"""Lists the experiments; a folder without it is not a published page."""
PAGES = {"": "break_it", "subnetworks": "subnetworks", "damage": "damage", "use-it": "use_it"}
"""Folder of a page -> name of its title in the texts. The dashboard has the same addresses."""
SCRIPTS = {"": "break.js", "subnetworks": "subnetworks.js", "damage": "damage.js", "use-it": "use.js"}
"""Folder of a page -> the module that shows it."""
EARLY = "early.js"
"""The script that becomes part of every page itself."""
COMPONENTS = ("diagram", "lanes", "wall", "link")
IMAGES = ("images-first.bin", "images-rest.bin")
"""Files of the images behind provisional numbers, and of all others: in each those of calibration, then those of evaluation."""
PACKED_WEIGHTS = "weights.packed"
"""File of a bundle's weights, packed; the graphs in it are looked up by the name of the unpacked one."""
LARGEST = 64 * 2**20
"""Bytes of images that a page may load to compute a state."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a site is built.

    Attributes:
        title: Title of the pages; empty for one in the visitor's language.
        language: One of the languages of the texts; empty for the first of the visitor's that there are texts in.
        images: Evaluation images on which a browser counts a state that is not stored; the first few are those of the
            provisional number.
        walls: Of which states the picture wall is computed now; see `states_of`.
        runtime: Files of onnxruntime-web by name; None where they are missing.
        runtime_problem: Why they are missing.
    """

    title: str = DEFAULT_TITLE
    language: str = DEFAULT_LANGUAGE
    images: int = DEFAULT_IMAGES
    walls: str = DEFAULT_WALLS
    runtime: Mapping[str, bytes] | None = None
    runtime_problem: str = ""


@dataclass
class Site:
    """The files of a site, by their paths in its folder.

    Attributes:
        files: Path with forward slashes -> content.
        problems: Sentences on what is missing.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add_json(self, path: str, value: Any) -> None:
        """Add a JSON file; equal values give equal bytes."""
        self.files[path] = (json.dumps(value, ensure_ascii=False, sort_keys=False, separators=(",", ":")) + "\n").encode()

    def write(self, folder: Path) -> None:
        """Write all files into a folder, in the place of the site that it holds.

        Raises:
            UsageError: The folder holds something else than a site.
        """
        folder = folder.resolve()
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / CATALOGUE).is_file())):
            raise UsageError(
                f"{folder} holds something else than a published page", allowed="a new or empty folder, or an earlier page"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(folder) as part:
            for path, content in self.files.items():
                target = part / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)


def build_site(experiments: Sequence[Path], settings: Settings) -> Site:
    """Return the site of some experiments.

    Args:
        experiments: Folders of experiments.
        settings: How it is built.

    Raises:
        UsageError: No experiment has a network that can be shown, or two have one name.
        BundleError: A bundle is broken.
    """
    check_names(experiments)
    site = Site()
    opened = [_open(path, site) for path in experiments]
    shown = [published for published in opened if published.networks]
    if not shown:
        raise UsageError("none of the experiments has a whole network that can be opened", todo="Export one first.")
    shown.sort(key=_instructive, reverse=True)
    for published in shown:
        _add_experiment(site, published, settings)
    _add_pages(site, settings, shown[0].results.name)
    site.add_json(
        CATALOGUE,
        {
            "title": settings.title,
            "languages": {code: words_of(code).say("language.name") for code in LANGUAGES},
            "experiments": [published.results.name for published in shown],
            "pages": PAGES,
            "runtime": settings.runtime is not None,
            "components": {name: _markup(name) for name in COMPONENTS},
        },
    )
    for name, content in sorted((settings.runtime or {}).items()):
        site.files[f"runtime/{name}"] = content
    if settings.runtime is None:
        site.problems.append(f"States that are not stored can't be computed on this page. {settings.runtime_problem}".strip())
    return site


def _open(path: Path, site: Site) -> Published:
    results = read_experiment(path)
    site.problems += [f"left out: {path.name}/{problem}" for problem in results.problems]
    bundles = {network.name: open_bundle(path / network.name, verify=False) for network in results.main_networks}
    return Published(results, bundles)


def _instructive(published: Published) -> tuple[bool, bool, int]:
    """Return a key that sorts experiments by how well they show loafing: the order of the dashboard."""
    methods = {network.method for network in published.networks}
    num_listing = sum(len(bundle.manifest.networks) > 1 for bundle in published.bundles.values())
    return {"common", "stimulative"} <= methods, not published.topology.ordered_only, num_listing


# --- pages ---


def _add_pages(site: Site, settings: Settings, first: str) -> None:
    sources = package_files("stimcore.publish") / "page"
    template = (sources / "index.html").read_text(encoding="utf-8")
    modules = sorted(entry.name for entry in sources.iterdir() if entry.name.endswith((".js", ".css")))
    scripts = {f"page/{name}": (sources / name).read_bytes() for name in modules if name != EARLY}
    scripts |= {f"web/{name}.js": Component.load(name).js.encode() for name in COMPONENTS}
    site.files |= scripts
    for folder, name in SCRIPTS.items():
        site.files[page_script(folder)] = joined(scripts, f"page/{name}")
    early = (sources / EARLY).read_text(encoding="utf-8")
    for code in LANGUAGES:
        words = words_of(code)
        site.add_json(f"web/text/{code}.json", {"code": code, "table": words.table, "terms": words.terms})
    words = words_of(settings.language or "en")
    heading = settings.title or words.say("page.break_it_title")
    for folder, name in PAGES.items():
        root = "../" if folder else "./"
        values = {
            "shown": words.code,
            "language": settings.language,
            "languages": " ".join(LANGUAGES),
            "title": f"{heading}: {words.say(f'page.{name}')}" if folder else heading,
            "heading": heading,
            "root": root,
            "script": page_script(folder),
            # a content security policy allows no script inside of a page but the one with this hash
            "early_hash": f"sha256-{base64.b64encode(hashlib.sha256(early.encode()).digest()).decode()}",
            "first": first,
            "failed": words.say("page.failed", reason="").strip(),
            **{text: words.say(f"page.{text}") for text in ("to_content", "loading", "no_script")},
        }
        text = _filled(template, values).replace("<!-- early -->", early)
        site.files[f"{folder}/index.html".lstrip("/")] = text.encode()


def _markup(name: str) -> dict[str, str]:
    component = Component.load(name)
    return {"html": component.html, "css": component.css}


def page_script(folder: str) -> str:
    """Return the path of the script of a page, in which all modules that it needs are joined."""
    return f"page/{SCRIPTS[folder].removesuffix('.js')}.joined.js"


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template with values in the place of names in double braces; what a value holds is never replaced again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: html.escape(values[match[1]]), template)


# --- experiments ---


def _add_experiment(site: Site, published: Published, settings: Settings) -> None:
    folder = f"data/{published.results.name}"
    experiment = next(iter(published.bundles.values())).experiment
    reason = uncomputable(experiment)
    site.add_json(f"{folder}/states.json", states_of(published, walls=settings.walls, computed=reason, images=settings.images))
    graphs: dict[str, int] = {}
    for bundle in published.bundles.values():
        for path, content in _network_files(bundle):
            site.files[f"{folder}/{bundle.method}/{path}"] = content
        if not reason:
            site.add_json(f"{folder}/{bundle.method}/parts.json", parts_of(bundle, graphs))
    if not reason:
        site.add_json(f"{folder}/graphs.json", list(graphs))
    index = evenly(len(experiment.evaluation[1]), settings.images)
    index = index[scattered(len(index))]
    site.add_json(f"{folder}/compute.json", _compute(published, experiment, index, computed=not reason))
    if not reason:
        parts = experiment.calibration, experiment.evaluation[0][index]
        for name, some in zip(IMAGES, (slice(0, QUICK), slice(QUICK, None)), strict=True):
            site.files[f"{folder}/{name}"] = packed_images(np.concatenate([pixels[some] for pixels in parts]))


def uncomputable(experiment: Experiment) -> str:
    """Return why a browser can't compute states of an experiment, an English text of the section `term`; empty where it can."""
    if experiment.topology.ordered_only:
        return ENGLISH.say("term.parts_differ")
    if experiment.calibration.shape[1:] != experiment.image_shape:
        return ENGLISH.say("term.enlarged")
    return ENGLISH.say("term.too_large") if experiment.calibration.nbytes > LARGEST else ""


def evenly(total: int, count: int) -> NDArray[np.int64]:
    """Return indices of `count` images that are spread evenly over `total`: the images of a folder are sorted by class.

    Example:
        >>> evenly(10, 4).tolist(), evenly(3, 9).tolist()
        ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(total, count)
    return np.arange(count, dtype=np.int64) * total // count


def scattered(count: int) -> NDArray[np.int64]:
    """Return an order of `count` images in which the first ones, however many, are spread evenly over all.

    The order is that of the fractional parts of multiples of the golden ratio.

    Example:
        >>> scattered(5).tolist()
        [0, 3, 1, 4, 2]
    """
    golden = (5**0.5 - 1) / 2
    return np.argsort(np.argsort(np.arange(count) * golden % 1.0, kind="stable"), kind="stable").astype(np.int64)


def _network_files(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """Yield the files that run in a browser, as the bundle holds them, and self-contained ones for download."""
    yield PACKED_WEIGHTS, packed_weights(bundle.read(WEIGHTS))
    for name in listed_ensemble(bundle):
        yield name, bundle.read(name)
    for option in downloads_of(bundle)[0]:
        model = load_inlined(bundle.read, option.file)
        yield f"download/{download_name(bundle, Spec.from_text(option.spec))}", model.SerializeToString(deterministic=True)


def _compute(published: Published, experiment: Experiment, index: NDArray[np.int64], *, computed: bool) -> dict[str, Any]:
    """Return what the worker reads: the images' form and, per method, which of them the whole network classifies correctly."""
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1), (256, *experiment.image_shape))
    # [C, 256]: what every pixel value becomes, by the steps that the engine applies
    lookup = experiment.normalise(levels)[:, :, 0, 0].T
    pixels, labels = experiment.evaluation
    wall = np.array(wall_images(experiment, {}), np.int64)
    methods = {}
    for name, bundle in published.bundles.items() if computed else ():
        engine = Engine(bundle, device="cpu")
        methods[name] = {
            key: encoded(np.packbits(_right(engine, experiment, index, recalibrate=recalibrate)))
            for key, recalibrate in (("hits", True), ("hits_trained", False))
        }
    return {
        "image_shape": list(experiment.image_shape),
        "lookup": encoded(lookup.astype("<f4")),
        "weights": {"file": PACKED_WEIGHTS, "name": WEIGHTS},
        "images": list(IMAGES),
        "calibration": {"batches": [batch.stop - batch.start for batch in calibration_batches(len(experiment.calibration))]},
        "evaluation": {"labels": [int(label) for label in labels[index]]},
        "quick": QUICK,
        "wall": {"images": len(wall), "pixels": encoded(pixels[wall]) if computed else ""},
        "methods": methods,
    }


def _right(engine: Engine, experiment: Experiment, index: NDArray[np.int64], *, recalibrate: bool) -> NDArray[np.bool_]:
    """Return for some evaluation images whether the whole network classifies them correctly."""
    pixels, labels = experiment.evaluation
    stored = engine.bundle.hits(engine.bundle.topology.full) if recalibrate else None
    if stored is not None:
        return stored[index]
    full = engine.bundle.topology.full
    answers = [
        engine.logits(full, experiment.normalise(pixels[some]), recalibrate=recalibrate).argmax(1)
        for some in np.array_split(index, max(1, len(index) // 250))
    ]
    right: NDArray[np.bool_] = np.concatenate(answers) == labels[index]
    return right


# --- weight ---


@dataclass(frozen=True)
class Weight:
    """What visitors load.

    Attributes:
        what: What loads it.
        raw: Bytes of the files.
        packed: Bytes as a host sends them, compressed.
    """

    what: str
    raw: int
    packed: int


def weights(site: Site, experiment: str, methods: Sequence[str]) -> list[Weight]:
    """Return what a visitor loads for the first view, and what is added when something is computed.

    Args:
        site: The site.
        experiment: The one that is opened.
        methods: The methods that are shown.
    """
    data = f"data/{experiment}/"
    texts = max((path for path in site.files if path.startswith("web/text/")), key=lambda path: len(site.files[path]))
    groups = {
        "first view": ["index.html", "page/page.css", CATALOGUE, f"{data}states.json", texts, page_script("")],
        "parts of the networks": [
            "page/worker.js",
            "page/packing.js",
            f"{data}compute.json",
            f"{data}graphs.json",
            *(f"{data}{method}/{name}" for method in methods for name in ("parts.json", PACKED_WEIGHTS)),
        ],
        "images of the first numbers": [f"{data}{IMAGES[0]}"],
        "other images": [f"{data}{IMAGES[1]}"],
        PACKAGE: [p for p in site.files if p.startswith("runtime/")],
    }
    loaded = {what: [site.files[p] for p in paths if p in site.files] for what, paths in groups.items()}
    return [
        Weight(what, sum(map(len, contents)), sum(len(zlib.compress(content, 6)) for content in contents))
        for what, contents in loaded.items()
    ]
