"""The names of the training methods, which help texts and reports use without importing what the methods are made of."""

METHOD_CLASSES: dict[str, str] = {
    "common": "stimcore.methods.common:Common",
    "layer_supervision": "stimcore.methods.layer_supervision:LayerSupervision",
    "stage_supervision": "stimcore.methods.stage_supervision:StageSupervision",
    "self_distillation": "stimcore.methods.self_distillation:SelfDistillation",
    "stochastic_depth": "stimcore.methods.stochastic_depth:StochasticDepth",
    "stimulative": "stimcore.methods.stimulative:Stimulative",
}
"""Name -> `MODULE:CLASS`, in the order of the paper's Table r3, which tables and legends follow."""


def short_name(name: str) -> str:
    """Return a method's name as names of runs and folders have it: for an own method that of its class.

    Example:
        >>> short_name("stimulative"), short_name("my_methods:Mixed")
        ('stimulative', 'Mixed')
    """
    return name.rpartition(":")[2]
