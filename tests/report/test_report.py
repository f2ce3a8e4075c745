"""The command: what it writes, what it says, and that its page needs nothing but itself."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser

from stimcore.analysis import paper
from stimcore.errors import UsageError
from stimcore.report.__main__ import main
from stimcore.report.claims import CLAIMS, is_added
from stimcore.report.results import find_experiments
from stimcore.subnets.topology import Topology
from tests.analysis.made import FULL, SIX, record, sweep
from tests.report import folders
from tests.report.folders import rows

CHROMIUM = Path("/usr/bin/chromium")
needs_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium on this machine")


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stimcore.report", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_tables_r3_say_what_was_counted_and_what_the_paper_prints(made: Path, tmp_path: Path) -> None:
    assert main([str(made), "--out", str(tmp_path / "out"), "--no-svg"]) == 0
    methods = {row["method"]: row for row in rows(tmp_path / "out" / "made" / "table-r3-accuracy.csv")}
    assert float(methods["common"]["main, here"]) == 90.0
    assert float(methods["stimulative"]["all: mean, here"]) == 90.0
    assert float(methods["stimulative"]["all: deviation, here"]) == pytest.approx(0.5773502692)
    for printed in paper.TABLE_R3:
        row = methods[printed.method.replace("_", " ")]
        assert float(row["main, paper"]) == printed.main_pct
        assert float(row["all: mean, paper"]) == printed.all_mean_pct
        assert float(row["all: deviation, paper"]) == printed.all_std_pct
    missing = methods["stochastic depth"]
    assert missing["main, here"] == missing["all: mean, here"] == ""
    assert missing["label of ours"] == "not measured"


def test_cost_is_over_common(made: Path, tmp_path: Path) -> None:
    main([str(made), "--out", str(tmp_path / "out"), "--no-svg"])
    header, *lines = csv.reader((tmp_path / "out" / "made" / "table-r3-cost.csv").open(newline=""))
    common, stimulative = (next(line for line in lines if line[0] == name) for name in ("common", "stimulative"))
    assert header[:5] == ["method", "s per epoch, here", "s per epoch, here low", "s per epoch, here high", "over common, here"]
    assert float(common[4]) == 1.0
    assert float(stimulative[4]) == pytest.approx(1.4)
    distilled = next(line for line in lines if line[0] == "self distillation")
    assert distilled[1:7] == [""] * 6  # trained, but it left no records: no number, and no zero


def test_every_figure_has_its_data(made: Path, tmp_path: Path) -> None:
    main([str(made), "--out", str(tmp_path / "out"), "--no-svg"])
    folder = tmp_path / "out" / "made"
    assert len(rows(folder / "figure-r1.csv")) == len(rows(folder / "figure-r8.csv")) == 18
    assert [row["epoch"] for row in rows(folder / "figure-r2.csv")] == ["1", "2", "1", "2"]
    assert [row["lambda"] for row in rows(folder / "figure-r3.csv")] == ["common", "1", "10"]
    curves = rows(folder / "figure-r4-curves.csv")
    assert {row["method"] for row in curves} == {"common", "self distillation", "stimulative"}
    two = next(row for row in curves if (row["method"], row["damage"], row["amount"]) == ("stimulative", "delete", "2"))
    assert (two["sub-networks"], float(two["median drop"])) == ("1", 3.0)
    assert not list(folder.glob("figure-r5*"))
    assert not list(folder.glob("*.svg"))


def test_missing_data_is_a_sentence_on_the_page(made: Path, tmp_path: Path) -> None:
    main([str(made), "--out", str(tmp_path / "out"), "--no-svg"])
    text = (tmp_path / "out" / "made.html").read_text()
    gaps = re.findall(r'<p class="gap">(.*?)</p>', text)
    assert "Not measured here, deletions and permutations of: stochastic depth." in gaps
    assert "Of self distillation only delete was swept." in gaps


def test_an_experiment_without_bundles_is_all_gaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folders.experiment(tmp_path / "exported" / "empty")
    assert main([str(folder), "--json", "-"]) == 0
    experiment = json.loads(capsys.readouterr().out)["experiments"][0]
    assert {claim["verdict"] for claim in experiment["claims"]} == {"not measured"}
    assert {gap["section"].split(":")[0] for gap in experiment["gaps"]} >= {
        "Table r3",
        "Table r4",
        "Loafing gaps",
        "Fig. r2",
        "Fig. r3",
    }
    assert experiment["tables"]["table-r3-accuracy"]["rows"][0][1] is None


def test_json_has_claims_tables_and_gaps(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(made), "--json", "-"]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    (experiment,) = value["experiments"]
    assert set(experiment) == {"experiment", "images", "claims", "tables", "gaps"}
    cell = experiment["tables"]["table-r3-accuracy"]["rows"][0][1]
    assert cell["value"] == 90.0
    assert cell["low"] < 90 < cell["high"]


def test_a_broken_bundle_is_left_out_and_reported(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "common" / "main.onnx").write_bytes(b"other")
    assert main([str(made), "--out", str(tmp_path / "out"), "--no-svg"]) == 1
    printed = capsys.readouterr()
    assert "left out: common: " in printed.err
    assert "sha256 differs" in printed.err
    assert "  not measured: main, " in printed.out
    assert "sha256 differs" in (tmp_path / "out" / "made.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: EXPERIMENT"),
        (["FOLDER"], "nothing to write; allowed: --out DIR"),
        (["FOLDER", "--no-svg", "--json", "-"], "--no-svg without --out"),
        (["nowhere", "--json", "-"], "there is no experiment in nowhere; allowed: exported/EXPERIMENT"),
        (["FOLDER", "--jason"], "unrecognized arguments: --jason"),
    ],
)
def test_wrong_use_is_one_sentence(made: Path, arguments: list[str], sentence: str) -> None:
    done = ran(*(str(made) if item == "FOLDER" else item for item in arguments))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout


@needs_browser
@pytest.mark.slow
def test_svg_files_are_drawings(made: Path, tmp_path: Path) -> None:
    done = ran(str(made), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, "")
    drawn = sorted((tmp_path / "out" / "made").glob("*.svg"))
    assert [path.stem for path in drawn] == ["figure-r1", "figure-r2", "figure-r3", "figure-r4", "figure-r8"]
    for path in drawn:
        text = "".join(ElementTree.parse(path).getroot().itertext())
        assert "Common" in text
        assert "Stimulative" in text


HOSTILE = "net<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def hostile_experiment(tmp_path: Path) -> Path:
    """Make an experiment whose names hold markup and scripts: network, data set, method and option."""
    hostile = Topology.of(HOSTILE, [3, 3])
    folder = folders.experiment(tmp_path / "exported" / "hostile", hostile)
    changed = json.loads((folder / "experiment.json").read_text())
    (folder / "experiment.json").write_text(json.dumps({**changed, "dataset": f"images</title>{HOSTILE}"}))
    sweeps = {"ordered": {"1.4": 300, FULL: 900}, "delete": {"1-3.4-5-6": 800}}
    folders.bundle(folder, "common", 900, topology=hostile, sweeps=sweeps, records=[record(1, 12, 10, 1000)])
    folders.bundle(
        folder,
        "own",
        910,
        method=f"</script>{HOSTILE}",
        topology=hostile,
        sweeps=sweeps,
        records=[record(1, 12, 10, 1000)],
        options={"weight": HOSTILE},
    )
    return folder


def test_hostile_names_are_text_in_page_and_markdown(tmp_path: Path) -> None:
    folder = hostile_experiment(tmp_path)
    main([str(folder), "--out", str(tmp_path / "out"), "--no-svg", "--markdown", str(tmp_path / "results.md")])
    text = (tmp_path / "out" / "hostile.html").read_text()
    assert "net&lt;script&gt;" in text
    for written in (text, (tmp_path / "results.md").read_text()):
        assert "<script>document" not in written
        assert "<img" not in written
    assert len(re.findall("<script[ >]", text)) == 2 + text.count('type="application/json"')


@needs_browser
def test_no_script_of_a_hostile_name_runs(tmp_path: Path, browser: Browser) -> None:
    main([str(hostile_experiment(tmp_path)), "--out", str(tmp_path / "out"), "--no-svg"])
    page = browser.new_page()
    bad: list[str] = []
    page.on("pageerror", lambda error: bad.append(str(error)))
    page.on("console", lambda message: bad.append(message.text) if message.type == "error" else None)
    page.goto((tmp_path / "out" / "hostile.html").as_uri())
    page.locator("#figure-r8-plot .main-svg").first.wait_for()
    assert page.title() == "hostile: stimulative training, measured here next to the paper"
    assert page.locator("script").count() == 2 + page.locator("script[type='application/json']").count()
    assert page.locator("img[onerror]").count() == 0
    assert HOSTILE in page.locator("main > p").first.inner_text()
    page.close()
    assert not bad


@needs_browser
@pytest.mark.slow
def test_the_policy_stops_a_script_that_was_added_to_the_page(made: Path, tmp_path: Path, browser: Browser) -> None:
    main([str(made), "--out", str(tmp_path / "out"), "--no-svg"])
    path = tmp_path / "out" / "made.html"
    path.write_text(path.read_text().replace("<h1>", "<script>document.title = 'owned'</script><h1>"))
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    page.locator("#figure-r8-plot .main-svg").first.wait_for()
    assert "owned" not in page.title()
    assert any("Content Security Policy" in text for text in refused)
    page.close()


def test_a_broken_sweep_is_left_out_and_reported(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "common" / "sweep-delete.json").write_text("[]")
    assert main([str(made), "--out", str(tmp_path / "out"), "--no-svg"]) == 1
    printed = capsys.readouterr()
    assert "left out: common: " in printed.err
    assert "sweep-delete.json is not a sweep" in printed.err
    assert "--kind delete --store" in printed.err


@pytest.mark.parametrize("change", [{"bundle": "of other networks"}, {"images": 500}])
def test_a_sweep_of_other_networks_or_images_is_left_out(
    made: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    path = made / "common" / "sweep-delete.json"
    value = json.loads(path.read_text())
    if "images" in change:
        value = sweep({}, str(SIX.full), 250, kind="delete").to_dict()
        scaled = {"images": 500, "main": {**value["main"], "images": 500}}
        change = scaled
    path.write_text(json.dumps(value | change))
    assert main([str(made), "--json", "-"]) == 1
    assert "sweep-delete.json was measured with other networks or images. 'python -m stimcore.sweep" in capsys.readouterr().err


@pytest.mark.parametrize("weight", ["x", [1], None, True])
def test_a_lambda_that_is_no_number_leaves_its_bundle_out(
    made: Path, capsys: pytest.CaptureFixture[str], weight: object
) -> None:
    path = made / "stimulative" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"options": {"weight": weight}}))
    assert main([str(made), "--json", "-"]) == 1
    assert "left out: stimulative: " in (said := capsys.readouterr().err)
    assert "has broken options" in said


def test_the_page_counts_the_papers_claims_apart_from_ours(made: Path, tmp_path: Path) -> None:
    assert main([str(made), "--out", str(tmp_path), "--no-svg"]) == 0
    papers = [claim for claim in CLAIMS if not is_added(claim[1])]
    assert len(papers) < len(CLAIMS)
    assert f"Of {len(papers)} claims of the paper, " in (tmp_path / "made.html").read_text(encoding="utf-8")


def test_a_folder_may_be_named_by_a_dot_and_hidden_ones_are_none(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a migration that was killed leaves behind is hidden."""
    shutil.copytree(made, made.with_name(".made.old"))
    assert [path.name for path in find_experiments([made.parent])] == ["made", "made-lambda"]
    monkeypatch.chdir(made)
    assert main([".", "--out", str(tmp_path / "out"), "--no-svg"]) == 0
    assert (tmp_path / "out" / "made.html").exists()


def test_two_experiments_of_one_name_are_refused(made: Path, tmp_path: Path) -> None:
    other = shutil.copytree(made, tmp_path / "other" / "made")
    with pytest.raises(UsageError, match="several experiments have the name made; allowed: every name once"):
        main([str(made), str(other), "--json", "-"])


def test_no_browser_is_a_sentence(made: Path, tmp_path: Path) -> None:
    code = (
        "import sys, choreographer.browsers.chromium as c; c.Chromium.find_browser = classmethod(lambda *a, **k: None)\n"
        "from stimcore.report.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.startswith("No SVG files: no Chromium or Chrome was found")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "out" / "made.html").exists()
    assert "0 SVG files" in done.stdout


@needs_browser
def test_the_page_draws_offline_and_fits_a_phone(made: Path, tmp_path: Path, browser: Browser) -> None:
    main([str(made), "--out", str(tmp_path / "out"), "--no-svg"])
    context = browser.new_context(offline=True, viewport={"width": 375, "height": 800})
    page = context.new_page()
    bad: list[str] = []
    page.on("pageerror", lambda error: bad.append(str(error)))
    page.on("console", lambda message: bad.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else bad.append(request.url))
    page.goto((tmp_path / "out" / "made.html").as_uri())
    page.locator("#figure-r8-plot .main-svg").first.wait_for()
    assert page.locator("figure .main-svg").count() >= 5
    assert page.locator("#figure-r1-plot .scatterlayer .point").count() == 18
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    wrong = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})")
    assert [(violation["id"], violation["nodes"][0]["html"][:200]) for violation in wrong["violations"]] == []
    assert page.locator("h1").inner_text() == "made"
    with page.expect_download() as download:
        page.locator("a[download='table-r4.csv']").click()
    saved = download.value.path()
    assert saved.read_text() == (tmp_path / "out" / "made" / "table-r4.csv").read_text()
    context.close()
    assert not bad


def test_a_family_whose_layers_concatenate_has_a_matrix_and_no_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = Topology.of("dense", [1, 3], ordered_only=True)
    folder = folders.experiment(tmp_path / "exported" / "dense", large)
    folders.bundle(folder, "common", 900, topology=large, sweeps={"ordered": {"1.2": 100, "1.2-3": 400, "1.2-3-4": 900}})
    small, middle = (Topology.of("dense", [1, depth], ordered_only=True) for depth in (1, 2))
    folders.bundle(folder, "twin-d1-1", 800, method="common", topology=small, spec="1.2")
    folders.bundle(
        folder, "twin-d1-2", 850, method="common", topology=middle, spec="1.2-3", sweeps={"ordered": {"1.2": 300, "1.2-3": 850}}
    )
    assert main([str(folder), "--json", "-"]) == 0
    (experiment,) = json.loads(capsys.readouterr().out)["experiments"]
    rows = experiment["tables"]["table-nested"]["rows"]
    assert [[cell and cell["value"] for cell in row[1:]] for row in rows] == [[80, 30, 10], [None, 85, 40], [None, None, 90]]
    assert {claim["name"]: claim["verdict"] for claim in experiment["claims"]}["deeper loafs more"] == "holds"
    assert any("its layers concatenate" in gap["gap"] for gap in experiment["gaps"])
    assert experiment["tables"]["settings"]["columns"][2] == "paper (Appendix F.2)"


def test_fans_are_drawn_where_sub_networks_were_watched(tmp_path: Path) -> None:
    folder = folders.experiment(tmp_path / "exported" / "made")
    for method, part in (("common", 30.0), ("stimulative", 80.0)):
        watched = [{"name": "smallest", "spec": "1.4", "accuracy_pct": part, "images": 200}]
        folders.bundle(folder, method, 900, records=[record(1, 5.0, 5.0, 100) | {"watched": watched}])
    assert main([str(folder), "--out", str(tmp_path / "out"), "--no-svg"]) == 0
    drawn = {
        (row["method"], row["network"]): row["accuracy_pct"] for row in rows(tmp_path / "out" / "made" / "figure-fans.csv")
    }
    assert drawn[("common", "one block per stage")] == "30"
    assert drawn[("stimulative", "one block per stage")] == "80"
    assert len(drawn) == 4


def add_as_trained(bundle: Path, counts: dict[str, int], correct: int) -> None:
    value = sweep(counts, FULL, correct, kind="ordered-as-trained").to_dict()
    (bundle / "sweep-ordered-as-trained.json").write_text(json.dumps(value))


def test_recalibration_on_against_off(made: Path, tmp_path: Path) -> None:
    main([str(made), "--out", str(tmp_path / "none"), "--no-svg"])
    assert not (tmp_path / "none" / "made" / "table-recalibration.csv").exists()
    ordered = json.loads((made / "common" / "sweep-ordered.json").read_text())["results"]
    # every sub-network except the whole one loses 50 more images without re-calibration
    counts = {row["spec"]: row["correct"] - 50 * (row["spec"] != FULL) for row in ordered}
    add_as_trained(made / "common", counts, 900)
    main([str(made), "--out", str(tmp_path / "out"), "--no-svg"])
    (row,) = rows(tmp_path / "out" / "made" / "table-recalibration.csv")
    on, off = (float(row[f"main minus mean, {how}"]) for how in ("re-calibrated", "as trained"))
    assert off - on == pytest.approx(50 * 8 / 9 / 10)
    assert float(row["share that is stale statistics, %"]) == pytest.approx(100 * (1 - on / off))
    assert row["seeds"] == "1"


def test_tables_r1_and_r2_belong_to_the_papers_network(made: Path, tmp_path: Path) -> None:
    main([str(made), "--out", str(tmp_path / "out"), "--no-svg"])
    assert not (tmp_path / "out" / "made" / "table-r1.csv").exists()
    fixed = {block: "it changes the resolution" for block in (1, 3, 6, 12)} | {10: "it changes the number of channels"}
    body = Topology.of("mobilenetv3", [2, 3, 4, 2, 3], fixed)
    folder = folders.experiment(tmp_path / "exported" / "body", body)
    printed = [text for texts in paper.TABLE_R2.values() for text in texts]
    for method, drop in (("common", 3), ("stimulative", 1)):
        counts = {text: 900 - drop * place for place, text in enumerate(printed)}
        made_sweep = sweep(counts, str(body.full), 900, kind="permute").to_dict()
        bundle = folders.bundle(folder, method, 900, topology=body)
        (bundle / "sweep-permute.json").write_text(json.dumps(made_sweep))
    main([str(folder), "--out", str(tmp_path / "out"), "--no-svg"])
    r1 = rows(tmp_path / "out" / "body" / "table-r1.csv")
    assert [row["block"] for row in r1] == [str(number) for number in range(1, 15)]
    assert [int(row["block"]) for row in r1 if row["can be deleted or moved here"] != "yes"] == [1, 3, 6, 10, 12]
    assert r1[0]["input, paper"] == "112 x 112 x 16"
    r2 = rows(tmp_path / "out" / "body" / "table-r2.csv")
    assert [row["arrangement"] for row in r2] == printed
    assert [float(row["main minus this, common, points"]) for row in r2] == pytest.approx([0.3 * n for n in range(23)])
    assert "23 of them are among the 23" in (tmp_path / "out" / "body.html").read_text()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            lambda folder: change_recipe(folder, {"epochs": "x", "network": 5}),
            "has a broken recipe: 'epochs' of the recipe is x",
        ),
        (lambda folder: change_recipe(folder, {"epochs": 5}), "has a broken recipe: the recipe has no 'batch_size'"),
        (lambda folder: change_records(folder, '{"epoch": "x"}\n'), "training.jsonl is not the record of a training"),
        (
            lambda folder: change_records(folder, '{"epoch": 1, "losses": null}\n'),
            "training.jsonl is not the record of a training",
        ),
    ],
)
def test_a_bundle_with_damaged_records_is_left_out_and_the_others_stay(
    edit: Callable[[Path], None], sentence: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(made / "stimulative")
    assert main([str(made), "--json", str(tmp_path / "report.json")]) == 1
    assert re.search(f"left out: stimulative: .*{sentence}", capsys.readouterr().err)
    assert "common" in (tmp_path / "report.json").read_text()


def change_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": recipe}))


def change_records(folder: Path, text: str) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    (folder / "training.jsonl").write_text(text)
    manifest["hashes"]["training.jsonl"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(manifest))
