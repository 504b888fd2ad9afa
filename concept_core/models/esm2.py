"""ESM-2 from a local folder, by transformers. No hub is ever asked: what is not in the folder is missing.

What is checked before any weight is used: the registry against config.json, config.json against the tensors (nothing
missing, nothing of another shape, nothing left over but what takes no part, every number finite), and the alphabet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np

from concept_core.models.alphabet import PAD, TOKENS, token_numbers
from concept_core.models.protein_lm import FloatArray
from concept_core.models.registry import Registered, checked_folder
from study_core.device import device_for
from study_core.errors import BadInput
from study_core.files import peek_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Esm2:
    """An opened ESM-2 (or house model) on a device. `network` is an `EsmForMaskedLM` in evaluation mode."""

    name: str
    hidden_size: int
    num_layers: int
    max_residues: int
    network: Any
    device: str
    autocast: bool
    causal: bool = False

    @property
    def most_tokens(self) -> int | None:
        """See `ProteinLM`. Measured: what leaves a CPU's caches takes twice as long (benchmarks/README.md)."""
        return 1024 if self.device == "cpu" else None

    def tokens(self, sequences: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token numbers and attention mask, (sequences, longest + 2) on the device; residue i is token i + 1."""
        import torch

        longest = max(len(letters) for letters in sequences) + 2
        ids_BT = np.full((len(sequences), longest), PAD, dtype=np.int64)
        for row, letters in enumerate(sequences):
            ids_BT[row, : len(letters) + 2] = token_numbers(letters)
        ids = torch.from_numpy(ids_BT).to(self.device)
        return ids, (ids != PAD).long()

    def hidden_states(self, sequences: Sequence[str], layers: Sequence[int]) -> list[Mapping[int, FloatArray]]:
        """See `ProteinLM`. The attention mask is always given: without it padding would change every state."""
        import torch

        ids_BT, mask_BT = self.tokens(sequences)
        lengths = [len(letters) for letters in sequences]
        with torch.inference_mode(), torch.autocast(self.device.split(":")[0], torch.bfloat16, self.autocast):
            states = self.network.esm(ids_BT, attention_mask=mask_BT, output_hidden_states=True).hidden_states
        wanted = {layer: states[layer].float().cpu().numpy() for layer in layers}
        return [
            {layer: np.ascontiguousarray(array[row, 1 : length + 1]) for layer, array in wanted.items()}
            for row, length in enumerate(lengths)
        ]


def open_esm2(model: Registered, *, device: str, dtype: str, untrained_seed: int | None = None) -> Esm2:
    """Open a registered folder; see `registry.open_model`."""
    folder = checked_folder(model)
    _quiet_and_offline()
    from transformers import EsmForMaskedLM

    config = _config(model, folder)
    _check_config(model, config, folder)
    _check_alphabet(model)
    if untrained_seed is None:
        network = _load(EsmForMaskedLM, config, folder, model.name)
    else:
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(untrained_seed)
            network = EsmForMaskedLM(config)
    place = device_for(device)
    bf16 = dtype == "bf16" or (dtype == "auto" and place.startswith("cuda"))
    return Esm2(
        name=model.name, hidden_size=config.hidden_size, num_layers=config.num_hidden_layers,
        max_residues=model.entry.max_seq_len - 2, network=network.eval().to(place), device=place,
        autocast=bf16,
    )  # fmt: skip


def _config(model: Registered, folder: Path) -> Any:
    """The folder's config.json as transformers' `EsmConfig`. Raises BadInput where it is none."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import EsmConfig

    file, whole = folder / "config.json", "copy the whole model folder"
    if not file.is_file():
        raise BadInput(f"model {model.name}: no config.json", file=folder, remedy=whole)
    written = peek_json(file)
    kind = written.get("model_type") if isinstance(written, dict) else None
    if kind != "esm":
        what = "no JSON object" if not isinstance(written, dict) else f"model_type is {kind!r}, not 'esm'"
        raise BadInput(f"model {model.name}: {what}", file=file, remedy=whole)
    try:
        return EsmConfig.from_dict(written)
    except (StrictDataclassError, TypeError, ValueError) as error:
        what = f"model {model.name}: {' '.join(str(error).split())}"
        raise BadInput(what, file=file, remedy=whole) from None


def _quiet_and_offline() -> None:
    """No hub, no progress bars, no load report: what it would tell is an error of ours."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _check_config(model: Registered, config: Any, folder: Path) -> None:
    entry = model.entry
    for what, registered, found in (
        ("hidden_size", entry.hidden_size, config.hidden_size),
        ("num_layers", entry.num_layers, config.num_hidden_layers),
        ("num_attention_heads", entry.num_attention_heads or config.num_attention_heads, config.num_attention_heads),
        ("vocab_size", entry.vocab_size, config.vocab_size),
    ):
        if registered != found:
            where = f"model {model.name}: {what}: registry {registered}, config.json {found}"
            raise BadInput(where, file=folder, remedy=f"correct {model.registry} or take the right folder")
    longest = getattr(config, "max_position_embeddings", None)
    if config.position_embedding_type != "rotary" and longest and entry.max_seq_len > longest:
        what = f"model {model.name}: max_seq_len: registry {entry.max_seq_len}, config.json {longest}"
        raise BadInput(what, file=folder, remedy=f"correct {model.registry}")


def _check_alphabet(model: Registered) -> None:
    """The folder's alphabet must be ESM-2's: letters become tokens by our table, which is much faster than its code."""
    folder = model.tokenizer
    if folder is None or not (folder / "vocab.txt").is_file():
        raise BadInput(
            f"model {model.name}: no tokenizer (vocab.txt)", file=folder, remedy="copy the model's tokenizer files too"
        )
    if tuple((folder / "vocab.txt").read_text(encoding="utf-8", errors="replace").split()) != TOKENS:
        raise BadInput(
            f"model {model.name}: vocab.txt is not ESM-2's alphabet", file=folder, remedy="take the model's own file"
        )


def _load(network: Any, config: Any, folder: Path, name: str) -> Any:
    """The network with the folder's weights, strictly."""
    files = [folder / file for file in _WEIGHTS if (folder / file).is_file()]
    if not files:
        raise BadInput(
            f"model {name}: no weights ({' or '.join(_WEIGHTS)})", file=folder, remedy="copy the whole folder"
        )
    if files[0].open("rb").read(len(_POINTER)) == _POINTER:
        raise BadInput(f"model {name}: a Git LFS pointer, not the weights", file=files[0], remedy="git lfs pull")
    from safetensors import SafetensorError

    try:
        loaded, info = network.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            output_loading_info=True,
            weights_only=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError, SafetensorError) as error:
        first = "more than tensors" if isinstance(error, UnpicklingError) else str(error).splitlines()[0]
        raise BadInput(f"model {name}: weights do not load ({first})", file=folder, remedy="copy it again") from None
    wrong = [
        f"{kind} {key[0] if isinstance(key, tuple) else key}"
        for kind in ("missing_keys", "mismatched_keys", "error_msgs")
        for key in sorted(info.get(kind) or (), key=str)
    ]
    wrong += [f"unexpected {key}" for key in sorted(info.get("unexpected_keys") or ()) if not _idle(key)]
    wrong += [f"not finite {key}" for key, tensor in loaded.state_dict().items() if not tensor.isfinite().all()]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise BadInput(
            f"model {name}: weights do not fit config.json: {', '.join(wrong[:5])}{more}",
            file=folder,
            remedy="take config.json and weights of one model",
        )
    return loaded.float()


_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_POINTER = b"version https://git-lfs"


def _idle(key: str) -> bool:
    """Whether a tensor of the published folders takes part in nothing we compute."""
    return key.startswith(("esm.contact_head.", "esm.pooler.")) or key.endswith("position_ids")
