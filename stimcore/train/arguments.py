"""The command line of `python -m stimcore.train`: see `docs/training.md`."""

from pathlib import Path

from stimcore import cli
from stimcore.methods.names import METHOD_CLASSES
from stimcore.recipes.catalogue import RECIPES


def parser() -> cli.Parser:
    """Return the parser of the command line; a test freezes its help text."""
    line = cli.Parser(prog="python -m stimcore.train", description="Train a network; the result is a run folder.")
    line.add_argument("recipe", nargs="?", metavar="RECIPE", help="one of: " + ", ".join(RECIPES))
    line.add_argument(
        "--recipe",
        dest="recipe_file",
        type=Path,
        metavar="FILE.toml",
        help="a recipe of your own instead; 'python -m stimcore.recipes show RECIPE' prints one to begin with",
    )
    line.add_argument(
        "--method",
        default="stimulative",
        help="one of: " + ", ".join(METHOD_CLASSES) + "; MODULE:CLASS for your own (default: %(default)s)",
    )
    line.add_argument(
        "--lambda",
        dest="weights",
        type=float,
        nargs="+",
        metavar="L",
        help="lambda of stimulative training; several values train one run each",
    )
    line.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method; can be given several times",
    )
    line.add_argument("--spec", help="train this sub-network alone (a twin), for example d1-1-1")
    line.add_argument(
        "--init",
        metavar="WEIGHTS",
        help="start from weights: a run folder, a bundle, a file (PyTorch or safetensors), torchvision:NAME such as "
        "torchvision:IMAGENET1K_V2; a head for other classes is made new",
    )
    line.add_argument("--ema", action="store_true", help="with --init: the average of the weights, which the file also has")
    line.add_argument("--seed", type=cli.seed, default=0, help="seed of everything random (default: %(default)s)")
    line.add_argument(
        "--name", help="name of the run in its experiment (default: the method and everything that differs from the recipe)"
    )
    line.add_argument(
        "--run-dir", type=cli.output_folder, metavar="DIR", help="run folder (default: runs/EXPERIMENT/NAME-SEED)"
    )
    line.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest checkpoint in the run folder; with more --epochs also a finished run",
    )
    cli.add_device(line)
    line.add_argument("--epochs", type=int, metavar="N", help="epochs, instead of the recipe's")
    line.add_argument("--batch-size", type=int, metavar="N", help="images per step over all processes, instead of the recipe's")
    line.add_argument(
        "--accumulate", type=int, metavar="N", help="compute a batch in N parts, one after the other, for less memory"
    )
    line.add_argument("--learning-rate", type=float, metavar="RATE", help="peak learning rate, instead of the recipe's")
    line.add_argument("--optimizer", choices=["sgd", "adamw"], help="optimiser, instead of the recipe's")
    line.add_argument("--weight-decay", type=float, metavar="W", help="weight decay, instead of the recipe's")
    line.add_argument(
        "--betas", type=float, nargs=2, metavar="B", help="betas of AdamW, instead of the recipe's (which are 0.9 0.999)"
    )
    line.add_argument("--precision", choices=["fp32", "bf16", "fp16"], help="number format, instead of the recipe's")
    line.add_argument("--dataset", help="data set, instead of the recipe's; folder:PATH[@PIXELS] for your images")
    line.add_argument("--network", help="network, instead of the recipe's")
    line.add_argument(
        "--train-per-class", type=int, metavar="N", help="training images per class, instead of the recipe's; 0 for all"
    )
    line.add_argument(
        "--holdout", action="store_true", help="evaluate on other training images, the same number, instead of the test images"
    )
    line.add_argument("--evaluate-every", type=int, metavar="N", help="epochs between evaluations, instead of the recipe's")
    line.add_argument(
        "--watch",
        nargs="*",
        metavar="WHICH",
        help="sub-networks to measure during training, instead of the recipe's: smallest, half, ordered or specs; empty: none",
    )
    line.add_argument(
        "--watch-every",
        type=int,
        metavar="N",
        help="epochs between measurements of watched sub-networks, instead of the recipe's",
    )
    line.add_argument(
        "--watch-images", type=int, metavar="N", help="test images for watched sub-networks, instead of the recipe's"
    )
    cli.add_data_root(line, "folder that holds the data set, or into which it is downloaded")
    line.add_argument("--compile", action="store_true", help="compile every block with torch.compile")
    line.add_argument("--sync-norms", action="store_true", help="share batch-norm statistics between processes (CUDA)")
    line.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes that read image files (default: %(default)s)"
    )
    line.add_argument(
        "--tensorboard", action="store_true", help="also write event files for TensorBoard, which must be installed"
    )
    cli.add_quiet(line)
    return line
