"""The experiments as literal lists of commands."""

from collections.abc import Sequence
from dataclasses import replace

from stimcore.bundle.bundle import AS_TRAINED
from stimcore.errors import UsageError
from stimcore.experiments.commands import IMAGES, RUNS, WEIGHTS, Command, ExperimentPlan
from stimcore.experiments.planned import (
    SEEDS,
    SIX_METHODS,
    PlannedRun,
    any_block,
    both_methods,
    bundle_commands,
    twin,
    with_seeds,
)

RESNET20 = PlannedRun(experiment="resnet20-fashion", recipe="resnet20-fashion")
FAN = ("main", "d1-1-1", "d2-2-2", "d1-2-3", "d3-2-1", "d2-3-2")
"""Listed sub-networks of ResNet-20 where not all 27 are: those that the recipe watches."""
FURTHER_EPOCHS = "78"
"""Epochs of common training that take the processor time of 60 epochs of stimulative training. Measured at seed 0 on two cores
of an Intel Xeon: an epoch took 14.9 s with common and 19.3 s with stimulative training (medians over 60 epochs)."""

BOTH_WAYS = (*PlannedRun.sweeps, f"ordered{AS_TRAINED}")
"""All families, and the ordered sub-networks without re-calibration, too."""

METHOD_RUNS = tuple(
    replace(RESNET20, sweeps=BOTH_WAYS, method=method, subnets=("ordered",) if method in SIX_METHODS[:2] else FAN)
    for method in SIX_METHODS
)
TWIN_RUNS = tuple(twin("resnet20-fashion", "resnet20-fashion", spec) for spec in ("d1-1-1", "d2-2-2"))
CONTROL = replace(RESNET20, subnets=("main",), sweeps=("ordered", "delete"))
CONTROL_RUNS = (
    any_block(CONTROL),
    replace(CONTROL, name="stimulative-labels", train=("--option", "target=labels")),
    replace(CONTROL, name="stimulative-sandwich", train=("--option", "sandwich=true")),
    replace(CONTROL, name="stochastic_depth-0.5", method="stochastic_depth", train=("--option", "last_survival=0.5")),
    replace(CONTROL, name=f"common-epochs{FURTHER_EPOCHS}", method="common", train=("--epochs", FURTHER_EPOCHS)),
)
LAMBDA_RUNS = tuple(
    replace(RESNET20, name=f"stimulative-lambda{w}", train=("--lambda", w), subnets=("main",), sweeps=("ordered",))
    for w in ("0.5", "5", "10")
)

RESNET20_FASHION = ExperimentPlan(
    name="resnet20-fashion",
    about="Table r3, Figs r1 to r8 and fair controls, three seeds each; twins ResNet-8 and ResNet-14",
    commands=tuple(
        with_seeds(
            (*METHOD_RUNS, *TWIN_RUNS, *CONTROL_RUNS, *LAMBDA_RUNS),
            {
                "common": ("ordered", "delete", f"ordered{AS_TRAINED}"),
                "stimulative": ("ordered", "delete", f"ordered{AS_TRAINED}"),
                "stimulative-deletions": ("ordered", "delete"),
                **{method: ("ordered",) for method in SIX_METHODS[2:]},
                **{run.name: ("ordered",) for run in (*TWIN_RUNS, *CONTROL_RUNS[1:])},
            },
        )
    ),
)

MOBILENETV3 = PlannedRun(experiment="mobilenetv3-fashion", recipe="mobilenetv3-fashion")
MOBILENETV3_FAN = ("main", "d1-1-1-1-1", "d1-2-2-1-2", "d2-3-2-1-2", "d1-2-4-2-3")

MOBILENETV3_FASHION = ExperimentPlan(
    name="mobilenetv3-fashion",
    about="the paper's network at half width, three seeds: 144 ordered sub-networks, 511 deletions, Table r2's arrangements",
    commands=tuple(
        with_seeds(
            (
                *(replace(MOBILENETV3, method=method, subnets=MOBILENETV3_FAN, sweeps=BOTH_WAYS) for method in SIX_METHODS[:2]),
                *(twin("mobilenetv3-fashion", "mobilenetv3-fashion", spec) for spec in ("d1-1-1-1-1", "d1-2-2-1-2")),
            ),
            {"common": ("ordered",), "stimulative": ("ordered",)},
        )
    ),
)

DENSENET = PlannedRun(
    experiment="densenet-loafing",
    recipe="densenet-fashion",
    method="common",
    subnets=("main", "d2-3-6-4", "d2-3-8-8"),
    sweeps=("ordered",),
)

DENSENET_LOAFING = ExperimentPlan(
    name="densenet-loafing",
    about="a nested family of three DenseNets, each trained alone: Tables r5 and r6",
    commands=(
        *DENSENET.commands(),
        *twin("densenet-loafing", "densenet-fashion", "d2-3-6-4").commands(),
        *twin("densenet-loafing", "densenet-fashion", "d2-3-8-8", subnets=("main", "d2-3-6-4")).commands(),
    ),
)

VIT_TINY = PlannedRun(experiment="vit-tiny-fashion", recipe="vit-tiny-fashion", subnets=FAN)
VIT_TINY_FASHION = ExperimentPlan(
    name=VIT_TINY.experiment,
    about="a vision transformer with both methods: do transformers loaf?",
    commands=both_methods(VIT_TINY),
)

CONVNEXT_MINI = PlannedRun(
    experiment="convnext-mini-fashion",
    recipe="convnext-mini-fashion",
    subnets=("main", "d1-1-1", "d2-2-2", "d1-2-4", "d3-2-1", "d2-3-3"),
)
CONVNEXT_MINI_FASHION = ExperimentPlan(
    name=CONVNEXT_MINI.experiment,
    about="a ConvNeXt, which has no batch norms, with both methods",
    commands=both_methods(CONVNEXT_MINI),
)

ANY_BLOCK = ExperimentPlan(
    name="any-block",
    about="training on any deletions beyond ResNet-20: can a transformer and a ConvNeXt lose any block?",
    committed=False,
    experiments=(VIT_TINY.experiment, CONVNEXT_MINI.experiment),
    commands=tuple(
        command for run in (VIT_TINY, CONVNEXT_MINI) for command in any_block(replace(run, subnets=("main",))).commands()
    ),
)
LAMBDA_SEEDS = ExperimentPlan(
    name="lambda-seeds",
    about="two further seeds of ResNet-20 with a lambda of 0.5 and of 5 (Fig. r3)",
    committed=False,
    experiments=(RESNET20.experiment,),
    commands=tuple(command for run in LAMBDA_RUNS[:2] for seed in SEEDS[1:] for command in replace(run, seed=seed).commands()),
)


def _capacity(network: str, *, methods: Sequence[str] = ("common", "stimulative")) -> ExperimentPlan:
    """Return the plan that asks whether the main network gains with capacity: common training beside lambda 0.5 and 1."""
    name = f"{network}-fashion"
    run = PlannedRun(experiment=name, recipe=name, subnets=("main",), sweeps=("ordered",))
    half = replace(run, name="stimulative-lambda0.5", train=("--lambda", "0.5"))
    runs = (*(replace(run, method=method) for method in methods), half)
    return ExperimentPlan(
        name=name,
        about=f"does the main network gain with capacity? {network} with common training, lambda 0.5 and 1",
        committed=False,
        commands=tuple(command for each in runs for command in each.commands()),
    )


def _imported(network: str, file: str) -> Command:
    """Return the command that makes a run folder of pre-trained weights."""
    run = f"{RUNS}/resnet-family-cifar10/{network}"
    words = ("--network", network, "--run-dir", run, "--dataset", IMAGES)
    return Command(("stimcore.convert", f"{WEIGHTS}/{file}", *words), f"{run}/run.json", run)


RESNET_FAMILY_CIFAR10 = ExperimentPlan(
    name="resnet-family-cifar10",
    about="pre-trained ResNet-20 inside pre-trained ResNet-32, the setting of Fig. 1 (paper, C.4)",
    committed=False,
    commands=(
        _imported("resnet32", "resnet32-d509ac18.th"),
        _imported("resnet20", "resnet20-12fca82f.th"),
        *bundle_commands(
            "resnet-family-cifar10", "imported", f"{RUNS}/resnet-family-cifar10/resnet32", subnets=("main", "d3-3-3")
        ),
        *bundle_commands(
            "resnet-family-cifar10",
            "twin-d3-3-3",
            f"{RUNS}/resnet-family-cifar10/resnet20",
            export=("--as", "d3-3-3", "--latency"),
            subnets=("main",),
        ),
    ),
)

RESNET20_CIFAR10 = ExperimentPlan(
    name="resnet20-cifar10",
    about="ResNet-20 with common and stimulative training on CIFAR-10's images, three seeds",
    committed=False,
    commands=tuple(
        with_seeds(
            [
                PlannedRun(experiment="resnet20-cifar10", recipe="resnet20-cifar10", method=method, train=("--dataset", IMAGES))
                for method in ("common", "stimulative")
            ],
            {"common": ("ordered",), "stimulative": ("ordered",)},
        )
    ),
)

PAPER_MOBILENETV3 = PlannedRun(experiment="mobilenetv3-cifar100", recipe="mobilenetv3-cifar100", subnets=("main", "d1-1-1-1-1"))
"""Its sweeps are those of Figs r1 and r4 to r8: 144 ordered sub-networks, 511 deletions and the arrangements of Table r2."""
PAPER_PAIRS = ("mobilenetv3-cifar10", "mobilenetv3-cifar100", "resnet50-cifar100")
"""The three settings of Table r4 and Fig. r2, which are names of recipes and of experiments alike."""

PAPER_TABLE_R3 = ExperimentPlan(
    name="paper-table-r3",
    about="the paper's settings: six methods, MobileNetV3, CIFAR-100 (Table r3, Figs r4 to r8; GPU, days)",
    committed=False,
    experiments=("mobilenetv3-cifar100",),
    commands=tuple(command for method in SIX_METHODS for command in replace(PAPER_MOBILENETV3, method=method).commands()),
)

PAPER_TABLE_R4 = ExperimentPlan(
    name="paper-table-r4",
    about="the paper's settings: common and stimulative training in three settings (Table r4, Figs r1, r2; GPU, days)",
    committed=False,
    experiments=PAPER_PAIRS,
    commands=tuple(
        command
        for name in PAPER_PAIRS
        for command in both_methods(PlannedRun(experiment=name, recipe=name, subnets=("main",), sweeps=("ordered",)))
    ),
)

DENSENET_DEPTHS = {"densenet121": "d6-12-24-16", "densenet169": "d6-12-32-32", "densenet201": "d6-12-48-32"}
"""Networks of Table r6 inside the largest one, DenseNet-264, as sub-networks of it."""

PAPER_TABLE_R6 = ExperimentPlan(
    name="paper-table-r6",
    about="the paper's settings: DenseNet-121, 169, 201 and 264 on CIFAR-100 (Table r6; GPU, days)",
    committed=False,
    experiments=("densenet264-cifar100",),
    commands=tuple(
        command
        for name, depths, inside in (
            ("densenet264", "", tuple(DENSENET_DEPTHS.values())),
            ("densenet201", DENSENET_DEPTHS["densenet201"], tuple(DENSENET_DEPTHS.values())[:2]),
            ("densenet169", DENSENET_DEPTHS["densenet169"], tuple(DENSENET_DEPTHS.values())[:1]),
            ("densenet121", DENSENET_DEPTHS["densenet121"], ()),
        )
        for command in PlannedRun(
            experiment="densenet264-cifar100",
            recipe="densenet264-cifar100",
            method="common",
            name=f"twin-{depths}" if depths else "",
            train=("--spec", depths) if depths else (),
            subnets=("main", *inside),
            sweeps=(),  # the manifest holds the accuracies of the listed networks, which are all that the table asks for
        ).commands()
    ),
)

PAPER_FIGURE_R3 = ExperimentPlan(
    name="paper-figure-r3",
    about="the paper's settings: lambda in three settings (Fig. r3; GPU, weeks)",
    committed=False,
    experiments=PAPER_PAIRS,
    commands=tuple(
        command
        for name in PAPER_PAIRS
        for command in (
            *PlannedRun(experiment=name, recipe=name, method="common", subnets=("main",), sweeps=("ordered",)).commands(),
            *(
                step
                for weight in ("0.5", "1", "5", "10")
                for step in PlannedRun(
                    experiment=name,
                    recipe=name,
                    name=f"stimulative-lambda{weight}",
                    train=("--lambda", weight),
                    subnets=("main",),
                    sweeps=("ordered",),
                ).commands()
            ),
        )
    ),
)

PLANS: dict[str, ExperimentPlan] = {
    plan.name: plan
    for plan in (
        RESNET20_FASHION,
        MOBILENETV3_FASHION,
        DENSENET_LOAFING,
        VIT_TINY_FASHION,
        CONVNEXT_MINI_FASHION,
        ANY_BLOCK,
        LAMBDA_SEEDS,
        _capacity("resnet20-w2"),
        _capacity("resnet44"),
        RESNET_FAMILY_CIFAR10,
        RESNET20_CIFAR10,
        PAPER_TABLE_R3,
        PAPER_TABLE_R4,
        PAPER_TABLE_R6,
        PAPER_FIGURE_R3,
    )
}
"""Name -> plan."""

ALIASES = {"resnet20-fashion-lambda": "resnet20-fashion"}
"""Second names of plans: the runs over lambda (Fig. r3) belong to the experiment whose recipe they share."""


def find_plan(name: str) -> ExperimentPlan:
    """Return the plan with this name.

    Raises:
        UsageError: There is none.

    Example:
        >>> find_plan("densenet-loafing").about
        'a nested family of three DenseNets, each trained alone: Tables r5 and r6'
    """
    name = ALIASES.get(name, name)
    if name not in PLANS:
        raise UsageError(f"there is no experiment '{name}'", allowed=", ".join(PLANS))
    return PLANS[name]
