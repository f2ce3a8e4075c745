"""Loss terms against values computed by hand."""

import math

import pytest
import torch

from stimcore.methods.losses import batch_feature_distance, cross_entropy, feature_distance, kl_divergence, soft_cross_entropy
from tests.methods.conftest import gradient

EVEN = torch.zeros(1, 2)
ODD = torch.tensor([[math.log(3.0), 0.0]])  # softmax 3/4, 1/4


def test_cross_entropy_of_odds_three_to_one() -> None:
    assert cross_entropy(ODD, torch.tensor([0])).item() == pytest.approx(math.log(4 / 3))
    assert cross_entropy(ODD, torch.tensor([1])).item() == pytest.approx(math.log(4))
    both = cross_entropy(ODD.repeat(2, 1), torch.tensor([0, 1])).item()
    assert both == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_label_smoothing_mixes_in_the_mean_over_classes() -> None:
    plain, other = math.log(4 / 3), math.log(4)
    assert cross_entropy(ODD, torch.tensor([0]), 0.2).item() == pytest.approx(0.8 * plain + 0.2 * (plain + other) / 2)


def test_kl_from_main_to_sub() -> None:
    # 3/4 log(3/4 / 1/2) + 1/4 log(1/4 / 1/2)
    assert kl_divergence(ODD, EVEN).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    # the other way round it is another number: the direction matters
    assert kl_divergence(EVEN, ODD).item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))


def test_kl_with_temperature_is_multiplied_by_its_square() -> None:
    root = math.sqrt(3)  # odds of 3 to 1 at temperature 2 are root 3 to 1
    p = root / (1 + root)
    expected = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    assert kl_divergence(ODD, EVEN, 2.0).item() == pytest.approx(4 * expected)


def test_kl_averages_over_the_batch_and_is_zero_for_equal_logits() -> None:
    value = kl_divergence(torch.cat([ODD, ODD]), torch.cat([EVEN, ODD])).item()
    assert value == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2)
    assert kl_divergence(ODD, ODD + 7).item() == pytest.approx(0, abs=1e-6)  # a shift changes no probability


def test_the_main_logits_are_a_constant() -> None:
    main, sub = ODD.clone().requires_grad_(), EVEN.clone().requires_grad_()
    torch.autograd.backward(kl_divergence(main, sub))
    assert main.grad is None
    assert torch.allclose(gradient(sub), torch.tensor([[0.5 - 0.75, 0.5 - 0.25]]))


def test_soft_cross_entropy() -> None:
    # target 3/4, 1/4 against 1/2, 1/2
    assert soft_cross_entropy(ODD, EVEN).item() == pytest.approx(math.log(2))
    # itself against itself: the entropy
    assert soft_cross_entropy(ODD, ODD).item() == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    # temperature 2: no factor 4
    assert soft_cross_entropy(ODD, EVEN, 2.0).item() == pytest.approx(math.log(2))


def test_the_teacher_is_a_constant() -> None:
    teacher, student = ODD.clone().requires_grad_(), EVEN.clone().requires_grad_()
    torch.autograd.backward(soft_cross_entropy(teacher, student))
    assert teacher.grad is None
    assert torch.allclose(gradient(student), torch.tensor([[-0.25, 0.25]]))


def test_feature_distance_is_euclidean_and_averaged_over_images() -> None:
    student = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    value = feature_distance(student, torch.zeros(2, 2))
    assert value.item() == pytest.approx(2.5)
    torch.autograd.backward(value)
    assert torch.allclose(gradient(student), torch.tensor([[0.3, 0.4], [0.0, 0.0]]))  # finite where the distance is 0


def test_the_feature_distance_of_a_batch_is_one_root_of_all_squares() -> None:
    student = torch.tensor([[3.0, 4.0], [0.0, 12.0]], requires_grad=True)
    teacher = torch.zeros(2, 2, requires_grad=True)
    value = batch_feature_distance(student, teacher)
    assert value.item() == pytest.approx(13.0)  # 9 + 16 + 144 = 169
    torch.autograd.backward(value)
    assert torch.allclose(gradient(student), torch.tensor([[3 / 13, 4 / 13], [0.0, 12 / 13]]))
    assert teacher.grad is None
    same = torch.ones(2, 2, requires_grad=True)
    torch.autograd.backward(batch_feature_distance(same, torch.ones(2, 2)))
    assert torch.equal(gradient(same), torch.zeros(2, 2))  # finite where the distance is 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_reduce_in_single_precision(dtype: torch.dtype) -> None:
    low = ODD.to(dtype)
    assert kl_divergence(low, EVEN.to(dtype)).dtype == torch.float32
    assert cross_entropy(low, torch.tensor([0])).dtype == torch.float32
    assert soft_cross_entropy(low, low).dtype == torch.float32
    assert feature_distance(low, low).dtype == torch.float32
    assert batch_feature_distance(low, low).dtype == torch.float32
