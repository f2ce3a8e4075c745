"""Which experiments belong together: the same network on the same images, however the runs were made."""

from typing import Any

import pytest

from app.networks import related_experiments
from stimcore.serve.types import ExperimentInfo
from tests.app.networks import MOBILENET, RESNET20


def experiment(name: str, **changes: Any) -> ExperimentInfo:
    values: dict[str, Any] = {
        "name": name,
        "dataset": "fashion-mnist",
        "licence": "MIT",
        "classes": ["a", "b"],
        "image_shape": (1, 28, 28),
        "mean": [0.5],
        "std": [0.5],
        "preprocessing": {"size": 28},
        "topology": RESNET20.to_dict(),
        "evaluation_images": 10_000,
        "calibration_images": 1000,
        "methods": [],
    }
    return ExperimentInfo(**(values | changes))


HERE = experiment("resnet20-fashion")


def test_runs_over_lambda_belong_to_the_experiment_beside_them() -> None:
    over_lambda = experiment("resnet20-fashion-lambda", licence="another text")
    assert related_experiments(HERE, [over_lambda, HERE]) == [HERE, over_lambda]


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "cifar10"},
        {"classes": ["b", "a"]},
        {"preprocessing": {"size": 32}},
        {"topology": MOBILENET.to_dict()},
        {"evaluation_images": 400},
    ],
)
def test_what_differs_in_network_or_images_does_not(changes: dict[str, Any]) -> None:
    assert related_experiments(HERE, [HERE, experiment("other", **changes)]) == [HERE]
