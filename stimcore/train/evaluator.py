"""Accuracies during training: those of the main network and of the watched sub-networks."""

import copy
from collections.abc import Mapping
from typing import Any

from stimcore.data.images import Dataset, calibration_subset
from stimcore.data.subset import stratified
from stimcore.nets.staged import StagedNet
from stimcore.recipes.recipe import Recipe
from stimcore.reference.evaluate import evaluate
from stimcore.reference.prefix_tree import evaluate_together
from stimcore.subnets.spec import Spec
from stimcore.train.watch import accuracy_record, watched_record


class Evaluator:
    """Measures a network while it is trained; the training itself is not influenced.

    Args:
        net: The network, before its blocks are compiled or its batch norms are synchronised.
        dataset: Training images to calibrate batch norms on, and test images.
        recipe: The number of images for the watched sub-networks.
        watched: Name -> watched sub-network.
        separate: Whether to evaluate a copy of the network as it is now. This is needed when blocks will be compiled, because
            re-calibration copies plain modules, and when batch norms will be synchronised, because these would wait for
            processes that don't evaluate.
    """

    def __init__(
        self, net: StagedNet, dataset: Dataset, recipe: Recipe, watched: Mapping[str, Spec], *, separate: bool = False
    ) -> None:
        self.dataset, self.watched = dataset, dict(watched)
        self.calibration = calibration_subset(dataset.train)
        self.watch_images = stratified(dataset.test, recipe.watch_images)
        self._net = net
        self._copy = copy.deepcopy(net) if separate else None

    def guesses(self) -> dict[str, float]:
        """Return the seconds of both measurements as shares of the training seconds of an epoch, until they are measured.

        A training step is counted as three forward passes.
        """
        passes = 3 * len(self.dataset.train)
        return {
            "evaluate_seconds": (len(self.dataset.test) + len(self.calibration)) / passes,
            "watch_seconds": len(self.watched) * (len(self.watch_images) + len(self.calibration)) / passes,
        }

    def main(self) -> dict[str, Any]:
        """Return the accuracy of the main network on all test images, batch norms re-calibrated."""
        net, data = self._current(), self.dataset
        predictions = evaluate(net, net.topology.full, data.test, data.normalisation, calibration=self.calibration)
        return accuracy_record(predictions)

    def subnets(self) -> list[dict[str, Any]]:
        """Return the accuracies of the watched sub-networks on their sample of test images, batch norms re-calibrated."""
        predictions = evaluate_together(
            self._current(),
            list(self.watched.values()),
            self.watch_images,
            self.dataset.normalisation,
            calibration=self.calibration,
        )
        return [watched_record(name, spec, predictions[spec]) for name, spec in self.watched.items()]

    def _current(self) -> StagedNet:
        """Return the network to evaluate, with the weights as they are now."""
        if self._copy is None:
            return self._net
        self._copy.module.load_state_dict(self._net.module.state_dict())
        return self._copy
