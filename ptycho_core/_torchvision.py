"""`import ptychi` without torchvision: its one class that pty-chi names is lent to it, and taken back.

pty-chi imports `torchvision.transforms.GaussianBlur` for smoothing probes, which LSQML with a known probe never calls.
The wheels of torchvision on the public index are built against CUDA builds of torch. Beside the CPU build of the same
version their operators do not load: the import stops at `operator torchvision::nms does not exist`
(pytorch/pytorch#122494, pytorch/vision#9085), and transformers, which imports torchvision wherever it is installed,
stops with it. So torchvision is left out of the lock. Where it is missing or broken a stand-in lies in `sys.modules`
while pty-chi is imported and no longer; where it imports by itself nothing is touched.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

_BROKEN = "operator torchvision::"


@contextlib.contextmanager
def torchvision_for_import() -> Iterator[None]:
    """Within the block `from torchvision.transforms import GaussianBlur` works.

    Raises:
        RuntimeError: torchvision is there and fails for another reason than its operators.
    """
    if _imports():
        yield
        return
    sys.modules.update(_stand_in())
    try:
        yield
    finally:
        _forget()


def _imports() -> bool:
    try:
        import torchvision.transforms  # noqa: F401
    except ImportError:
        return False
    except RuntimeError as error:
        if _BROKEN not in str(error):
            raise
        _forget()  # half-imported
        return False
    return True


def _forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]


class GaussianBlur:
    """Holds the name; whoever wants to smooth a probe needs torchvision itself."""

    def __init__(self, *given: object, **named: object) -> None:
        raise RuntimeError("smoothing a probe needs torchvision; install the build that fits this torch")


def _stand_in() -> dict[str, ModuleType]:
    package, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
    package.__path__ = []
    transforms.GaussianBlur = GaussianBlur  # type: ignore[attr-defined]
    package.transforms = transforms  # type: ignore[attr-defined]
    return {"torchvision": package, "torchvision.transforms": transforms}
