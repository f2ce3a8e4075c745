"""What a scan is given: a bundle, an ONNX file, a run folder, or a network by name with weights, and their options."""

from dataclasses import dataclass
from pathlib import Path

from stimcore import files
from stimcore.errors import UsageError
from stimcore.surgery.bundle import plain_name

NETWORK = "network"
"""Folder in a scan's folder that holds the bundle which was made for it."""
SOURCE = "source.txt"
"""File in a scan's folder that names what was scanned."""
EXPECTED = "a run folder, a bundle, an ONNX file, or a network's name with --dataset"
"""What a scan takes."""
OPTIONS = ("dataset", "data_root", "init", "mean", "std", "images")


@dataclass(frozen=True, kw_only=True)
class ScanSource:
    """What a scan is asked to take apart.

    Attributes:
        network: A path or a network's name.
        out: Folder of the scan; None for the default.
        dataset: Images to evaluate on; a bundle and a run folder have their own.
        data_root: Folder of the data set.
        init: Weights of a network by name.
        mean: What the network's input is normalised with, per channel, between commas.
        std: As `mean`.
        images: Evaluation images, the same share of every class; all when None.
        trust_code: Whether modules that a run folder names may be imported.
    """

    network: str
    out: Path | None = None
    dataset: str | None = None
    data_root: Path | None = None
    init: str | None = None
    mean: str | None = None
    std: str | None = None
    images: int | None = None
    trust_code: bool = False

    @property
    def given(self) -> list[str]:
        """The options that were given and that not every network takes."""
        return [f"--{name.replace('_', '-')}" for name in OPTIONS if getattr(self, name) is not None]

    @property
    def path(self) -> Path:
        """The network as a path."""
        return Path(self.network)

    @property
    def folder(self) -> Path:
        """Folder of the scan: `scans/NAME`, where none is given."""
        if self.out is not None:
            return self.out
        path = self.path
        if (path / "manifest.json").exists():
            return Path("scans") / plain_name(f"{path.resolve().parent.name}-{path.resolve().name}")
        return Path("scans") / plain_name(path.stem if path.suffix == ".onnx" else path.name)

    @property
    def identity(self) -> str:
        """What is scanned, in the same words however a path is written."""
        words = str(self.path.resolve()) if self.path.exists() else self.network
        words += "" if self.init is None else f" with the weights {self.init}"
        return words + ("" if self.dataset is None else f" on {self.dataset}")

    def check_folder(self) -> None:
        """Refuse the folder of another scan, whose results would be lost.

        Raises:
            UsageError: The folder holds one.
        """
        mark = self.folder / SOURCE
        if mark.is_file() and (other := mark.read_text(encoding="utf-8").strip()) != self.identity:
            raise UsageError(f"{self.folder} holds the scan of {other}", todo="Give another folder with --out.")

    def claim_folder(self) -> None:
        """Make the folder of the scan, and say in it what is scanned."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_text(self.folder / SOURCE, self.identity + "\n")

    def refuse(self, what: str, allowed: tuple[str, ...]) -> None:
        """Refuse options that say nothing about what was given.

        Raises:
            UsageError: There is one.
        """
        if others := [name for name in self.given if name not in allowed]:
            raise UsageError(f"{what} with {others[0]}", allowed=", ".join(allowed) or "no such option")
