"""The memory that an engine may use: apart from engines, so that command lines can name its defaults without loading one."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bytes of memory that an engine may use.

    Attributes:
        working: Activations of the images under evaluation. Calibration always runs batches of 256 images.
        statistics: Cached re-calibrated statistics.
        calibration: Cached activations of calibration images.
        evaluation: Cached activations of evaluation images, for prefixes of the main network.
        sessions: Cached sessions, estimated from the sizes of their models.
        unit: Weights in one ONNX graph.
        unit_steps: Largest number of parts in one ONNX graph (a count, not bytes).
    """

    working: int = 512 << 20
    statistics: int = 256 << 20
    calibration: int = 1 << 30
    evaluation: int = 1 << 30
    sessions: int = 2 << 30
    unit: int = 64 << 20
    unit_steps: int = 64

    @classmethod
    def of_gpu(cls, free: int | None) -> Self:
        """Return the budget for a GPU: at most half of its free memory, of which sessions keep their buffers too.

        Args:
            free: Free bytes of the GPU before anything was loaded; None where that is not known.

        Example:
            >>> Budget.of_gpu(80 << 30).evaluation == 20 << 30, Budget.of_gpu(None) == Budget()
            (True, True)
        """
        if free is None:
            return cls()
        return cls(working=free // 16, calibration=free // 8, evaluation=free // 4, sessions=free // 16)
