"""Prunes channels with Torch-Pruning, for `bench compress`: runs in an environment that has torch and torch-pruning.

    python -m stimcore.bench.compress.prune WEIGHTS FOLDER ASKED

WEIGHTS is a state dict of `stimcore.bench.compress.net.PrunableResNet`. ASKED is JSON: the shape of the images, and a list of
`[ratio, round_to]`. Every pruned state dict is written into FOLDER, and a list of them is printed as JSON.
"""

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from stimcore.bench.compress.net import Channels, PrunableResNet


def prune(weights: Path, folder: Path, image_shape: list[int], asked: list[tuple[float, int]]) -> list[dict[str, Any]]:
    """Write a pruned state dict for every ratio.

    Every layer loses the same share of its channels, those with the smallest weights over all layers that share them
    (`GroupMagnitudeImportance`). Channels between blocks go too, in all blocks of the stage.

    Args:
        weights: File of the trained weights.
        folder: An existing folder.
        image_shape: `[C, H, W]`.
        asked: Share of channels that go, and the number of which what is left is a multiple (1: any).

    Returns:
        A row for each: `file`, `ratio`, `round_to`, and `seconds` of processor time.
    """
    import torch_pruning  # only the environment of this program has it

    state = torch.load(weights, map_location="cpu", weights_only=True)
    net = PrunableResNet(Channels.of(state), in_channels=image_shape[0], num_classes=state["linear.weight"].shape[0])
    net.load_state_dict(state)
    rows = []
    for ratio, round_to in asked:
        pruned, start = copy.deepcopy(net).eval(), time.process_time()
        pruner = torch_pruning.pruner.BasePruner(
            pruned,
            torch.zeros(1, *image_shape),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            round_to=None if round_to == 1 else round_to,
            ignored_layers=[pruned.linear],  # its outputs are the classes
        )
        pruner.step()
        file = f"r{ratio:g}-m{round_to}.pt"
        torch.save(pruned.state_dict(), folder / file)
        rows.append({"file": file, "ratio": ratio, "round_to": round_to, "seconds": time.process_time() - start})
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = json.loads(sys.argv[3])
    print(json.dumps(prune(Path(sys.argv[1]), Path(sys.argv[2]), given["image_shape"], given["asked"])))
