"""A trained network as one file: `bundle.zip` holds model.pt (weights alone) and config.json.

Zip times are fixed, so that equal weights give an equal file and sha256.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ptycho_core.network import PatchNet, new_network
from ptycho_core.recipes import Recipe
from study_core.errors import BadInput
from study_core.files import encode, replacing

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Network:
    """Weights with what is needed to use them. `n` is the side of the patterns they were trained on."""

    net: PatchNet
    recipe: Recipe
    n: int

    @property
    def grouped(self) -> bool:
        """Whether it is shown the group's average beside the pattern."""
        return is_grouped(self.recipe)


def is_grouped(recipe: Recipe) -> bool:
    """A recipe of more than one pattern a group has the two channels of the group's average."""
    return recipe.gridsize > 1


def channels(recipe: Recipe) -> int:
    """Input channels a pattern: 3, or 5 with the group's average."""
    return 5 if is_grouped(recipe) else 3


def write_bundle(path: Path, network: Network) -> Path:
    """Replace `path` by the bundle."""
    weights = io.BytesIO()
    state = {name: value.detach().cpu().contiguous() for name, value in network.net.state_dict().items()}
    torch.save(state, weights)
    config = {"recipe": network.recipe.model_dump(mode="json"), "N": network.n, "channels": channels(network.recipe)}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in (("model.pt", weights.getvalue()), ("config.json", encode(config))):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return path


def read_bundle(path: Path, device: str = "cpu") -> Network:
    """The network of a bundle, ready for inference.

    Raises:
        BadInput: no such file, not a bundle, or weights that do not fit their configuration.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config: dict[str, Any] = json.loads(archive.read("config.json"))
            state = torch.load(io.BytesIO(archive.read("model.pt")), map_location=device, weights_only=True)
        recipe = Recipe.model_validate(config["recipe"])
        net = new_network(channels(recipe), recipe.width, recipe.seed, config["N"]).to(device)
        net.load_state_dict(state)
    except FileNotFoundError:
        raise BadInput("no such file", file=path, remedy="run train first") from None
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"not a usable bundle ({first})", file=path, remedy="run with fresh to train again") from None
    return Network(net.eval(), recipe, config["N"])
