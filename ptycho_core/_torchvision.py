"""`import torchvision` beside a CPU build of torch that its own operators do not fit.

pty-chi imports torchvision for one resampling function. The wheels of torchvision on the public index are built
against CUDA builds of torch; beside the CPU wheel of the same version their compiled operators cannot be loaded, and
the import stops at `operator torchvision::nms does not exist` (pytorch/pytorch#122494, pytorch/vision#9085). Nothing
of what is needed here uses those operators, so their names are declared and the import is tried again. Where
torchvision imports by itself nothing is touched.
"""

from __future__ import annotations

import contextlib
import sys

_MISSING = "operator torchvision::nms does not exist"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> None:
    """Make `import torchvision` work.

    Raises:
        ImportError: it is not installed.
        RuntimeError: it fails for another reason.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
        _declare()
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torchvision  # noqa: F401


def _declare() -> None:
    import torch

    for operator in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # declared by an earlier call
            torch.library.define(f"torchvision::{operator}", _SCHEMA)
