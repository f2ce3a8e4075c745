"""The result of one sub-network, and a sweep of results: one type from the engine to the page.

The engine makes results, sweeps store them, the server sends them, reports and pages read them. Their JSON form is
`Result.to_dict` everywhere: in `sweep-KIND.json`, in `--json` files and in answers of the server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from stimcore.analysis.intervals import paired_drop, wilson
from stimcore.subnets.spec import Spec

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Counts of one sub-network on a number of images, compared with its main network on the same images.

    Attributes:
        spec: The sub-network.
        correct: Images that were classified correctly.
        images: Number of images, from 1.
        accuracy_pct: In [0, 100].
        interval_pct: 95% interval of the accuracy (Wilson).
        drop_pct: Accuracy of the main network minus this one's on the same images, in points, in [-100, 100].
        drop_interval_pct: 95% interval of the drop, paired over images.
        ce_nats: Mean cross entropy; None where only counts are known.
        kl_nats: Mean KL(main || this), from 0; None where only counts are known.
        max_ce_nats: Largest cross entropy of one image (eps1 of the paper's Appendix B, for the main network); None where only
            counts are known.

    Example:
        >>> result = Result.counted(Spec.from_text("1.3"), images=200, correct=150, lost=20, won=10)
        >>> result.accuracy_pct, result.drop_pct
        (75.0, 5.0)
        >>> Result.from_dict(result.to_dict()) == result
        True
    """

    spec: Spec
    correct: int
    images: int
    accuracy_pct: float
    interval_pct: Interval
    drop_pct: float
    drop_interval_pct: Interval
    ce_nats: float | None = None
    kl_nats: float | None = None
    max_ce_nats: float | None = None

    @classmethod
    def counted(
        cls,
        spec: Spec,
        *,
        images: int,
        correct: int,
        lost: int,
        won: int,
        ce_nats: float | None = None,
        kl_nats: float | None = None,
        max_ce_nats: float | None = None,
    ) -> Self:
        """Return the result of counts; numbers are rounded to the six decimals that are stored.

        Args:
            spec: The sub-network.
            images: Number of images.
            correct: Images that were classified correctly.
            lost: Images that only the main network classifies correctly.
            won: Images that only this sub-network classifies correctly.
            ce_nats: Mean cross entropy.
            kl_nats: Mean KL(main || this).
            max_ce_nats: Largest cross entropy of one image.
        """
        drop = paired_drop(lost, won, images)
        return cls(
            spec=spec,
            correct=correct,
            images=images,
            accuracy_pct=round(100 * correct / images, 6),
            interval_pct=_rounded(wilson(correct, images)),
            drop_pct=round(drop.drop_pct, 6),
            drop_interval_pct=_rounded(drop.interval_pct),
            ce_nats=None if ce_nats is None else round(ce_nats, 6),
            kl_nats=None if kl_nats is None else round(kl_nats, 6),
            max_ce_nats=None if max_ce_nats is None else round(max_ce_nats, 6),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        return {
            "spec": str(self.spec),
            "correct": self.correct,
            "images": self.images,
            "accuracy_pct": self.accuracy_pct,
            "interval_pct": list(self.interval_pct),
            "drop_pct": self.drop_pct,
            "drop_interval_pct": list(self.drop_interval_pct),
            "ce_nats": self.ce_nats,
            "kl_nats": self.kl_nats,
            "max_ce_nats": self.max_ce_nats,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the result that `to_dict` wrote; unknown keys are ignored.

        Raises:
            ValueError: A key is missing, a value has another type, or counts contradict each other.
            SpecError: The spec is not in its long form.
        """
        if not isinstance(value, Mapping) or not set(_REQUIRED) <= set(value):
            keys = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"a result has the keys {', '.join(_REQUIRED)} and may have {', '.join(_OPTIONAL)}, not {keys}")
        correct, images = value["correct"], value["images"]
        if not (_is_int(correct) and _is_int(images) and 0 <= correct <= images and images > 0):
            raise ValueError(f"{correct} of {images} images: counts are whole numbers, 0 <= correct <= images, images from 1")
        return cls(
            spec=Spec.from_text(_text(value["spec"])),
            correct=correct,
            images=images,
            accuracy_pct=_number(value["accuracy_pct"]),
            interval_pct=_interval(value["interval_pct"]),
            drop_pct=_number(value["drop_pct"]),
            drop_interval_pct=_interval(value["drop_interval_pct"]),
            **{key: None if value.get(key) is None else _number(value[key]) for key in _OPTIONAL},
        )


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Results of a family of sub-networks of one bundle.

    Attributes:
        experiment: Name of the experiment.
        method: Folder of the bundle inside the experiment.
        kind: Family: `ordered`, `delete` or `permute`.
        provider: onnxruntime's name of the execution provider.
        images: Number of images behind every result.
        main: Result of the main network.
        results: Results of the family, in the order of its enumeration.
        bundle: Fingerprint of the bundle; empty in sweeps that are older than fingerprints.
        sampled: Seed of the random sample that the results are; None where they are the whole family.

    Example:
        >>> main = Result.counted(Spec.from_text("1-2"), images=10, correct=9, lost=0, won=0)
        >>> sweep = Sweep(experiment="toy", method="common", kind="ordered", provider="CPUExecutionProvider", images=10,
        ...               main=main, results=(main,))
        >>> Sweep.from_dict(sweep.to_dict()) == sweep
        True
    """

    experiment: str
    method: str
    kind: str
    provider: str
    images: int
    main: Result
    results: Sequence[Result]
    bundle: str = ""
    sampled: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as `sweep-KIND.json` and `sample-KIND.json` hold it; only a sample has the key `sampled`."""
        return ({} if self.sampled is None else {"sampled": self.sampled}) | {
            "experiment": self.experiment,
            "method": self.method,
            "kind": self.kind,
            "provider": self.provider,
            "bundle": self.bundle,
            "images": self.images,
            "main": self.main.to_dict(),
            "results": [result.to_dict() for result in self.results],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the sweep that `to_dict` wrote.

        Raises:
            ValueError: The value is not a sweep, or one of its results is not a result.
            SpecError: A spec is not in its long form.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("results"), list):
            raise ValueError("a sweep is an object with a list of results")
        texts = {key: _text(value.get(key)) for key in ("experiment", "method", "kind", "provider")}
        if not _is_int(value.get("images")):
            raise ValueError(f"images is {value.get('images')!r}: it must be a whole number")
        if value.get("sampled") is not None and not _is_int(value["sampled"]):
            raise ValueError(f"sampled is {value['sampled']!r}: it must be a whole number")
        return cls(
            **texts,
            images=value["images"],
            bundle=_text(value.get("bundle", "")),
            main=Result.from_dict(value.get("main", {})),
            results=tuple(map(Result.from_dict, value["results"])),
            sampled=value.get("sampled"),
        )


_REQUIRED = ("spec", "correct", "images", "accuracy_pct", "interval_pct", "drop_pct", "drop_interval_pct")
_OPTIONAL = ("ce_nats", "kl_nats", "max_ce_nats")


def _rounded(interval: Interval) -> Interval:
    return round(interval[0], 6), round(interval[1], 6)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _number(value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value != value
        or value in (float("inf"), -float("inf"))
    ):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _interval(value: object) -> Interval:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{value!r} is not an interval of two numbers")
    return _number(value[0]), _number(value[1])
