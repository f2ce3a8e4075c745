"""Names of networks that are not listed one by one, in words: the command line reads this without importing torch."""

PATTERNS = (
    "resnet14 for any 6n + 2 layers from 8 on, resnet20-w2 or mobilenetv3-w0.5 for a width, "
    "densenet-4-6-8-6-k12 for layers per stage and growth, vit-2-2-d32 and convnext-2-2-d16 for blocks per stage and width, "
    "torchvision:NAME, timm:NAME, MODULE:FUNCTION for your own"
)
"""Names other than those of `stimcore.nets.catalogue.NETWORKS`."""
