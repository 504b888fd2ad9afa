"""What makes two jobs of the denoiser one: plan, manifests, corpus; and which start a warm start may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoise_core import recipes
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.model.checkpoints import save_linear, save_plain
from denoise_core.model.linear import fit_lmmse
from denoise_core.model.neural import load_denoiser
from study_core.errors import BadInput
from study_core.files import sha256_of, write_json
from study_core.plan import changed
from tasks.denoise import inputs, steps
from tasks.run import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))
    return Run("study", "a run", "1234", tmp_path / "artifacts" / "study" / "a-run-1234")


@pytest.fixture
def corpus(mini_corpus_root: Path) -> Corpus:
    return open_corpus(mini_corpus_root)


def test_a_fold_is_the_same_job_only_with_the_same_plan_and_manifests(run: Run, corpus: Corpus) -> None:
    def key(fold: int = 1, device: str = "auto", **optimiser: Any) -> str:
        plan = changed(recipes.named("track_h_mini"), {"optimiser": optimiser})
        return steps.fold_training(fold, plan, corpus, inputs.fold_data(corpus, fold), device).spec.key("code")

    assert key() == key(device="cuda:1")  # what, not where
    assert len({key(), key(fold=2), key(lr=1e-5), key(epochs=3), key(early_stop_patience=2)}) == 5


def test_a_fold_whose_file_is_not_the_one_placed_is_no_start(run: Run, corpus: Corpus) -> None:
    best = Path(run.folder.parents[1]) / "checkpoints" / "prod" / "Track_H_fold_02" / inputs.BEST
    best.parent.mkdir(parents=True)
    best.write_bytes(b"whole weights")
    write_json(best.with_suffix(".json"), {"sha256": sha256_of(best), "corpus": corpus.sha256})
    assert inputs.existing_start(run, None, 2, corpus) == best
    best.write_bytes(b"whole")
    assert inputs.existing_start(run, None, 2, corpus) is None
    assert "not the file that its campaign placed" in run.log.records()[-1]["text"]
    best.with_suffix(".json").unlink()  # a stranger's file: a fold trained elsewhere
    assert inputs.existing_start(run, None, 2, corpus) == best


def test_staging_is_read_from_the_corpus_of_its_own(run: Run, mini_corpus_root: Path) -> None:
    """Its captures are those before the alignment, of more control samples: the aligned corpus has not got them."""
    staging, manifest = inputs.manifest_named(str(mini_corpus_root), "staging")
    aligned, usual = inputs.manifest_named(str(mini_corpus_root), "manifest")
    assert staging.root == mini_corpus_root.resolve() / "_staging"
    assert aligned.root == mini_corpus_root.resolve()
    assert len(manifest.frame) > len(usual.frame)
    assert staging.rows(manifest).tolist() == list(range(len(manifest.frame)))


@pytest.mark.parametrize("name", ["cut.pt", "state.pt"])
def test_a_file_that_is_no_checkpoint_is_refused_before_a_job_is_sent(tmp_path: Path, name: str) -> None:
    good = tmp_path / "models" / "good.pt"
    save_linear(good, {"kind": "f"})
    assert inputs.checkpoints_of([str(good.parent)]) == [good]
    (good.parent / "cut.pt").write_bytes(good.read_bytes()[:200])
    save_plain(good.parent / "state.pt", {"optimiser": {}, "epoch": 3})
    (good.parent / ({"cut.pt", "state.pt"} - {name}).pop()).unlink()
    for asked in (inputs.checkpoints_of, lambda paths: inputs.checkpoint_file(f"{paths[0]}/{name}")):
        with pytest.raises(BadInput) as error:
            asked([str(good.parent)])
        assert error.value.file == good.parent / name


def test_the_filter_inside_a_model_is_a_checkpoint_of_its_own(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    groups = corpus.manifest("manifest_train").groups[:4]
    fitted = fit_lmmse(corpus, groups, calibrate=False)
    model = tmp_path / "model.pt"
    save_plain(model, {"base_state": fitted.state(), "model_state": {}})
    path = inputs.own_filter(model)
    assert path is not None
    rows = np.arange(5)
    x_BL, context = corpus.spectra_NL[rows], corpus.context(rows)
    assert np.array_equal(load_denoiser(path).denoise(x_BL, context), fitted.denoise(x_BL, context))
    assert inputs.own_filter(model) == path
    save_plain(model, {"base_state": None, "model_state": {}})
    assert inputs.own_filter(model) is None
