"""Files that other programs read: the workflow, the commit hooks, the citation, the composition of containers."""

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

ROOT = Path(__file__).parents[1]
SCHEMAS = {
    ".github/workflows/ci.yml": "vendor.github-workflows",
    "CITATION.cff": "vendor.citation-file-format",
    "compose.yaml": "vendor.compose-spec",
}
"""File -> name of the schema in check-jsonschema, which brings a copy of each: nothing is downloaded."""


@pytest.mark.parametrize("name", SCHEMAS)
def test_file_fits_its_schema(name: str) -> None:
    check_schema(ROOT / name, SCHEMAS[name])


def test_the_workflow_that_publishes_a_page_fits_its_schema(tmp_path: Path) -> None:
    """The example of the documentation, which installs files of requirements that exist."""
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/publish.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "page.yml").write_text(text, encoding="utf-8")
    check_schema(tmp_path / "page.yml", SCHEMAS[".github/workflows/ci.yml"])
    (installing,) = (step["run"] for step in yaml.safe_load(text)["jobs"]["page"]["steps"] if "pip" in step.get("run", ""))
    files = re.findall(r"-r (\S+)", installing)
    assert files
    assert all((ROOT / name).is_file() for name in files)


def check_schema(path: Path, schema: str) -> None:
    """Run check-jsonschema in this process: to import it takes seconds."""
    checker = pytest.importorskip("check_jsonschema", reason="needs check-jsonschema: see requirements-dev.txt")
    assert checker.main.main(["--builtin-schema", schema, str(path)], standalone_mode=False) == 0


def test_the_workflow_runs_what_a_person_runs() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert {"run": ".ci/run"} in jobs["linux"]["steps"]
    assert jobs["imports"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    named = {word for job in jobs.values() for step in job["steps"] for word in step.get("run", "").split()}
    tests = {word for word in named if word.startswith("tests/")}
    assert tests
    assert all((ROOT / path).exists() for path in tests)


def test_commit_hooks_are_local_and_their_programs_installed() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [one["repo"] for one in hooks["repos"]] == ["local"]
    programs = {Path(hook["entry"].split()[0]) for one in hooks["repos"] for hook in one["hooks"]}
    assert {path.parent for path in programs} == {Path(".venv/bin")}
    assert all(shutil.which(path.name, path=str(Path(sys.executable).parent)) for path in programs)


def test_the_citation_has_the_version_and_the_licence_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert [author["family-names"] for author in citation["preferred-citation"]["authors"]] == [
        "Ye",
        "Tang",
        "Li",
        "Chen",
        "Ouyang",
    ]


def test_property_tests_draw_the_same_examples_unless_asked_otherwise(pytestconfig: pytest.Config) -> None:
    assert settings.get_profile("default").derandomize
    assert not settings.get_profile("random").derandomize
    chosen = pytestconfig.getoption("--hypothesis-profile") or "default"
    assert settings.default == settings.get_profile(chosen)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--hypothesis-profile=random" in makefile.partition("\nrandom:")[2].partition("\n\n")[0]
