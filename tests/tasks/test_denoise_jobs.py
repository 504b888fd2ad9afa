"""What makes two jobs of the denoiser one: plan, manifests, corpus; and which start a warm start may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoise_core import recipes
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus
from denoise_core.model.checkpoints import save_linear, save_plain
from denoise_core.model.linear import fit_lmmse
from denoise_core.model.neural import load_denoiser
from deployments.tenancy import Asked
from deployments.tenants.denoise import FOLD_02
from deployments.tenants.denoise import steps as steps_of
from study_core.errors import BadInput
from study_core.files import sha256_of, write_json
from study_core.plan import changed
from tasks import promotion
from tasks.denoise import inputs, steps
from tasks.denoise.parameters import WarmStartPlan
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
    best.with_suffix(".json").unlink()
    assert inputs.existing_start(run, None, 2, corpus) is None
    assert "truncated or no checkpoint" in run.log.records()[-1]["text"]
    save_linear(best, {"kind": "f"})  # a stranger's file: a fold trained elsewhere
    assert inputs.existing_start(run, None, 2, corpus) == best


def test_worth_is_measured_on_every_fold_where_a_gpu_trains_or_it_is_asked_for(run: Run, corpus: Corpus) -> None:
    data = inputs.verify_panel.fn(str(corpus.root), "", "")
    inside = inputs.inside(data, "inside", 2)

    def others(known: bool = True, split: inputs.Inside | None = inside, **plan: Any) -> list[int]:
        return [*inputs.other_folds(data, WarmStartPlan.model_validate(plan), split, known)]

    assert others(worth_folds="all") == [1, 3, 4, 5]
    assert others(worth_folds="all", start={"fold": 5}) == [1, 2, 3, 4]
    assert others(where={"profile": "a100"}) == [1, 3, 4, 5]
    assert others(where={"profile": "a100"}, worth_folds="start") == others(where={"profile": "local"}) == []
    for reason, given in (("seen is not known", {"known": False}), ("the panel chooses", {"split": None})):
        assert others(where={"profile": "a100"}, **given) == []
        with pytest.raises(BadInput, match=reason):
            others(worth_folds="all", **given)
    for fold, split in inputs.other_folds(data, WarmStartPlan(worth_folds="all"), inside, True).items():
        tested = set(inputs.fold_data(corpus, fold)["test"].groups)
        assert set(split.unseen.groups) == tested - set(data.panel.groups)
        assert not tested & {*split.training.groups, *split.chosen_on.groups}


def test_a_strangers_fold_is_trained_again_where_worth_is_measured(run: Run, corpus: Corpus) -> None:
    best = Path(run.folder.parents[1]) / "checkpoints" / "prod" / "Track_H_fold_03" / inputs.BEST
    save_linear(best, {"kind": "f"})
    assert inputs.campaign_start(run, 3, corpus) is None, "what it has seen is not known"
    write_json(best.with_suffix(".json"), {"sha256": sha256_of(best), "corpus": corpus.sha256})
    assert inputs.campaign_start(run, 3, corpus) == best


def test_a_checkpoint_of_another_grid_is_refused_or_passed_over(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    coarse = corpus_of(corpus.captures, corpus.spectra_NL[:, ::2], corpus.wavelength_nm[::2])
    shifted = corpus_of(corpus.captures, corpus.spectra_NL, corpus.wavelength_nm + 20)
    named = tmp_path / "theirs.pt"
    save_linear(named, {"kind": "f", "wavelength_nm": coarse.wavelength_nm})
    assert inputs.existing_start(run, str(named), 2, coarse) == named
    asked = (
        r"theirs\.pt: was trained on 301 wavelengths from 300 to 600 nm, the corpus has 601 wavelengths from 3[02]0 to"
    )
    for door in (
        lambda corpus: inputs.existing_start(run, str(named), 2, corpus),
        lambda corpus: inputs.checkpoints_of([str(named)], corpus),
        lambda corpus: inputs.model_or_production(str(named), "", corpus),
    ):
        for other in (corpus, shifted):
            with pytest.raises(BadInput, match=asked):
                door(other)
    best = Path(run.folder.parents[1]) / "checkpoints" / "prod" / "Track_H_fold_02" / inputs.BEST
    save_linear(best, {"kind": "f"})
    assert inputs.existing_start(run, None, 2, coarse) is None, "nobody named it: the fold is trained on this grid"
    assert "Passed over" in run.log.records()[-1]["text"]


def test_what_is_in_production_on_another_grid_is_no_incumbent(
    run: Run, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "held.pt"
    save_linear(held, {"kind": "f", "wavelength_nm": corpus.wavelength_nm})
    monkeypatch.setattr(promotion, "production_model", lambda run: held)
    assert inputs.incumbent(run, corpus) == held
    coarse = corpus_of(corpus.captures, corpus.spectra_NL[:, ::2], corpus.wavelength_nm[::2])
    with pytest.raises(BadInput, match=r"held\.pt: was trained on 601 wavelengths"):
        inputs.incumbent(run, coarse)


def test_staging_is_read_from_the_corpus_of_its_own(run: Run, mini_corpus_root: Path) -> None:
    """Its captures are those before the alignment, of more control samples: the aligned corpus has not got them."""
    staging, manifest = inputs.manifest_named(str(mini_corpus_root), "staging")
    aligned, usual = inputs.manifest_named(str(mini_corpus_root), "manifest")
    assert staging.root == mini_corpus_root.resolve() / "_staging"
    assert aligned.root == mini_corpus_root.resolve()
    assert len(manifest.frame) > len(usual.frame)
    assert staging.rows(manifest).tolist() == list(range(len(manifest.frame)))


@pytest.mark.parametrize("name", ["cut.pt", "state.pt"])
def test_a_file_that_is_no_checkpoint_is_refused_before_a_job_is_sent(
    tmp_path: Path, name: str, corpus: Corpus
) -> None:
    good = tmp_path / "models" / "good.pt"
    save_linear(good, {"kind": "f"})
    assert inputs.checkpoints_of([str(good.parent)], corpus) == [good]
    (good.parent / "cut.pt").write_bytes(good.read_bytes()[:200])
    save_plain(good.parent / "state.pt", {"optimiser": {}, "epoch": 3})
    (good.parent / ({"cut.pt", "state.pt"} - {name}).pop()).unlink()
    for asked in (inputs.checkpoints_of, lambda paths, corpus: inputs.checkpoint_file(f"{paths[0]}/{name}", corpus)):
        with pytest.raises(BadInput) as error:
            asked([str(good.parent)], corpus)
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


def test_folds_of_another_corpus_are_never_written_over(
    run: Run, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = run.folder.parents[1]
    other = corpus_of(corpus.captures[:80], corpus.spectra_NL[:80], corpus.wavelength_nm, corpus.root)

    def placed(root: Path, of: Corpus) -> Path:
        best = root / "checkpoints" / "prod" / "Track_H_fold_02" / inputs.BEST
        beside = root / "checkpoints" / "Track_H_fold_02" / inputs.BEST
        for path in (best, beside):
            save_linear(path, {"kind": "f", "corpus": of.sha256})
            write_json(
                path.with_suffix(".json"), {"sha256": sha256_of(path), "corpus": of.sha256, "path": str(of.root)}
            )
        return best

    assert inputs.campaign_root(corpus) == artifacts, "the first corpus has the runbook's own names"
    first = placed(artifacts, corpus)
    assert inputs.campaign_root(corpus) == artifacts
    apart = inputs.campaign_root(other)
    assert apart == artifacts / "corpora" / f"mini-corpus-{other.sha256[:8]}"
    assert inputs.existing_start(run, None, 2, other) is None
    second = placed(apart, other)
    assert inputs.existing_start(run, None, 2, other) == second
    assert inputs.existing_start(run, None, 2, corpus) == first
    assert inputs.campaign_root(other, "mine") == artifacts / "mine"
    placed(artifacts / "mine", corpus)
    with pytest.raises(BadInput, match="holds folds of another corpus; name another output_root"):
        inputs.campaign_root(other, "mine")


def test_two_campaigns_that_start_at_once_get_a_folder_each(run: Run, corpus: Corpus) -> None:
    other = corpus_of(corpus.captures[:80], corpus.spectra_NL[:80], corpus.wavelength_nm, corpus.root)
    first, second = inputs.claimed_root(run, corpus, ""), inputs.claimed_root(run, other, "")
    assert first == run.folder.parents[1]
    assert second == first / "corpora" / f"mini-corpus-{other.sha256[:8]}", "before either has placed anything"
    assert str(second) in run.log.records()[-1]["text"]
    assert (inputs.claimed_root(run, corpus, ""), inputs.claimed_root(run, other, "")) == (first, second)


def test_the_main_job_finds_a_fold_that_stands_apart(run: Run, corpus: Corpus) -> None:
    artifacts = run.folder.parents[1]
    asked = Asked(str(corpus.root), artifacts, Path("/"))
    best = artifacts / "corpora" / "x-12345678" / FOLD_02
    save_linear(best, {"kind": "f"})
    write_json(best.with_suffix(".json"), {"path": str(corpus.root.resolve())})
    assert [step.deployment for step in steps_of(asked)] == ["act-of-god/warm-start"]
    write_json(best.with_suffix(".json"), {"path": "/another"})
    assert [step.deployment for step in steps_of(asked)] == ["cross-validation/five-fold", "act-of-god/warm-start"]
