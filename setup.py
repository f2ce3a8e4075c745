"""What pyproject.toml can't express: the wheel holds the dashboard as `stimcore_app`, with a small experiment to show.

In a checkout the dashboard is the package `app`, so that `streamlit run app/main.py` works. An installation must not have a
package of so common a name, which is why the build renames it, in the imports as well.
"""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
NAME = "stimcore_app"
EXPERIMENT = "resnet20-fashion"
METHODS = ("common", "stimulative", "twin-*")
"""Bundles of the experiment in the wheel: what the lesson of the first page shows, and the twins that it compares with."""
IMPORT = re.compile(r"^(\s*(?:from|import) )app(?=[.\s])", re.MULTILINE)


class BuildPy(build_py):
    """The build of all Python files, followed by the renamed dashboard; an editable installation leaves it where it is."""

    def run(self) -> None:
        """Build everything into `build_lib`."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / NAME
            shutil.rmtree(target, ignore_errors=True)
            self._copy_dashboard(target)
            self._copy_experiment(target / "exported" / EXPERIMENT)

    def _copy_dashboard(self, target: Path) -> None:
        for path in sorted((ROOT / "app").rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            copy = target / path.relative_to(ROOT / "app")
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".py":
                copy.write_text(IMPORT.sub(rf"\1{NAME}", path.read_text(encoding="utf-8")), encoding="utf-8")
            else:
                shutil.copyfile(path, copy)
        (target / ".streamlit").mkdir()
        shutil.copyfile(ROOT / ".streamlit" / "config.toml", target / ".streamlit" / "config.toml")

    def _copy_experiment(self, target: Path) -> None:
        source = ROOT / "exported" / EXPERIMENT
        paths = [path for path in source.glob("*") if path.is_file()]
        paths += [path for method in METHODS for folder in source.glob(method) for path in folder.rglob("*") if path.is_file()]
        for path in sorted(paths):
            if any(part.startswith(".") for part in path.relative_to(source).parts):
                continue  # locks, and what a stopped update left
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


setup(cmdclass={"build_py": BuildPy})
