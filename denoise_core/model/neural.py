"""A trained network as a Denoiser: base filter, network, optional calibrator and reversed pass, standard errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from denoise_core.model.checkpoints import LoadedModel, model_from_content, read_checkpoint
from denoise_core.model.denoiser import Denoiser, FloatArray
from study_core.errors import BadInput

if TYPE_CHECKING:
    from denoise_core.corpus.captures import Context


class NeuralDenoiser:
    """A LoadedModel behind the Denoiser protocol. Captures go through in batches; each is denoised on its own."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        name: str | None = None,
        base: Denoiser | None = None,
        tta_reverse: bool = False,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
    ) -> None:
        self.name = name or loaded.path.stem
        self.loaded, self.tta_reverse, self.batch_size = loaded, tta_reverse, batch_size
        self.device = torch.device(device)
        self.model = loaded.model.to(self.device).eval()
        self.base = base if base is not None else _base_of(loaded)

    def denoise(self, x_BL: FloatArray, context: Context) -> FloatArray:
        """Reflectance, float32 (B, L), clipped to [0, 1]. ValueError when x is not on the model's grid."""
        x_BL = np.ascontiguousarray(x_BL, dtype=np.float32).clip(0.0, 1.0)
        if x_BL.ndim != 2 or x_BL.shape[1] != self.model.plan.sequence_length:
            raise ValueError(f"expected captures (B, {self.model.plan.sequence_length}), got {x_BL.shape}")
        features_BF = self.loaded.film_scaling(context.features_BF)
        base_BL = None if self.base is None else self.base.denoise(x_BL, context)
        out_BL = np.empty_like(x_BL)
        for first in range(0, len(x_BL), self.batch_size):
            rows = slice(first, first + self.batch_size)
            out_BL[rows] = self._batch(x_BL[rows], features_BF[rows], None if base_BL is None else base_BL[rows])
        return out_BL.clip(0.0, 1.0)

    @torch.inference_mode()
    def _batch(self, x_BL: FloatArray, features_BF: FloatArray, base_BL: FloatArray | None) -> FloatArray:
        x, features = (torch.from_numpy(part).to(self.device) for part in (x_BL, features_BF))
        base = None if base_BL is None else torch.from_numpy(np.ascontiguousarray(base_BL)).to(self.device)
        y = self.model(x, features, base)
        if self.tta_reverse:
            y = (y + self.model(x, features, base, reverse=True)) / 2
        out: FloatArray = y.float().cpu().numpy()
        return out

    def standard_error(self, x_BL: FloatArray, context: Context) -> FloatArray:
        """The base filter's standard error times the checkpoint's per-wavelength factor `se_scale` (default 1).

        Without a base: the checkpoint's `se_L`, the per-wavelength residual sd measured when training ended; NaN where
        the file has none.
        """
        if self.base is not None:
            factor = np.float32(1) if self.loaded.se_scale_L is None else self.loaded.se_scale_L
            return (self.base.standard_error(x_BL, context) * factor).astype(np.float32)
        constant = np.float32(np.nan) if self.loaded.se_L is None else self.loaded.se_L
        return np.broadcast_to(constant, np.shape(x_BL)).astype(np.float32)


def _base_of(loaded: LoadedModel) -> Denoiser | None:
    plan = loaded.model.plan
    if plan.head != "residual" or plan.base == "capture":
        return None
    if loaded.base_state is None:
        raise BadInput(f"its base filter {plan.base!r} is missing", file=loaded.path, remedy="save it with base_state")
    return linear_from_state(loaded.base_state, loaded.path)


def linear_from_state(state: dict[str, Any], path: Path) -> Denoiser:
    """The linear filter of a checkpoint; BadInput names the file when its state does not fit."""
    from denoise_core.model.linear import LinearDenoiser

    try:
        return LinearDenoiser.from_state(state)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"its linear filter cannot be read ({error})", file=path, remedy="fit it again") from error


def load_denoiser(path: Path, device: str | torch.device = "cpu", *, tta_reverse: bool = False) -> Denoiser:
    """Any checkpoint by its content: published, ours, or a linear filter. BadInput names the file and the remedy."""
    content = read_checkpoint(path, "cpu")
    if content.get("kind") == "linear":
        return linear_from_state(content.get("base_state", content), path)
    loaded = model_from_content(content, path, device)
    return NeuralDenoiser(loaded, tta_reverse=tta_reverse, device=device)
