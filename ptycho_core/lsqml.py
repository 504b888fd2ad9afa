"""LSQML, the iterative maximum-likelihood arm, by pty-chi: flat start, known and fixed probe, absolute scale.

Two of pty-chi's defaults would leave the absolute scale: the probe is rescaled in the first epoch, and object and
probe are renormalised against each other. Both are off, and the probe is handed over scaled for pty-chi's own
transform, so that the true object is an exact fixed point. Momentum of the object acts only with compact batches.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ptycho_core.contract import Dataset
from study_core.errors import BadInput, TrainingInterrupted
from study_core.plan import Frozen

INSTALL = "pip install --no-deps -r requirements-ptycho.lock"
_MARGIN_PX = 2
"""Between the outermost patch and the frame that is handed over."""


class LsqmlOptions(Frozen):
    """What decides a reconstruction; all of it is recorded."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(64, ge=1)
    batching: Literal["compact", "random"] = Field("compact", description="Object momentum acts with compact alone")
    momentum: float = Field(0.5, ge=0)
    noise: Literal["poisson", "gaussian"] = "poisson"
    step_size: float = Field(1.0, gt=0)
    seed: int = 0


@dataclass(frozen=True)
class Reconstruction:
    """The object on the dataset's frame (H, W), flat (1+0j) outside `frame`; the loss of each epoch."""

    image: NDArray[np.complex64]
    frame: tuple[int, int, int, int]
    """(top, left, height, width) of the part that was handed over."""
    loss: tuple[float, ...]
    versions: dict[str, str]


def available() -> str:
    """Empty where pty-chi can be used, else why not, with the line that mends it."""
    try:
        with _quiet():
            _import()
    except BadInput as error:
        return str(error)
    return ""


def reconstruct_patterns(
    data: Dataset,
    options: LsqmlOptions | None = None,
    *,
    device: str = "cpu",
    start: NDArray[np.complexfloating] | None = None,
    renormalise: bool = False,
    progress: Callable[..., None] = lambda **fields: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Reconstruction:
    """Reconstruct the patterns of a dataset.

    `start` and `renormalise` (pty-chi's own default) are for the tests of the fixed point; the study starts flat.

    Raises:
        BadInput: pty-chi is missing or broken.
        TrainingInterrupted: asked to stop; the next call begins anew, a reconstruction takes minutes.
    """
    options = options or LsqmlOptions()
    top, left, height, width = frame = _frame(data)
    image = (data.flat if start is None else start).astype(np.complex64)
    with _quiet():
        _import()
        task = _task(data, options, frame, image, device, renormalise)
        for epoch in range(options.epochs):
            if should_stop():
                raise TrainingInterrupted(f"stopped after {epoch} of {options.epochs} epochs")
            task.run(n_epochs=1)
            progress(done=epoch + 1, total=options.epochs)
        found = task.get_data_to_cpu("object", as_numpy=True)[0]
        loss = tuple(float(value) for value in task.reconstructor.loss_tracker.table["loss"])
    result = np.ones(data.flat.shape, np.complex64)
    result[top : top + height, left : left + width] = found
    return Reconstruction(result, frame, loss, {name: version(name) for name in ("ptychi", "torch")})


def _frame(data: Dataset) -> tuple[int, int, int, int]:
    """The smallest even frame with a margin around every patch, inside the dataset's."""
    half = data.probe.shape[0] // 2
    spans = []
    for centres, extent in zip((data.y, data.x), data.flat.shape, strict=True):
        low = max(0, int(centres.min()) - half - _MARGIN_PX)
        high = min(extent, int(centres.max()) + half + _MARGIN_PX)
        if (high - low) % 2:
            low, high = (low, high + 1) if high < extent else (low - 1, high) if low > 0 else (low, high - 1)
        spans.append((low, high - low))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def _task(
    data: Dataset, options: LsqmlOptions, frame: tuple[int, int, int, int], image: NDArray[np.complex64],
    device: str, renormalise: bool,
) -> Any:  # fmt: skip
    import ptychi.api as api
    import torch
    from ptychi.api.task import PtychographyTask

    top, left, height, width = frame
    settings = api.LSQMLOptions()
    reconstructor, target = settings.reconstructor_options, settings.object_options
    reconstructor.num_epochs, reconstructor.batch_size = options.epochs, options.batch_size
    reconstructor.batching_mode = getattr(api.BatchingModes, options.batching.upper())
    reconstructor.noise_model = getattr(api.NoiseModels, options.noise.upper())
    reconstructor.momentum_acceleration_gain = options.momentum
    reconstructor.rescale_probe_intensity_in_first_epoch = False
    reconstructor.random_seed = options.seed
    reconstructor.default_device = api.Devices.GPU if device.startswith("cuda") else api.Devices.CPU
    target.optimizable, target.optimizer, target.step_size = True, api.Optimizers.SGD, options.step_size
    target.remove_object_probe_ambiguity.enabled = renormalise
    target.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    target.position_origin_coords = [(height - 1) / 2, (width - 1) / 2]  # pixel centres count, not corners
    settings.probe_options.optimizable = False
    settings.probe_position_options.optimizable = False
    n = data.probe.shape[0]
    scaled = data.probe * np.complex64(data.metadata.s / n)  # its transform is not unitary
    return PtychographyTask(
        settings,
        diffraction_data=torch.from_numpy(data.counts().astype(np.float32)),
        object_data=torch.from_numpy(image[None, top : top + height, left : left + width].copy()),
        probe_data=torch.from_numpy(scaled[None, None].astype(np.complex64)),
        probe_position_x_px=torch.from_numpy((data.x - left - width / 2).astype(np.float32)),
        probe_position_y_px=torch.from_numpy((data.y - top - height / 2).astype(np.float32)),
    )


def _import() -> None:
    """Raises BadInput where pty-chi is missing or cannot be imported."""
    from ptycho_core._torchvision import torchvision_for_import

    try:
        version("ptychi")
        with torchvision_for_import():
            import ptychi.api
            import ptychi.api.task  # noqa: F401
    except PackageNotFoundError:
        raise BadInput("pty-chi is not installed", remedy=INSTALL) from None
    except (ImportError, RuntimeError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"pty-chi cannot be imported ({first})", remedy=INSTALL) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """pty-chi prints a bar, warns of its own detached tensors and sets torch's defaults: neither leaves this module."""
    import torch

    before = logging.root.level
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_default_device(None)
            torch.set_default_dtype(torch.float32)
            logging.root.setLevel(before)
