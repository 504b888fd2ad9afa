"""True TCAV: does the model *use* the direction when it fills in a residue?

A ligand residue of a held-out positive is masked. S = Σ over the window's tokens of ∂ log p(true residue) / ∂h_l · u,
through the head. The target is a log-probability, never the raw logit: under a linear head the gradient of a logit is
the same for every input. One backward pass gives a vector an example and layer; every direction, and every random CAV,
is then a product with it. p is empirical, two-sided, from mean S over label-shuffled CAVs: the share of positive S
spreads widely among random directions and is no evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from concept_core.cav.rows import Floats
from concept_core.corpus.windows import Window, overlap
from concept_core.embedding import batches, seen
from concept_core.models.protein_lm import MaskedLM
from study_core.errors import BadInput


class Probed(NamedTuple):
    """A window as it is shown, with the residue that is masked (its place in the shown letters)."""

    letters: str
    start: int
    end: int
    masked: int


def probed(
    windows: Sequence[Window], ligands: str, context: int | None, rng: np.random.Generator
) -> tuple[list[Probed], list[Probed]]:
    """For each window one ligand residue inside its known occurrence (or the window), and one other residue.

    Windows without either are left out of both.
    """
    ligand, other = [], []
    for window in windows:
        shown = seen(window, context)
        shift = window.start - shown.start
        first, last = max(window.domains, key=lambda span: overlap(span, window.span), default=window.span)
        places = range(max(first, window.start) - shift, min(last, window.end) - shift)
        having = [place for place in places if shown.letters[place] in ligands]
        lacking = [place for place in places if shown.letters[place] not in ligands + "X"]
        if having and lacking:
            ligand.append(Probed(*shown, having[int(rng.integers(len(having)))]))
            other.append(Probed(*shown, lacking[int(rng.integers(len(lacking)))]))
    if not ligand:
        raise BadInput("no held-out window holds a ligand residue", remedy="name data.concept.ligand_residues")
    return ligand, other


def _inputs(model: MaskedLM, examples: Sequence[Probed]) -> tuple[Any, Any, Any]:
    """Token numbers with the mask in place, attention mask, true tokens."""
    import torch

    ids_BT, mask_BT = model.tokens([one.letters for one in examples])
    rows = torch.arange(len(examples), device=ids_BT.device)
    columns = torch.tensor([one.masked + 1 for one in examples], device=ids_BT.device)
    true_B = ids_BT[rows, columns].clone()
    ids_BT = ids_BT.clone()
    ids_BT[rows, columns] = model.network.config.mask_token_id
    return ids_BT, mask_BT, (rows, columns, true_B)


def gradients(
    model: MaskedLM, examples: Sequence[Probed], layers: Sequence[int], *, tokens_per_batch: int = 8192
) -> dict[int, Floats]:
    """Σ over window tokens of ∂ log p(true) / ∂h_l, examples × width, by layer."""
    import torch

    found = {layer: np.zeros((len(examples), model.hidden_size)) for layer in layers}
    for members in batches([len(one.letters) for one in examples], tokens_per_batch):
        chosen = [examples[number] for number in members]
        ids, mask, (rows, columns, true_B) = _inputs(model, chosen)
        with torch.enable_grad():
            out = model.network(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            logp = torch.log_softmax(out.logits[rows, columns].float(), dim=-1)[rows, true_B].sum()
            grads = torch.autograd.grad(logp, [out.hidden_states[layer] for layer in layers])
        for layer, grad in zip(layers, grads, strict=True):
            for row, number in enumerate(members):
                one = chosen[row]
                found[layer][number] = grad[row, one.start + 1 : one.end + 1].sum(0).double().cpu().numpy()
    return found


def log_probabilities(
    model: MaskedLM,
    examples: Sequence[Probed],
    *,
    layer: int,
    push_d: Floats,
    tokens_per_batch: int = 8192,
) -> Floats:
    """log p(true residue) of each example with `push_d` added to layer `layer` at the window's tokens."""
    import torch

    found = np.zeros(len(examples))
    for members in batches([len(one.letters) for one in examples], tokens_per_batch):
        chosen = [examples[number] for number in members]
        ids, mask, (rows, columns, true_B) = _inputs(model, chosen)
        where = torch.zeros(ids.shape, device=ids.device)
        for row, one in enumerate(chosen):
            where[row, one.start + 1 : one.end + 1] = 1.0
        push = where[..., None] * torch.tensor(push_d, dtype=torch.float32, device=ids.device)
        with torch.no_grad(), _pushed(model.network, layer, push):
            logits = model.network(input_ids=ids, attention_mask=mask).logits
        logp = torch.log_softmax(logits[rows, columns].float(), dim=-1)[rows, true_B]
        found[members] = logp.double().cpu().numpy()
    return found


@contextmanager
def _pushed(network: Any, layer: int, push: Any) -> Iterator[None]:
    """While open, `push` is added to the states after block `layer` (the last one: after the final norm)."""
    encoder = network.esm.encoder
    module = encoder.emb_layer_norm_after if layer == len(encoder.layer) else encoder.layer[layer - 1]

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        return (output[0] + push, *output[1:]) if isinstance(output, tuple) else output + push

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Sensitivity:
    """One direction of a layer, on ligand residues and on other residues of the same windows."""

    layer: int
    direction: str
    share: float
    mean: float
    p: float
    other_share: float
    other_mean: float
    other_p: float
    contrast: float
    contrast_p: float
    random_share: float
    random_share_sd: float
    examples: int
    random_cavs: int

    def record(self) -> dict[str, Any]:
        return dict(self.__dict__)


def two_sided(value: float, random: Floats) -> float:
    """(1 + #{|random| ≥ |value|}) / (R + 1)."""
    return float((1 + int((np.abs(random) >= abs(value)).sum())) / (len(random) + 1))


def against_random(
    layer: int, name: str, u_d: Floats, random_Rd: Floats, ligand_Nd: Floats, other_Nd: Floats
) -> Sensitivity:
    """S of a direction against those of random CAVs."""
    s, s_other = ligand_Nd @ u_d, other_Nd @ u_d
    random, random_other = ligand_Nd @ random_Rd.T, other_Nd @ random_Rd.T
    shares = (random > 0).mean(axis=0)
    contrast = float(s.mean() - s_other.mean())
    return Sensitivity(
        layer, name,
        share=float((s > 0).mean()), mean=float(s.mean()), p=two_sided(s.mean(), random.mean(axis=0)),
        other_share=float((s_other > 0).mean()), other_mean=float(s_other.mean()),
        other_p=two_sided(s_other.mean(), random_other.mean(axis=0)),
        contrast=contrast, contrast_p=two_sided(contrast, random.mean(axis=0) - random_other.mean(axis=0)),
        random_share=float(shares.mean()), random_share_sd=float(shares.std(ddof=1)) if len(shares) > 1 else 0.0,
        examples=len(s), random_cavs=len(random_Rd),
    )  # fmt: skip
