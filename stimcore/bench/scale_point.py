"""One point of `bench scale`, in a process of its own, so that its memory is its own.

`bench scale` starts it as `python -m stimcore.bench.scale_point JSON`. It needs neither torch nor the network's module: it does
what the model server does with a bundle.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from stimcore.bench.choices import SCALE_KEEP_MB
from stimcore.bundle import open_bundle
from stimcore.engine.engine import Engine
from stimcore.engine.prefix_tree import nodes_below, prefix_tree
from stimcore.serve.repository.repository import ModelRepository
from stimcore.serve.workers.config import WorkerConfig
from stimcore.subnets.families import deletions, ordered

STATUS = Path("/proc/self/status")


def peak_mb() -> float:
    """Return the most memory that this process has had, in MB of 2^20 bytes; what it has now where only Linux tells."""
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return float(psutil.Process().memory_info().rss) / 2**20


def _added_mb(before: float) -> float:
    """Return how much the largest memory of this process has grown, in MB of 2^20 bytes, since it was `before`.

    Linux adds up a process's pages from counters of its threads, and may find a few pages fewer than it found before.
    """
    return max(0.0, peak_mb() - before)


def evaluate(bundle: str, family: str, images: int) -> dict[str, Any]:
    """Evaluate a family of a bundle once.

    Args:
        bundle: Folder of the bundle.
        family: `ordered`, or `deletions` of one block.
        images: Evaluation images.

    Returns:
        Sub-networks; nodes of their tree; images that every node ran on, for calibration too; seconds of processor time; the
        largest memory of this process, and how much of that came with the evaluation, in MB.
    """
    opened = open_bundle(Path(bundle))
    specs = list(ordered(opened.topology) if family == "ordered" else deletions(opened.topology, 1))
    worker = WorkerConfig(device="cpu", threads=1, engines=1, keep_bytes=SCALE_KEEP_MB << 20)
    engine = Engine(opened, device="cpu", threads=worker.threads, budget=worker.budget(1))
    nodes = len(nodes_below(prefix_tree(engine.route(spec) for spec in specs)))
    before, start = peak_mb(), time.process_time()
    for _progress in engine.evaluate(specs, max_images=images):
        pass
    seconds = time.process_time() - start
    return {
        "subnetworks": len(specs),
        "nodes": nodes,
        "images": images + len(opened.experiment.calibration),
        "seconds": seconds,
        "peak_mb": peak_mb(),
        "added_mb": _added_mb(before),
    }


def scan(folder: str) -> dict[str, Any]:
    """Open all bundles under a folder, as the server does when it starts."""
    before, start = peak_mb(), time.process_time()
    snapshot = ModelRepository(Path(folder), Path(folder, "runs")).scan()
    return {
        "bundles": len(snapshot.bundles),
        "seconds": time.process_time() - start,
        "peak_mb": peak_mb(),
        "added_mb": _added_mb(before),
    }


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(scan(**asked) if "folder" in asked else evaluate(**asked)))
