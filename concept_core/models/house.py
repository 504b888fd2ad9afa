"""Train the house ESM-2: an `EsmForMaskedLM` small enough to commit, so that everything runs where no model can be had.

It is a fixture that knows one family, not a protein language model: a third of its crops lie around the concept.
Its concept-free twin is trained by the same steps on the same proteins less those that hold the concept: what it
knows is what any network of this size learns of proteins. Fixed steps and one seed; one thread, so that sums have one
order. Interrupted, the same call goes on from the last saved state and ends in the same weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from concept_core.models.alphabet import FIRST_RESIDUE, LAST_RESIDUE, MASK, PAD, TOKENS
from concept_core.models.house_data import Crops
from study_core.errors import BadInput, NonFiniteLoss, TrainingInterrupted
from study_core.files import replacing, sha256_of, write_json, write_text
from study_core.plan import Frozen, identity

if TYPE_CHECKING:
    import torch
    from transformers import EsmForMaskedLM


class HousePlan(Frozen):
    """Architecture and recipe of the house model."""

    hidden_size: int = Field(64, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    steps: int = Field(2000, ge=1)
    batch: int = Field(64, ge=1, title="Crops a step")
    crop: int = Field(96, ge=8, title="Residues a crop")
    concept_share: float = Field(1 / 3, ge=0, le=1, title="Share of crops around the concept")
    drift: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Residues of crops around the concept that are replaced, at most; ligands are kept.",
    )
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(100, ge=1)
    weight_decay: float = Field(0.01, ge=0)
    masked: float = Field(0.15, gt=0, lt=1, title="Share of residues to predict")
    save_every: int = Field(200, ge=1)
    init_sha256: str | None = Field(None, description="Of the weights that training starts from. Default: fresh ones.")
    seed: int = Field(0, ge=0)


def fresh(plan: HousePlan) -> EsmForMaskedLM:
    """The network of a plan with weights drawn from its seed."""
    import torch
    from transformers import EsmConfig, EsmForMaskedLM

    torch.manual_seed(plan.seed)
    config = EsmConfig(
        vocab_size=len(TOKENS), mask_token_id=MASK, pad_token_id=PAD, hidden_size=plan.hidden_size,
        num_hidden_layers=plan.layers, num_attention_heads=plan.heads, intermediate_size=4 * plan.hidden_size,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=1026, layer_norm_eps=1e-5,
        position_embedding_type="rotary", token_dropout=True, emb_layer_norm_before=False,
    )  # fmt: skip
    return EsmForMaskedLM(config)


def weights_of(folder: Path) -> Path:
    """The weights file of a house model's folder. Raises BadInput where there is none."""
    file = folder / "model.safetensors"
    if not file.is_file():
        raise BadInput("no model.safetensors", file=folder, remedy="name a house model's folder")
    return file


def _started(plan: HousePlan, init: Path | None) -> EsmForMaskedLM:
    """The plan's network with its first weights."""
    from safetensors.torch import load_file

    found = sha256_of(weights_of(init)) if init is not None else None
    if found != plan.init_sha256:
        what = f"starts from weights {str(found)[:12]}, the plan says {str(plan.init_sha256)[:12]}"
        raise BadInput(what, file=init, remedy="start from the weights that the plan names")
    model = fresh(plan)
    if init is not None:
        try:
            model.load_state_dict(load_file(weights_of(init)), strict=False)
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise BadInput(f"weights of another size ({first})", file=init, remedy="take the same sizes") from None
        model.tie_weights()
    return model


def train(
    plan: HousePlan,
    crops: Crops,
    out: Path,
    *,
    init: Path | None = None,
    tell: Callable[[int, float], None] = lambda step, loss: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train and write the model folder `out` (config, weights, tokenizer, training.json).

    `init` is the folder of a house model of the same size to start from; the plan names its weights' hash.

    Raises:
        BadInput: `out` holds the state of another plan, or `init` is not what the plan names.
        TrainingInterrupted: after saving, when asked to stop.
        NonFiniteLoss: the loss became NaN.
    """
    import torch

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    model = _started(plan, init)
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.lr, weight_decay=plan.weight_decay, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _factor(step, plan))
    state = out / "state.pt"
    losses = _resumed(state, plan, model, optimiser, schedule)
    model.train()
    for step in range(len(losses), plan.steps):
        rng = np.random.default_rng((plan.seed, step))  # of the step alone: a resumed run draws what the whole one drew
        drawn = crops.batch(plan.batch, plan.crop, plan.concept_share, plan.drift, rng)
        tokens, labels = masked(drawn, plan.masked, rng)
        inputs = torch.from_numpy(tokens)
        loss = model(inputs, attention_mask=(inputs != PAD).long(), labels=torch.from_numpy(labels)).loss
        if not math.isfinite(loss.item()):
            raise NonFiniteLoss(f"loss is {loss.item()} at step {step}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        tell(step + 1, losses[-1])
        stop = should_stop()
        if stop or (step + 1) % plan.save_every == 0:
            _save(state, plan, model, optimiser, schedule, losses)
        if stop:
            raise TrainingInterrupted(f"stopped after step {step + 1} of {plan.steps}")
    _write(out, plan, model, losses)
    state.unlink(missing_ok=True)
    return out


def masked(tokens_BT: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What the network sees and what it must say: of the chosen residues 80 % masked, 10 % another, 10 % kept."""
    residues = (tokens_BT >= FIRST_RESIDUE) & (tokens_BT <= LAST_RESIDUE)
    chosen = residues & (rng.random(tokens_BT.shape) < share)
    fate = rng.random(tokens_BT.shape)
    seen = np.where(chosen & (fate < 0.8), MASK, tokens_BT)
    other = rng.integers(FIRST_RESIDUE, LAST_RESIDUE + 1, tokens_BT.shape)
    seen = np.where(chosen & (fate >= 0.9), other, seen)
    return seen, np.where(chosen, tokens_BT, -100)


def _factor(step: int, plan: HousePlan) -> float:
    """Warm-up, then a half cosine down to a twentieth."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _save(path: Path, plan: HousePlan, model: Any, optimiser: Any, schedule: Any, losses: list[float]) -> None:
    import torch

    state = {
        "plan": identity(plan),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": {"last_epoch": schedule.last_epoch},
        "losses": losses,
    }
    with replacing(path) as temporary:
        torch.save(state, temporary)


def _resumed(path: Path, plan: HousePlan, model: Any, optimiser: Any, schedule: Any) -> list[float]:
    """Losses of the steps that were done; the state of the last saved one is in the objects."""
    import torch

    if not path.exists():
        return []
    state = torch.load(path, weights_only=True)
    if state["plan"] != identity(plan):
        raise BadInput("holds the state of another plan", file=path, remedy="remove it, or write to another folder")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.last_epoch = state["schedule"]["last_epoch"]
    return list(state["losses"])


def _write(out: Path, plan: HousePlan, model: EsmForMaskedLM, losses: list[float]) -> None:
    from safetensors.torch import save_file

    model.eval()
    tied = {"lm_head.decoder.weight", "lm_head.decoder.bias"}  # the same bytes as the embedding and `lm_head.bias`
    tensors: dict[str, torch.Tensor] = {
        name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied
    }
    with replacing(out / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    config = {**model.config.to_diff_dict(), "architectures": ["EsmForMaskedLM"], "dtype": "float32"}
    write_json(out / "config.json", config)
    write_text(out / "vocab.txt", "\n".join(TOKENS))
    tokenizer = {
        "tokenizer_class": "EsmTokenizer", "cls_token": "<cls>", "pad_token": "<pad>", "eos_token": "<eos>",
        "unk_token": "<unk>", "mask_token": "<mask>",
    }  # fmt: skip
    write_text(out / "tokenizer_config.json", json.dumps(tokenizer, indent=2) + "\n")
    tail = losses[-100:]
    write_json(
        out / "training.json",
        {
            "plan": plan.model_dump(),
            "steps": len(losses),
            "loss_last_100": sum(tail) / len(tail),
            "loss_first": losses[0],
        },
    )
