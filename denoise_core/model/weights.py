"""Weights put into a network: all of a checkpoint's own, or what a like one has for a warm start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from denoise_core.model.mamba_uv import MambaUV
from study_core.errors import BadInput

if TYPE_CHECKING:
    from denoise_core.model.checkpoints import LoadedModel

State = Mapping[str, Tensor]


def load_weights(model: MambaUV, state: State, path: Path) -> None:
    """Copy `state` into `model`; BadInput names the first parameter that is missing, unknown or of another shape."""
    expected = model.state_dict()
    for name in expected:
        if name not in state:
            raise BadInput(f"parameter {name!r} is missing", file=path, remedy="use the plan it was trained with")
    for name, value in state.items():
        if name not in expected:
            raise BadInput(f"parameter {name!r} is unknown", file=path, remedy="use the plan it was trained with")
        _check_shape(name, value, expected[name], path)
    model.load_state_dict(dict(state))


def _check_shape(name: str, value: Tensor, expected: Tensor, path: Path) -> None:
    if value.shape != expected.shape:
        raise BadInput(
            f"parameter {name!r} has shape {tuple(value.shape)}, the model needs {tuple(expected.shape)}",
            file=path,
            remedy="use the plan it was trained with",
        )


def warm_start(model: MambaUV, loaded: LoadedModel) -> list[str]:
    """Start `model` from another checkpoint's weights; returns the parameters that keep their own init.

    The plans may differ where a warm start still makes sense: a calibrator that one side lacks, the base's input
    channel (its weights start at zero), and the head (the output layer of another head is left alone). Any other
    difference is a BadInput naming the parameter.
    """
    given, own = loaded.model.state_dict(), model.state_dict()
    same_head = loaded.model.plan.head == model.plan.head
    kept = []
    for name, value in own.items():
        source = given.get(name)
        if source is None and (name.startswith("calibrator.") or (name.startswith("film_head.") and _film_free(given))):
            kept.append(name)
            continue
        if source is None:
            raise BadInput(f"parameter {name!r} is missing", file=loaded.path, remedy="warm start from a like model")
        if name.startswith("output_proj.") and not same_head:
            kept.append(name)
            continue
        if name == "input_proj.weight" and source.shape != value.shape and source.shape[::2] == value.shape[::2]:
            source = _fit_channels(source, value)
        _check_shape(name, source, value, loaded.path)
        own[name] = source
    model.load_state_dict(own)
    return kept


def _film_free(state: State) -> bool:
    return not any(name.startswith("film_head.") for name in state)


def _fit_channels(source: Tensor, like: Tensor) -> Tensor:
    fitted = torch.zeros_like(like)
    shared = min(source.shape[1], like.shape[1])
    fitted[:, :shared] = source[:, :shared]
    return fitted
