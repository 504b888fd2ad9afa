"""The house model's training: what it sees, what an interruption changes (nothing), what its twin never sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from concept_core.corpus.decoys import matches
from concept_core.corpus.rows import Protein
from concept_core.models.alphabet import MASK, TOKENS, token_numbers
from concept_core.models.house import HousePlan, masked, train
from concept_core.models.house_data import Crops, crops
from concept_core.models.registry import ModelEntry, Registered, open_model
from concept_core.plans import ConceptSpec
from study_core.errors import BadInput, TrainingInterrupted
from study_core.files import sha256_of

pytestmark = pytest.mark.concept
pytest.importorskip("transformers")
PATTERN = str(ConceptSpec().pattern)


def finger(rng: np.random.Generator) -> str:
    """C-x2-C-x3-F-x8-H-x3-H, the x drawn: fingers that are no relatives of each other."""
    x = "".join(rng.choice(list("ADEGKNPQRST"), 16))
    return f"C{x[:2]}C{x[2:5]}F{x[5:13]}H{x[13:]}H"


PLAN = HousePlan(hidden_size=16, layers=2, heads=2, steps=6, batch=4, crop=48, save_every=2, warmup=2)


@pytest.fixture(scope="module")
def proteins() -> list[Protein]:
    rng = np.random.default_rng(0)
    plain = ["".join(rng.choice(list("ADEFGIKLMNPQRSTVWY"), 120)) for _ in range(8)]
    return [Protein(f"p{n}", one[:40] + finger(rng) + one[40:] if n < 4 else one) for n, one in enumerate(plain)]


def data(proteins: list[Protein], **changes: bool) -> Crops:
    return crops(proteins, [proteins[0].sequence], PATTERN, conserved="CH", **{"with_concept": True, **changes})


def test_relatives_of_evaluation_proteins_are_never_seen(proteins: list[Protein]) -> None:
    seen = data(proteins)
    assert len(seen.proteins) == 7
    assert len(seen.occurrences) == 3
    twin = data(proteins, with_concept=False)
    letters = ["".join(TOKENS[number] for number in one) for one in twin.proteins]
    assert len(letters) == 4
    assert not any(matches(one, PATTERN) for one in letters)
    with pytest.raises(BadInput, match="relative of an evaluation protein"):
        crops(proteins, [one.sequence for one in proteins], PATTERN, with_concept=True)


def test_a_third_of_the_crops_hold_the_concept_and_drift_keeps_its_ligands(proteins: list[Protein]) -> None:
    batch = data(proteins).batch(30, 48, 1 / 3, 0.5, np.random.default_rng(0))
    assert batch.shape == (30, 50)
    assert (batch[:, 0] == 0).all()
    kept = np.isin(batch, token_numbers("CH")[1:-1]).sum(1)
    assert (kept[:10] >= 4).all()
    plain = data(proteins).batch(10, 48, 1.0, 0.0, np.random.default_rng(1))
    assert all(matches("".join(TOKENS[number] for number in row), PATTERN) for row in plain)


def test_masking_hides_what_must_be_said(proteins: list[Protein]) -> None:
    rng = np.random.default_rng(0)
    tokens = data(proteins).batch(200, 48, 0.0, 0.0, rng)
    seen, labels = masked(tokens, 0.15, rng)
    chosen = labels != -100
    assert chosen.mean() == pytest.approx(0.15 * 48 / 50, rel=0.1)
    assert (labels[chosen] == tokens[chosen]).all()
    assert (seen[~chosen] == tokens[~chosen]).all()
    assert (seen[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.05)


def test_an_interrupted_training_ends_in_the_same_weights(proteins: list[Protein], tmp_path: Path) -> None:
    whole = train(PLAN, data(proteins), tmp_path / "whole")
    calls = []
    with pytest.raises(TrainingInterrupted, match="after step 3 of 6"):
        train(PLAN, data(proteins), tmp_path / "halves", should_stop=lambda: calls.append(1) or len(calls) == 3)
    halves = train(PLAN, data(proteins), tmp_path / "halves")
    assert sha256_of(halves) == sha256_of(whole)
    other = train(PLAN.model_copy(update={"seed": 1}), data(proteins), tmp_path / "other")
    assert sha256_of(other / "model.safetensors") != sha256_of(whole / "model.safetensors")


def test_what_was_trained_opens_as_a_model(proteins: list[Protein], tmp_path: Path) -> None:
    folder = train(PLAN, data(proteins), tmp_path / "small")
    entry = ModelEntry(family="house", hidden_size=16, num_layers=2, num_attention_heads=2, layers_to_extract=(1, 2))
    found = Registered(name="small", entry=entry, folder=folder, tokenizer=folder, registry=tmp_path / "r.yaml")
    states = open_model(found, device="cpu").hidden_states(["MKVCH"], [0, 2])[0]
    assert states[2].shape == (5, 16)
    assert not list(folder.glob("state*"))


def test_training_may_start_from_a_model_that_the_plan_names(proteins: list[Protein], tmp_path: Path) -> None:
    from concept_core.models.house import weights_of

    first = train(PLAN, data(proteins), tmp_path / "first")
    named = PLAN.model_copy(update={"init_sha256": sha256_of(weights_of(first)), "lr": 1e-9})
    second = train(named, data(proteins), tmp_path / "second", init=first)
    entry = ModelEntry(family="house", hidden_size=16, num_layers=2, num_attention_heads=2, layers_to_extract=(1, 2))
    states = [
        open_model(
            Registered(name="m", entry=entry, folder=folder, tokenizer=folder, registry=tmp_path / "r.yaml"),
            device="cpu",
        ).hidden_states(["MKVCH"], [2])[0][2]
        for folder in (first, second)
    ]
    np.testing.assert_allclose(states[0], states[1], atol=1e-3)  # a rate of nearly nothing stays where it started
    with pytest.raises(BadInput, match="the plan says None"):
        train(PLAN, data(proteins), tmp_path / "third", init=first)
