"""Checkpoints: the published format and ours (a superset), read without ever running a pickle's code.

Published: a dict of `model_state`, `ema_state` (torch's AveragedModel: `module.`-prefixed, plus `n_averaged`),
`epoch`, `sam_deg`, `config` (flat). Ours adds `format`, `plan`, `preprocessing`, `wavelength_nm`, `base_state`,
`dose_stats` and the standard-error terms. A linear filter alone is a file of kind "linear". Equal content gives equal
bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from denoise_core.model.mamba_uv import MambaUV
from denoise_core.model.preprocess import Preprocess
from denoise_core.model.weights import State, load_weights
from denoise_core.plans import FILM_FEATURES, ModelPlan
from study_core.errors import BadInput

if TYPE_CHECKING:
    from denoise_core.corpus.dose import DoseStats

FORMAT = 1

# A training script's `sam_deg` is often a NumPy scalar; these names rebuild one and can do nothing else.
_NUMPY_SCALARS: list[Any] = [
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    *((np._core.multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # type: ignore[attr-defined]
]

# The published corpus's dose_stats.json: what a published checkpoint, which carries none, was trained with.
PUBLISHED_DOSE_MEAN = (
    0.0,
    43.71554184,
    0.5632789731,
    74.37946320,
    1.82149005,
    0.5285835266,
    0.5718635917,
    0.6882696152,
)
PUBLISHED_DOSE_STD = (
    1.0,
    22.06752205,
    0.2175445259,
    14.49138260,
    0.9195156097,
    0.2041529715,
    0.2886926532,
    0.2658334970,
)


@dataclass(frozen=True)
class FilmScaling:
    """Standardises raw dose features: (f - mean) / std, NaN -> 0."""

    mean_F: NDArray[np.float32]
    std_F: NDArray[np.float32]

    def __call__(self, features_BF: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """float32 (B, F)."""
        scaled = (np.asarray(features_BF, dtype=np.float32) - self.mean_F) / self.std_F
        clean: NDArray[np.float32] = np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0)
        return clean


@dataclass(frozen=True)
class LoadedModel:
    """A neural checkpoint, ready to run: `model` holds the EMA weights where the file has them, in eval mode."""

    path: Path
    model: MambaUV
    published: bool
    film_scaling: FilmScaling
    epoch: int | None = None
    sam_deg: float | None = None
    config: dict[str, Any] = field(default_factory=dict)
    model_state: dict[str, Tensor] = field(default_factory=dict)
    ema_state: dict[str, Tensor] | None = None
    base_state: dict[str, Any] | None = None
    se_scale_L: NDArray[np.float32] | None = None
    se_L: NDArray[np.float32] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    model: MambaUV,
    *,
    ema_state: Mapping[str, Any] | None = None,
    epoch: int = 0,
    sam_deg: float = float("nan"),
    config: Mapping[str, Any] | None = None,
    base_state: Mapping[str, Any] | None = None,
    dose_stats: DoseStats | FilmScaling | None = None,
    se_scale_L: NDArray[np.floating[Any]] | None = None,
    se_L: NDArray[np.floating[Any]] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Write `model` (raw weights) and its EMA atomically; returns the file's SHA-256.

    `ema_state`: an AveragedModel's `state_dict()`. `base_state`: the linear filter's `state()` where the plan's base
    is one. `extra`: any plain values and tensors. The file holds all that the denoiser needs: loading wants no corpus.
    """
    stats = dose_stats or FilmScaling(np.float32(PUBLISHED_DOSE_MEAN), np.float32(PUBLISHED_DOSE_STD))  # type: ignore[arg-type]
    return save_plain(
        path,
        {
            "format": FORMAT,
            "kind": "mamba_uv",
            "model_state": model.state_dict(),
            "ema_state": ema_state,
            "epoch": int(epoch),
            "sam_deg": float(sam_deg),
            "config": dict(config or {}),
            "plan": model.plan.model_dump_json(),
            "preprocessing": model.preprocessing.state(),
            "wavelength_nm": model.wavelength_nm,
            "base_state": base_state,
            "dose_stats": {"mean": stats.mean_F, "std": stats.std_F},
            "se_scale_L": se_scale_L,
            "se_L": se_L,
            "extra": dict(extra or {}),
        },
    )


def save_linear(path: Path, state: Mapping[str, Any]) -> str:
    """Write a linear filter's `state()` as a checkpoint of its own; returns the file's SHA-256."""
    return save_plain(path, {"format": FORMAT, "kind": "linear", "base_state": state})


def save_plain(path: Path, content: Mapping[str, Any]) -> str:
    """Write tensors and plain values atomically (temporary name, fsync, rename); returns the SHA-256.

    Tensors are detached and copied to the CPU. Equal content gives equal bytes, whatever the file is called.
    """
    buffer = io.BytesIO()
    torch.save(_plain(content), buffer)
    data = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return hashlib.sha256(data).hexdigest()


def _plain(value: Any) -> Any:
    """Only what a weights-only load takes back: tensors, numbers, text, lists, dicts."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value).copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value).__name__}")


def read_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """The file's dict, loaded with `weights_only=True`. BadInput names the file and the remedy."""
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise BadInput("no such checkpoint", file=path, remedy="check the path") from error
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise _unreadable(path, error) from error
        raise BadInput(
            f"the pickle wants more than tensors and plain values ({_forbidden_name(error)})",
            file=path,
            remedy="it could run code and is refused; save state dicts and plain values only",
        ) from error
    except Exception as error:  # on foreign bytes torch's reader raises whatever it stumbles over
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise BadInput(f"holds a {type(content).__name__}, not a checkpoint's dict", file=path, remedy=_EXPECTED)
    return content


def verify_checkpoint(path: Path, wavelength_nm: NDArray[np.floating[Any]] | None = None) -> None:
    """BadInput unless the file can be read and holds a network's weights or a linear filter.

    `wavelength_nm` (L,): the grid that it must have been trained on.
    """
    content = read_checkpoint(path)
    if content.get("kind") != "linear":
        _verify_weights(content, path)
    if wavelength_nm is None:
        return
    own = _grid_of(content)
    if len(own) != len(wavelength_nm) or not np.allclose(own, wavelength_nm, rtol=0, atol=1e-3):
        told, asked = (f"{len(grid)} wavelengths from {grid[0]:g} to {grid[-1]:g} nm" for grid in (own, wavelength_nm))
        raise BadInput(
            f"was trained on {told}, the corpus has {asked}",
            file=path,
            remedy="name a model of this grid, or leave it out: the fold's is trained first",
        )


def _grid_of(content: Mapping[str, Any]) -> NDArray[np.float64]:
    """The wavelengths (L,) of a checkpoint's content; a published one has those of the published study."""
    holder = content.get("base_state") or content if content.get("kind") == "linear" else content
    grid = holder.get("wavelength_nm")
    if grid is None:
        points = int((content.get("config") or {}).get("sequence_length") or ModelPlan().sequence_length)
        return np.linspace(300.0, 600.0, points)
    return np.asarray(grid, dtype=np.float64)


def _verify_weights(content: Mapping[str, Any], path: Path) -> None:
    if not content.get("model_state") and not content.get("ema_state"):
        raise BadInput(f"keys {sorted(map(str, content))[:8]} hold no weights", file=path, remedy=_EXPECTED)


_EXPECTED = "expected a dict with model_state or ema_state, or kind 'linear'"


def _unreadable(path: Path, error: Exception) -> BadInput:
    first_line = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
    return BadInput(
        f"cannot be read, truncated or no checkpoint ({first_line})", file=path, remedy="copy or train it again"
    )


def _forbidden_name(error: Exception) -> str:
    words = str(error).replace("`", " ").split()
    at = words.index("GLOBAL") + 1 if "GLOBAL" in words else 0
    return words[at].rstrip(".,:") if words else "?"


def load_model(path: Path, device: str | torch.device = "cpu", *, prefer_ema: bool = True) -> LoadedModel:
    """A neural checkpoint, published or ours. BadInput names the file, and the parameter that does not fit."""
    return model_from_content(read_checkpoint(path, device), path, device, prefer_ema=prefer_ema)


def model_from_content(
    content: Mapping[str, Any], path: Path, device: str | torch.device = "cpu", *, prefer_ema: bool = True
) -> LoadedModel:
    """The same from an already read file."""
    _verify_weights(content, path)
    raw, ema = content.get("model_state"), content.get("ema_state")
    ema_plain = None if not ema else strip_average(ema)
    state = ema_plain if ema_plain is not None and (prefer_ema or not raw) else dict(raw or {})
    model = _build(content, state, path)
    load_weights(model, state, path)
    model.to(device).eval()
    stats = content.get("dose_stats") or {"mean": PUBLISHED_DOSE_MEAN, "std": PUBLISHED_DOSE_STD}
    sam = content.get("sam_deg")
    return LoadedModel(
        path=path,
        model=model,
        published="plan" not in content,
        film_scaling=FilmScaling(*(np.asarray(stats[key], dtype=np.float32) for key in ("mean", "std"))),
        epoch=None if content.get("epoch") is None else int(content["epoch"]),
        sam_deg=None if sam is None else float(sam),
        config=dict(content.get("config") or {}),
        model_state=dict(raw or {}),
        ema_state=ema_plain,
        base_state=content.get("base_state"),
        se_scale_L=_array(content.get("se_scale_L")),
        se_L=_array(content.get("se_L")),
        extra=dict(content.get("extra") or {}),
    )


def _array(value: Tensor | None) -> NDArray[np.float32] | None:
    return None if value is None else value.cpu().numpy().astype(np.float32)


def strip_average(ema_state: State) -> dict[str, Tensor]:
    """The averaged weights under the model's own names: `module.` and `n_averaged` gone."""
    return {key.removeprefix("module."): value for key, value in ema_state.items() if key != "n_averaged"}


def _build(content: Mapping[str, Any], state: State, path: Path) -> MambaUV:
    try:
        if "plan" in content:
            plan = ModelPlan.model_validate_json(content["plan"])
            preprocessing = Preprocess(**content.get("preprocessing", {}))
        else:
            plan, preprocessing = plan_of_state(state, content.get("config") or {}), Preprocess()
    except (ValidationError, TypeError, KeyError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(f"its architecture cannot be read ({first})", file=path, remedy=_EXPECTED) from error
    grid = content.get("wavelength_nm")
    wavelength = np.linspace(300.0, 600.0, plan.sequence_length) if grid is None else grid.cpu().numpy()
    with torch.random.fork_rng(devices=[]):  # the caller's random stream must not notice a load
        return MambaUV(plan, wavelength, preprocessing)


def plan_of_state(state: State, config: Mapping[str, Any]) -> ModelPlan:
    """The architecture of a published state dict, read off its shapes; KeyError names a parameter that is missing."""
    d_model = state["input_proj.weight"].shape[0]
    inner, d_state = state["blocks.0.mamba.A_log"].shape
    blocks = {int(name.split(".")[1]) for name in state if name.startswith("blocks.")}
    film = state.get("film_head.0.weight")
    features = tuple(config.get("film_features") or FILM_FEATURES)
    return ModelPlan(
        sequence_length=int(config.get("sequence_length") or 601),
        d_model=d_model,
        n_layers=len(blocks),
        d_state=d_state,
        d_conv=state["blocks.0.mamba.conv1d.weight"].shape[-1],
        expand=inner // d_model,
        geometry_film=film is not None,
        film_hidden_dim=64 if film is None else film.shape[0],
        film_features=features,
        head="sigmoid",
        base="capture",
    )
