"""Which networks are compared: the same rules for report and dashboard."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stimcore.analysis import paper
from stimcore.analysis.comparisons import (
    NestedNetwork,
    Option,
    best_within,
    count_agreeing_pairs,
    lambda_ablation,
    nested_family,
    nested_table,
    pareto_front,
    ranking,
    twin_gaps,
)
from stimcore.analysis.estimates import accuracy
from stimcore.analysis.networks import METHOD_ORDER, TrainedNetwork, find_base, find_method, method_position
from stimcore.analysis.result import Result, Sweep
from stimcore.analysis.seeds import group_by_run, over_seeds
from stimcore.recipes.catalogue import recipe
from stimcore.subnets.spec import Spec
from stimcore.train.request import with_true_label
from tests.analysis.made import FULL, result, sweep


def network(name: str, method: str, correct: int = 900, **values: Any) -> TrainedNetwork:
    return TrainedNetwork(
        name=name, method=method, **{"depths": (3, 3), "twin": False, "main": result(FULL, correct), **values}
    )


def test_methods_stand_in_the_order_of_table_r3() -> None:
    assert tuple(row.method for row in paper.TABLE_R3) == METHOD_ORDER
    assert sorted(["my_own", "stimulative", "layer_supervision", "common"], key=method_position) == [
        "common",
        "layer_supervision",
        "stimulative",
        "my_own",
    ]


def test_a_method_is_the_network_of_its_name_else_the_only_one() -> None:
    plain, strong, stronger = (network(name, "stimulative") for name in ("stimulative", "lambda5", "lambda10"))
    assert find_method([strong, plain], "stimulative") is plain
    assert find_method([strong], "stimulative") is strong
    assert find_method([strong, stronger], "stimulative") is None
    assert find_method([network("twin", "common", twin=True)], "common") is None


def test_the_base_is_common_training_else_imported_weights() -> None:
    common, imported = network("common", "common"), network("weights", "imported")
    assert find_base([imported, common]) is common
    assert find_base([imported]) is imported
    assert find_base([network("stimulative", "stimulative")]) is None


def test_gaps_are_of_twins_that_the_main_network_was_swept_for() -> None:
    twin = network("twin-d1-1", "common", 880, depths=(1, 1), twin=True)
    other = network("twin-d2-2", "common", 880, depths=(2, 2), twin=True)
    swept = network("common", "common", sweeps={"ordered": sweep({"1.4": 100, FULL: 900}, FULL, 900)})
    (gap,) = twin_gaps([twin, other, swept], swept)
    assert gap.twin is twin
    assert gap.points.value == pytest.approx(78.0)
    assert twin_gaps([twin], network("common", "common")) == []


@pytest.mark.parametrize("method", ["common", "imported"])
def test_imported_weights_are_nested_like_common_training(method: str) -> None:
    twins = [network(f"twin-{depth}", method, depths=(depth, depth), twin=True) for depth in (2, 1)]
    stimulative = network("twin-stimulative", "stimulative", depths=(1, 2), twin=True)
    members = nested_family([*twins, stimulative, network("whole", method)], "six")
    assert [(member.name, member.depths) for member in members] == [("d1-1", (1, 1)), ("d2-2", (2, 2)), ("six", (3, 3))]


def nested(name: str, depths: tuple[int, ...], main: Result, swept: Sweep | None) -> NestedNetwork:
    return NestedNetwork(name, network(name, "common", depths=depths, main=main, sweeps={"ordered": swept} if swept else {}))


def test_table_is_upper_triangular() -> None:
    small = nested("small", (1, 1), result("1.2", 800), sweep({"1.2": 800}, "1.2", 800))
    large = nested("large", (2, 2), result("1-2.3-4", 900), sweep({"1.3": 200, "1-2.3-4": 900}, "1-2.3-4", 900))
    assert {cell: each.value for cell, each in nested_table([small, large]).items()} == {
        ("small", "small"): 80.0,
        ("small", "large"): 20.0,
        ("large", "large"): 90.0,
    }


def test_cells_are_means_over_the_seeds_of_the_main_network() -> None:
    small = nested("small", (1, 1), result("1.2", 800), None)
    runs = [
        network(f"large{seed}", "common", depths=(2, 2), seed=seed, sweeps={"ordered": sweep({"1.3": count}, "1-2.3-4", 900)})
        for seed, count in enumerate((200, 240))
    ]
    (large,) = group_by_run(runs)
    assert nested_table([small, NestedNetwork("large", large)])["small", "large"] == over_seeds([20.0, 24.0])


def test_a_family_has_the_seeds_that_all_of_it_have() -> None:
    """A cell that is a mean over more seeds than the one beside it would tell the luck of these seeds."""
    twins = [network(f"twin-{seed}", "common", depths=(1, 1), twin=True, main=result("1.2", 800), seed=seed) for seed in (1, 2)]
    mains = [network(f"common-{seed}", "common", 900 + seed, seed=seed) for seed in (0, 1)]
    family = nested_family(group_by_run([*mains, *twins]), "six")
    assert [(member.name, member.network.seed, member.network.repeats) for member in family] == [
        ("d1-1", 1, ()),
        ("six", 1, ()),
    ]


def test_table_leaves_out_what_is_not_nested_or_not_swept() -> None:
    tall = nested("tall", (1, 3), result("1.2-3-4", 800), sweep({"1.2": 1}, "1.2-3-4", 800))
    wide = nested("wide", (3, 1), result("1-2-3.4", 900), None)
    huge = nested("huge", (3, 3), result(FULL, 950), None)
    assert set(nested_table([tall, wide, huge])) == {("tall", "tall"), ("wide", "wide"), ("huge", "huge")}


def test_table_holds_networks_that_share_a_depth() -> None:
    small = nested("small", (2, 1), result("1-2.3", 800), None)
    large = nested("large", (2, 2), result("1-2.3-4", 900), sweep({"1-2.3": 700}, "1-2.3-4", 900))
    assert nested_table([small, large])["small", "large"].value == 70.0


def test_what_was_exported_counts_where_nothing_was_swept() -> None:
    """DenseNet-201 has 110,592 ordered sub-networks: nobody sweeps them for the three of Table r5."""
    rows = {"1.3": [1, 0, 0, 0], "1-2.3-4": [1, 1, 0, 0]}

    def hits(spec: Spec) -> np.ndarray | None:
        return np.array(rows[str(spec)], bool) if str(spec) in rows else None

    small = network("twin-d1-1", "common", depths=(1, 1), twin=True, main=result("1.2", 800))
    large = network("common", "common", depths=(2, 2), main=result("1-2.3-4", 900), hits=hits)
    cell = nested_table([NestedNetwork("small", small), NestedNetwork("large", large)])["small", "large"]
    assert cell == accuracy(Result.counted(Spec.from_text("1.3"), images=4, correct=1, lost=1, won=0))
    (gap,) = twin_gaps([small, network("twin-d2-1", "common", depths=(2, 1), twin=True), large], large)
    assert gap.twin is small
    partly = network("common", "common", depths=(2, 2), sweeps={"ordered": sweep({"1-2.3": 700}, "1-2.3-4", 900)}, hits=hits)
    assert nested_table([NestedNetwork("small", small), NestedNetwork("large", partly)])["small", "large"] == cell


def stimulative(weight: float, epochs: int, **values: Any) -> TrainedNetwork:
    recipe = {"epochs": epochs, "options": {"weight": weight}}
    return network(f"lambda{weight:g}", "stimulative", options={"weight": weight}, recipe=recipe, **values)


def test_lambdas_have_one_recipe_and_are_sorted() -> None:
    common = network("common", "common", recipe={"epochs": 4})
    runs = [stimulative(10.0, 4), stimulative(1.0, 4), stimulative(5.0, 500), stimulative(2.0, 4, twin=True)]
    ablation = lambda_ablation([*runs, common])
    assert [weight for weight, _ in ablation.points] == [1.0, 10.0]
    assert ablation.common == common


@pytest.mark.parametrize("name", ["mobilenetv3-cifar100", "mobilenetv3-cifar10", "resnet50-cifar100", "resnet20-fashion"])
def test_every_lambda_of_a_papers_recipe_belongs_to_its_figure(name: str) -> None:
    """Another lambda changes the label of the recipe, and nothing else of it."""
    base = recipe(name)
    runs = [network("common", "common", recipe=with_true_label(base, "common", {}).to_dict())]
    for weight in (0.5, 1.0, 5.0, 10.0):
        options = {**base.options.get("stimulative", {}), "weight": weight}
        label = with_true_label(base, "stimulative", options)
        runs.append(network(f"lambda{weight:g}", "stimulative", options=options, recipe=label.to_dict()))
    assert [weight for weight, _ in lambda_ablation(runs).points] == [0.5, 1.0, 5.0, 10.0]


def test_lambdas_are_compared_on_the_seeds_that_all_have() -> None:
    """A mean over three seeds beside one seed tells the luck of the other two."""
    common = [network(f"common-{seed}", "common", recipe={"epochs": 4}, seed=seed) for seed in (0, 1, 2)]
    runs = [stimulative(1.0, 4, seed=seed, main=result(FULL, 900 + seed)) for seed in (0, 1, 2)]
    ablation = lambda_ablation(group_by_run([*common, *runs, stimulative(0.5, 4, seed=1)]))
    assert ablation.common is not None
    assert [run.seed for run in (ablation.common, *(run for _, run in ablation.points))] == [1, 1, 1]
    assert [run.main.correct for _, run in ablation.points][1] == 901


def test_lambdas_without_common_training_are_the_largest_group_of_one_recipe() -> None:
    ablation = lambda_ablation([stimulative(5.0, 500), stimulative(10.0, 4), stimulative(1.0, 4), stimulative(0.0, 4)])
    assert [weight for weight, _ in ablation.points] == [1.0, 10.0]
    assert ablation.common is None
    assert lambda_ablation([]).points == []


def test_runs_with_other_options_are_not_runs_over_lambda() -> None:
    """A control, such as another sample space at the same lambda, must not become a second point over that lambda."""
    common = network("common", "common", recipe={"epochs": 4})
    control = replace(stimulative(1.0, 4), name="stimulative-deletions", options={"weight": 1.0, "sample": "deletions"})
    standing = replace(stimulative(1.0, 4), name="stimulative", options={"weight": 1.0, "sample": "ordered"})
    large = replace(stimulative(5.0, 4), name="stimulative-lambda5", options={"weight": 5.0, "sample": "ordered"})
    second = replace(control, name="stimulative-deletions2", options={"weight": 2.0, "sample": "deletions"})
    third = replace(control, name="stimulative-deletions3", options={"weight": 3.0, "sample": "deletions"})
    ablation = lambda_ablation([control, second, third, large, standing, common])
    assert [run.name for _, run in ablation.points] == ["stimulative", "stimulative-lambda5"]
    without = lambda_ablation([control, second, third, large, common])
    assert [weight for weight, _ in without.points] == [1.0, 2.0, 3.0]


def test_pareto_front_and_budget() -> None:
    options = [
        Option(str(i), accuracy, cost) for i, (accuracy, cost) in enumerate([(90, 3), (80, 1), (70, 2), (90, 4), (85, 2)])
    ]
    assert [(o.accuracy_pct, o.cost) for o in pareto_front(options)] == [(80, 1), (85, 2), (90, 3)]
    best = best_within(options, 4)
    assert best is not None
    assert (best.accuracy_pct, best.cost) == (90, 3)
    assert best_within(options, 0.5) is None
    assert pareto_front([]) == []


def test_ranking_and_agreement() -> None:
    ours = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert ranking(ours) == ["a", "c", "b"]
    assert count_agreeing_pairs(ours, {"a": 30, "b": 20, "c": 10}) == (2, 3)
    assert count_agreeing_pairs(ours, {"a": 30, "z": 1}) == (0, 0)
    assert count_agreeing_pairs({"a": 1.0, "b": 1.0}, {"a": 2, "b": 1}) == (0, 1)
