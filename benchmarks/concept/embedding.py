"""Embedding whole proteins: residues a CPU second and memory, ours against padding to 1,024 and one at a time.

The rivals are what a plain script does with transformers: `padded` pads every batch of eight to 1,024 tokens,
`one_by_one` gives each protein a forward of its own. All three compute the same hidden states in single precision on
one thread; the largest difference between them is reported. Each runs in a process of its own, so that its peak memory
is its own. Networks have fresh weights: speed does not depend on them. Proteins are the committed C2H2 set's.

    python -m benchmarks.concept.embedding [--smoke] [--json FILE]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import parser, report
from concept_core.corpus.rows import read_rows
from concept_core.embedding import residue_states
from concept_core.models.esm2 import Esm2

DATA = Path(__file__).resolve().parents[2] / "data" / "concept"
SIZES = {"house": (64, 4, 4), "t6_8M": (320, 6, 20)}
PADDED_TO, BATCH = 1024, 8


def opened(size: str) -> Esm2:
    """A network of one of the sizes, fresh weights from one seed."""
    import torch
    from transformers import EsmConfig, EsmForMaskedLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    width, layers, heads = SIZES[size]
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=4 * width, max_position_embeddings=1026,
        position_embedding_type="rotary", token_dropout=True, layer_norm_eps=1e-5,
    )  # fmt: skip
    network = EsmForMaskedLM(config)
    network.eval()  # type: ignore[no-untyped-call]
    return Esm2(
        name=size, hidden_size=width, num_layers=layers, max_residues=1022, network=network,
        device="cpu", autocast=False,
    )  # fmt: skip


def proteins(count: int) -> list[str]:
    """Distinct proteins of at most 1,022 residues, in the files' order."""
    rows = [row for name in ("pos", "neg") for row in read_rows(DATA / f"c2h2_mini_{name}.jsonl")]
    found = list(dict.fromkeys(row.sequence for row in rows if len(row.sequence) <= 1022))
    step = max(1, len(found) // count)
    return found[::step][:count]


def ours(model: Esm2, sequences: list[str], layer: int) -> Iterator[tuple[int, np.ndarray]]:
    for number, states in residue_states(model, sequences, [layer]):
        yield number, states[layer]


def one_by_one(model: Esm2, sequences: list[str], layer: int) -> Iterator[tuple[int, np.ndarray]]:
    for number, sequence in enumerate(sequences):
        yield number, model.hidden_states([sequence], [layer])[0][layer]


def padded(model: Esm2, sequences: list[str], layer: int) -> Iterator[tuple[int, np.ndarray]]:
    import torch

    for start in range(0, len(sequences), BATCH):
        batch = sequences[start : start + BATCH]
        ids, mask = model.tokens(batch)
        ids = torch.nn.functional.pad(ids, (0, PADDED_TO - ids.shape[1]), value=1)
        mask = torch.nn.functional.pad(mask, (0, PADDED_TO - mask.shape[1]))
        with torch.inference_mode():
            states = model.network.esm(ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer]
        for row, sequence in enumerate(batch):
            yield start + row, states[row, 1 : len(sequence) + 1].numpy()


WAYS: dict[str, Callable[[Esm2, list[str], int], Iterator[tuple[int, np.ndarray]]]] = {
    "ours": ours,
    "padded": padded,
    "one_by_one": one_by_one,
}


def measured(size: str, way: str, count: int) -> dict[str, Any]:
    """One way in this process: CPU seconds, residues a second, peak memory, and sums to compare the ways by."""
    model, sequences = opened(size), proteins(count)
    list(WAYS[way](model, sequences[:2], model.num_layers))  # the first forward builds kernels
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sums = np.zeros((len(sequences), model.hidden_size))
    started = time.process_time()
    for number, states in WAYS[way](model, sequences, model.num_layers):
        sums[number] = states.mean(axis=0)
    seconds = time.process_time() - started  # of the one thread: other work on the machine costs none
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    residues = sum(len(one) for one in sequences)
    return {
        "seconds": seconds, "residues": residues, "residues_per_second": residues / seconds,
        "peak_mb": peak / 1024, "grown_mb": (peak - before) / 1024, "means": sums.tolist(),
    }  # fmt: skip


def apart(size: str, way: str, count: int) -> dict[str, Any]:
    """`measured` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.concept.embedding", "--one", size, way, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(*, smoke: bool = False) -> dict[str, Any]:
    """Every way for every size, and what 10,000 proteins of 350 residues would take at our measured slope."""
    result: dict[str, Any] = {}
    for size, count in (("house", 16),) if smoke else (("house", 120), ("t6_8M", 40)):
        ways = {way: apart(size, way, count) for way in WAYS}
        means = {way: np.array(found.pop("means")) for way, found in ways.items()}
        half = apart(size, "ours", count // 2)
        slope = (ways["ours"]["seconds"] - half["seconds"]) / (ways["ours"]["residues"] - half["residues"])
        result[size] = {
            **ways,
            "speedup_over_padded": ways["padded"]["seconds"] / ways["ours"]["seconds"],
            "speedup_over_one_by_one": ways["one_by_one"]["seconds"] / ways["ours"]["seconds"],
            "largest_difference": max(float(np.abs(means[way] - means["ours"]).max()) for way in WAYS),
            "scan_of_10000_proteins_of_350_minutes": slope * 10_000 * 350 / 60,
        }
    return result


def main() -> None:
    """The command line; `--one` measures a single way and prints JSON."""
    if sys.argv[1:2] == ["--one"]:
        size, way, count = sys.argv[2:5]
        print(json.dumps(measured(size, way, int(count))))
        return
    options = parser(__doc__, "16 proteins, the house size alone").parse_args()
    report(run(smoke=options.smoke), options)


if __name__ == "__main__":
    main()
