"""The compiled scan's presence on this machine."""

from torch import Tensor


def why_not() -> str | None:
    """Why the compiled scan cannot run here; None when it can."""
    return "no kernel in this build"


def native_scan(*arguments: object) -> Tensor:
    """Never called while `why_not` gives a reason."""
    raise NotImplementedError(why_not())
