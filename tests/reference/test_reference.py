"""The torch reference: re-calibration by its definition, and the tree of prefixes equal to one by one."""

import random

import numpy as np
import pytest
import torch

from stimcore.data.images import Images
from stimcore.data.normalise import Normalisation
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import recalibrated
from stimcore.reference.evaluate import Predictions, evaluate
from stimcore.reference.prefix_tree import evaluate_together, reference_logits
from stimcore.subnets.families import deletions, ordered, permutations
from tests.bundles import random_net

NORMALISATION = Normalisation((0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def net() -> StagedNet:
    return random_net("resnet20", 8, 0)


def pictures(count: int, seed: int) -> Images:
    generator = np.random.Generator(np.random.PCG64(seed))
    pixels = generator.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    return Images(pixels=pixels, labels=generator.integers(0, 5, count))


def test_statistics_are_the_plain_average_of_batch_means_and_unbiased_variances(net: StagedNet) -> None:
    images = torch.randn((11, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    first = batch_norms(recalibrated(net, net.topology.full, images, batch_size=4))[0]
    with torch.no_grad():
        outputs = [
            net.module.get_submodule("conv1")(batch) for batch in torch.split(images, 4)
        ]  # what the first batch norm receives
    assert first.running_mean is not None
    assert first.running_var is not None
    assert torch.allclose(first.running_mean, torch.stack([x.mean((0, 2, 3)) for x in outputs]).mean(0), atol=1e-6)
    assert torch.allclose(first.running_var, torch.stack([x.var((0, 2, 3)) for x in outputs]).mean(0), atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_blocks_that_do_not_run_keep_their_statistics(net: StagedNet) -> None:
    images = torch.randn((8, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    spec = net.topology.ordered([1, 1, 1])
    calibrated = recalibrated(net, spec, images)
    skipped = [norm for number in (2, 3) for norm in batch_norms(calibrated.block(number))]
    original = [norm for number in (2, 3) for norm in batch_norms(net.block(number))]
    for norm, other in zip(skipped, original, strict=True):
        assert norm.running_mean is not None
        assert other.running_mean is not None
        assert torch.equal(norm.running_mean, other.running_mean)


def test_the_tree_of_prefixes_is_one_by_one_bit_for_bit(net: StagedNet) -> None:
    topology = net.topology
    rng = random.Random(0)
    families = (ordered(topology), deletions(topology), permutations(topology))
    specs = [topology.full, *(spec for family in families for spec in rng.sample(list(family), 3))]
    specs = list(dict.fromkeys(specs))
    calibration, images = pictures(40, 1), pictures(30, 2)
    together = evaluate_together(net, specs, images, NORMALISATION, calibration=calibration)
    assert list(together) == specs
    for spec in specs:
        alone = evaluate(net, spec, images, NORMALISATION, calibration=calibration)
        assert np.array_equal(together[spec].logits, alone.logits)
        assert np.array_equal(together[spec].labels, images.labels)
    tensors = (torch.from_numpy(NORMALISATION(part.pixels)) for part in (calibration, images))
    logits = reference_logits(net, specs, *tensors)
    assert all(np.array_equal(logits[spec].numpy(), together[spec].logits) for spec in specs)


def test_without_calibration_the_running_statistics_are_used(net: StagedNet) -> None:
    images = pictures(12, 3)
    spec = net.topology.ordered([1, 2, 1])
    plain = evaluate(net, spec, images, NORMALISATION, calibration=None, batch_size=5)
    with torch.no_grad():
        expected = net(torch.from_numpy(NORMALISATION(images.pixels)), spec).numpy()
    assert np.allclose(plain.logits, expected, atol=1e-5)


def test_predictions_count_hits() -> None:
    predictions = Predictions(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))
    assert predictions.hits.tolist() == [True, True, True, False]
    assert (predictions.correct, predictions.accuracy_pct) == (3, 75.0)
