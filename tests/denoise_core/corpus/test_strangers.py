"""Three corpora of other laboratories, from their own files to a verdict, by `python -m denoise_core` alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from strangers import borrowed, write_files

from denoise_core.__main__ import main
from denoise_core.corpus.store import Corpus, open_corpus

LEAST_DB = 48.0
FRACTION = ("--units", "reflectance")  # files without a head say nothing
TINY = {
    "model": {"base": "lmmse", "d_model": 8, "n_layers": 1, "d_state": 4, "film_hidden_dim": 8},
    "optimiser": {"epochs": 1, "steps_per_epoch": 2, "bs": 8},
}


@pytest.fixture(scope="module")
def mini(mini_corpus_root: Path) -> Corpus:
    return open_corpus(mini_corpus_root)


def to_verdict(
    source: Path, work: Path, capsys: pytest.CaptureFixture[str], train: Sequence[str], *options: str
) -> dict[str, Any]:
    """Import, train, denoise the panel, evaluate: the summary, and the exit code."""
    corpus = work / "corpus"
    assert main(["import", str(source), "--out", str(corpus), "--yes", *options]) == 0, capsys.readouterr()
    panel = work / "panel.csv"
    open_corpus(corpus).manifest("validation_panel").frame.to_csv(panel, index=False)
    model = work / "model"
    capsys.readouterr()
    assert main(["train", "--corpus", str(corpus), "--out", str(model), *train, "--json"]) == 0, capsys.readouterr()
    checkpoint = json.loads(capsys.readouterr().out)["checkpoint"]
    ask = ["--corpus", str(corpus), "--manifest", str(panel), "--checkpoint", checkpoint]
    assert main(["denoise", *ask, "--out", str(work / "denoised"), "--layout", "packed"]) == 0
    training = work / "training.csv"
    open_corpus(corpus).manifest("manifest_train").frame.to_csv(training, index=False)
    ask = ["--corpus", str(corpus), "--panel", str(panel), "--training", str(training)]
    capsys.readouterr()
    code = main(["evaluate", *ask, "--predictions", str(work / "denoised"), "--out", str(work / "audit"), "--json"])
    said = capsys.readouterr()
    assert code in (0, 3), said.err
    written = (work / "audit" / "panel_eval_summary.json").read_text()
    assert "The study gives no doses" in written
    summary: dict[str, Any] = json.loads(written)
    assert code == (0 if summary["passed"] else 3)
    (judged,) = summary["per_checkpoint"]
    assert judged["integrity_pass"], "their panel is left out of their training"
    assert judged["skill_pass"], "better than raw in every group of theirs"
    assert judged["downstream_pass"], "no dose to judge by, and nothing fails for it"
    return judged


def test_decimal_commas_301_points_and_no_dose(
    mini: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = borrowed(mini, {"dry": 1, "wet": 3}, 4, (8,), every=2)
    source = write_files(tmp_path / "raw", groups, mini.wavelength_nm[::2], head="Wellenlänge;Reflexion\n")
    verdict = to_verdict(source, tmp_path, capsys, ("--method", "linear", "--kind", "g"))
    assert verdict["psnr_mean"] > LEAST_DB


def test_two_treatments_four_samples_uneven_replicates(
    mini: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = borrowed(mini, {"dry": 1, "wet": 3}, 4, (6, 9, 7), every=2)
    source = write_files(tmp_path / "raw", groups, mini.wavelength_nm[::2], line="{:g}\t{:.6f}")
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    verdict = to_verdict(source, tmp_path, capsys, ("--plan", str(tmp_path / "tiny.json")), *FRACTION)
    assert verdict["psnr_mean"] > LEAST_DB


def test_percent_on_a_descending_axis(mini: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = (
        (treatment, sample, angle, 100 * spectra[:, ::-1])
        for treatment, sample, angle, spectra in borrowed(mini, {"dry": 1, "wet": 3}, 3, (8,), every=2)
    )
    source = write_files(tmp_path / "raw", groups, mini.wavelength_nm[::2][::-1])
    verdict = to_verdict(source, tmp_path, capsys, ("--method", "linear"), "--units", "percent")
    assert verdict["psnr_mean"] > LEAST_DB
