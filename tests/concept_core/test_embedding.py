"""Embedding: batches change nothing (T2), layers mean what they say (T3), a killed run goes on (T13), no hub (T16)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from concept_core.corpus.windows import Window, write_windows
from concept_core.embedding import batches, pieces, residue_states, seen, window_means
from concept_core.jobs.embed import Embed, embed
from concept_core.models.protein_lm import ProteinLM
from concept_core.models.registry import Registered, located, open_model, portable
from concept_core.plans import EmbeddingPlan
from study_core.errors import TrainingInterrupted
from study_core.files import sha256_of
from study_core.job import Content

pytestmark = pytest.mark.concept
pytest.importorskip("transformers")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(house: Registered) -> ProteinLM:
    return open_model(house, device="cpu")


def proteins(*lengths: int) -> list[str]:
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length)) for length in lengths]


def windows(count: int) -> list[Window]:
    made = []
    for number, sequence in enumerate(proteins(*range(60, 60 + count))):
        stratum = "pos" if number % 3 == 0 else "rand"
        made.append(
            Window(
                key=f"{number}", accession=f"P{number}", sequence=sequence, start=10, end=51, stratum=stratum, group="g"
            )  # type: ignore[arg-type]
        )
    return made


def request(house: Registered, file: Path, **changes: object) -> Embed:
    folder, tokenizer = located(house)
    fields = {
        "plan": EmbeddingPlan(sequences_per_shard=4), "name": house.name, "entry": portable(house), "layers": (0, 2, 4),
        "windows": Content.of(file), "model": Content.of(folder), "tokenizer": tokenizer, "device": "cpu",
    }  # fmt: skip
    return Embed.model_validate({**fields, **changes})


class Place:
    """A job's context that may ask to stop after some shards."""

    def __init__(self, folder: Path, stop_after: int | None = None, **adjustments: int) -> None:
        self.folder, self.adjustments, self.stop_after, self.told = folder, adjustments, stop_after, 0

    def should_stop(self) -> bool:
        return self.stop_after is not None and self.told >= self.stop_after

    def progress(self, **fields: object) -> None:
        self.told += 1


def test_a_batch_changes_no_state(model: ProteinLM) -> None:
    sequences = proteins(90, 40, 13)
    together = model.hidden_states(sequences, [0, 2, 4])
    for sequence, states in zip(sequences, together, strict=True):
        alone = model.hidden_states([sequence], [0, 2, 4])[0]
        for layer in (0, 2, 4):
            assert states[layer].shape == (len(sequence), model.hidden_size)
            assert np.abs(states[layer] - alone[layer]).max() <= 1e-5


def test_without_the_mask_padding_would_change_them(model: ProteinLM) -> None:
    import torch

    ids, mask = model.tokens(proteins(90, 40))  # type: ignore[attr-defined]
    network = model.network  # type: ignore[attr-defined]
    with torch.inference_mode():
        right, wrong = (
            network.esm(ids, attention_mask=one).last_hidden_state[1, 1:41] for one in (mask, torch.ones_like(mask))
        )
    assert (right - wrong).abs().max() > 1e-3


def test_layer_0_is_the_letters_and_the_last_is_after_the_norm(model: ProteinLM) -> None:
    import torch

    sequence = proteins(50)[0]
    states = model.hidden_states([sequence], [0, 4])[0]
    network = model.network  # type: ignore[attr-defined]
    ids, mask = model.tokens([sequence])  # type: ignore[attr-defined]
    with torch.inference_mode():
        letters = network.esm.embeddings(ids, attention_mask=mask)[0, 1:-1].numpy()
        last = network.esm(ids, attention_mask=mask).last_hidden_state[0, 1:-1].numpy()
    np.testing.assert_allclose(states[0], letters, atol=1e-6)
    np.testing.assert_allclose(states[4], last, atol=1e-6)
    swapped = sequence[::-1]
    np.testing.assert_allclose(model.hidden_states([swapped], [0])[0][0], states[0][::-1], atol=1e-6)


def test_every_residue_of_a_long_protein_has_one_state(model: ProteinLM) -> None:
    sequences = proteins(500, 96, 97, 20)
    found = dict(residue_states(model, sequences, [2], tokens_per_batch=400, overlap=48))
    assert {number: len(states[2]) for number, states in found.items()} == {0: 500, 1: 96, 2: 97, 3: 20}
    alone = model.hidden_states([sequences[0][:96]], [2])[0][2]
    np.testing.assert_allclose(found[0][2][:72], alone[:72], atol=1e-5)  # up to the middle of the first overlap


@pytest.mark.parametrize("length", [1, 96, 97, 143, 1000])
def test_pieces_cover_a_sequence_once(length: int) -> None:
    cut = pieces([length], 96, 48)
    assert [at for one in cut for at in range(one.keep_from, one.keep_to)] == list(range(length))
    assert all(one.start <= one.keep_from < one.keep_to <= one.end <= one.start + 96 for one in cut)


def test_batches_stay_within_the_budget_and_lose_nothing() -> None:
    lengths = np.random.default_rng(0).integers(10, 900, 200).tolist()
    made = batches(lengths, 4096)
    assert sorted(number for batch in made for number in batch) == list(range(200))
    assert all(len(batch) == 1 or len(batch) * (max(lengths[one] for one in batch) + 2) <= 4096 for batch in made)


def test_window_means_are_means() -> None:
    states = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    found = window_means(states, 41)
    np.testing.assert_allclose(found, [states[at : at + 41].mean(0) for at in range(60)], atol=1e-6)
    assert window_means(states[:10], 41).shape == (1, 4)


def test_the_store_holds_the_windows_states_in_the_tables_order(
    model: ProteinLM, house: Registered, tmp_path: Path
) -> None:
    from concept_core.layout import EmbeddingFiles
    from concept_core.store import open_store

    table = windows(10)
    file = write_windows(tmp_path / "windows.jsonl", table)
    plan = EmbeddingPlan(context=60, sequences_per_shard=4)
    made = embed(request(house, file, plan=plan), Place(tmp_path / "job"))
    store = open_store(EmbeddingFiles(made.store.path), file)
    for number, window in enumerate(table):
        shown = seen(window, 60)
        state = model.hidden_states([shown.letters], [4])[0][4][shown.start : shown.end]
        np.testing.assert_allclose(store.residues(4)[number], state, atol=5e-3)
    assert store.pooled(2).shape == (10, 64)


def test_an_interrupted_store_goes_on_and_is_the_same(house: Registered, tmp_path: Path) -> None:
    file = write_windows(tmp_path / "windows.jsonl", windows(12))
    whole = embed(request(house, file), Place(tmp_path / "whole"))
    with pytest.raises(TrainingInterrupted, match="after 1 of 3"):
        embed(request(house, file), Place(tmp_path / "halves", stop_after=1))
    kept = tmp_path / "halves" / "store" / "shards" / "00000.safetensors"
    before = kept.stat().st_mtime_ns
    halves = embed(request(house, file), Place(tmp_path / "halves"))
    assert halves.store.sha256 == whole.store.sha256
    assert halves.residues < whole.residues
    assert before
    again = embed(request(house, file), Place(tmp_path / "halves"))
    assert (again.store.sha256, again.residues) == (whole.store.sha256, 0)


def test_other_windows_never_reuse_a_shard(house: Registered, tmp_path: Path) -> None:
    first = write_windows(tmp_path / "a.jsonl", windows(12))
    second = write_windows(tmp_path / "b.jsonl", windows(12)[::-1])
    with pytest.raises(TrainingInterrupted):
        embed(request(house, first), Place(tmp_path / "job", stop_after=2))
    mixed = embed(request(house, second), Place(tmp_path / "job"))
    assert mixed.store.sha256 == embed(request(house, second), Place(tmp_path / "clean")).store.sha256


def test_halved_batches_give_the_same_store_within_half_precision(house: Registered, tmp_path: Path) -> None:
    file = write_windows(tmp_path / "windows.jsonl", windows(9))
    one = embed(request(house, file), Place(tmp_path / "one"))
    other = embed(request(house, file), Place(tmp_path / "other", batch_halvings=5))
    a, b = (np.load(made.store.path / "L4_pos.npy", allow_pickle=False) for made in (one, other))
    np.testing.assert_allclose(a.astype(float), b.astype(float), atol=5e-3)


@pytest.mark.slow
def test_a_killed_embedding_goes_on_to_the_same_store(house: Registered, tmp_path: Path) -> None:
    file = write_windows(tmp_path / "windows.jsonl", windows(400))
    asked = request(house, file)
    (tmp_path / "request.json").write_text(asked.model_dump_json())
    script = (
        "import sys\nfrom pathlib import Path\nfrom concept_core.jobs.embed import Embed, embed\n"
        "from tests_place import Place\n"
        "embed(Embed.model_validate_json(Path(sys.argv[1]).read_text()), Place(Path(sys.argv[2])))\n"
    )
    (tmp_path / "tests_place.py").write_text(
        "class Place:\n    adjustments = {}\n    def __init__(self, folder): self.folder = folder\n"
        "    def should_stop(self): return False\n    def progress(self, **fields): pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(tmp_path / "request.json"), str(tmp_path / "job")]
    process = subprocess.Popen(command, env=environment)
    shards = tmp_path / "job" / "store" / "shards"
    deadline = time.monotonic() + 60
    while len(list(shards.glob("0*.safetensors"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "job" / "store" / "store.json").exists()
    done = {path: path.stat().st_mtime_ns for path in shards.glob("0*.safetensors")}
    assert len(done) >= 3
    again = embed(asked, Place(tmp_path / "job"))
    assert again.store.sha256 == embed(asked, Place(tmp_path / "clean")).store.sha256


def test_no_socket_is_opened(house: Registered, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a model was asked for over the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model = open_model(house, device="cpu")
    assert model.hidden_states(["MKV"], [1])[0][1].shape == (3, 64)


def test_an_untrained_twin_has_other_weights_and_one_seed(house: Registered) -> None:
    trained, one, same, other = (
        open_model(house, device="cpu", untrained_seed=seed).hidden_states(["MKVCH"], [4])[0][4]
        for seed in (None, 0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
    assert not np.allclose(one, trained)


def test_moving_a_model_renames_no_result(house: Registered, tmp_path: Path) -> None:
    import shutil

    file = write_windows(tmp_path / "windows.jsonl", windows(3))
    assert house.folder is not None
    shutil.copytree(house.folder, tmp_path / "elsewhere")
    moved = house.model_copy(update={"folder": tmp_path / "elsewhere", "tokenizer": tmp_path / "elsewhere"})
    assert request(house, file).identity() == request(moved, file).identity()
    assert sha256_of(tmp_path / "elsewhere") == request(house, file).model.sha256
