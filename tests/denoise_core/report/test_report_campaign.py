"""The review of a campaign: figures over folds, from tables alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denoise_core.corpus.store import open_corpus
from denoise_core.report.campaign import (
    HTML,
    REVIEW,
    compose_campaign,
    merged,
    worst_examples,
    write_campaign_report,
)
from denoise_core.report.campaign_blocks import against_table, fold_figures, over_folds_table, worst_captures
from study_core.errors import BadInput

LEVELS = {"model": 53.0, "raw": 46.0, "savgol_61_3": 49.0}


def table(folds: int = 5, captures: int = 20) -> pd.DataFrame:
    """Known means: fold k is k/10 dB better; the model's captures spread by 1 dB."""
    rng = np.random.default_rng(5)
    rows = []
    for fold in range(1, folds + 1):
        for split in ("val", "test"):
            for method, level in LEVELS.items():
                noise = rng.standard_normal(captures)
                values = level + fold / 10 + noise - noise.mean()
                rows += [
                    {
                        "relative_path": f"treatment_1/sample_A/6Oclock/rep_{n:03d}.npy",
                        "fold": fold,
                        "split": split,
                        "method": method,
                        "psnr_db": value,
                        "sam_deg": 0.5,
                        "roi_area_error_pct": 5.0 if n < fold else 50.0,
                    }
                    for n, value in enumerate(values)
                ]
    return pd.DataFrame(rows)


CURVE = pd.DataFrame(
    {"epoch": [0, 1, 2], "train_loss": [np.nan, 2.0, 1.0], "val_psnr_mean": [50.0, 52.0, 51.0],
     "val_sam_deg": [0.9, 0.6, 0.7], "best_epoch": [0, 1, 1]}
)  # fmt: skip


def test_a_fold_is_one_observation() -> None:
    row = next(row for row in over_folds_table(fold_figures(table())).rows if row[:2] == ("test", "Model"))
    assert row[2] == "5"
    assert row[3] == f"53.30 ± {np.std([0.1, 0.2, 0.3, 0.4, 0.5], ddof=1):.2f} dB"
    assert row[6] == f"15.0 % ± {100 * np.std([0.05, 0.1, 0.15, 0.2, 0.25], ddof=1):.1f} %"


def test_differences_are_paired_by_fold() -> None:
    """The folds' own levels cancel: the difference to raw is 7 dB with no spread."""
    rows = {row[0]: row for row in against_table(fold_figures(table()), "test").rows}
    assert rows["Raw capture"][1] == "+7.00 ± 0.00 dB"
    assert rows["Raw capture"][4] == "5 of 5"


def test_one_fold_has_no_sd() -> None:
    found = over_folds_table(fold_figures(table(folds=1)))
    assert all("±" not in cell for row in found.rows for cell in row)


def test_missing_and_empty_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no column psnr_db"):
        write_campaign_report(tmp_path, table().drop(columns="psnr_db"))
    with pytest.raises(BadInput, match="no captures"):
        write_campaign_report(tmp_path, table().iloc[:0])
    with pytest.raises(BadInput, match="no capture of the split"):
        write_campaign_report(tmp_path, table(), split="train")
    assert not list(tmp_path.iterdir())


def test_text_and_page_are_written(tmp_path: Path) -> None:
    done = write_campaign_report(tmp_path, table(), dict.fromkeys(range(1, 6), CURVE), failures={6: "oom"})
    assert done.html == tmp_path / HTML
    assert done.review == tmp_path / REVIEW
    text, html = done.review.read_text(), done.html.read_text()
    for words in ("53.30 ± 0.16 dB", "Fold 6 has no figures: oom", "5 of 5"):
        assert words in text
        assert words in html
    assert html.count("<figure>") == 3
    assert len(html) < 2 << 20
    assert "<script" not in html
    assert "http" not in html


def test_tables_without_paths_or_curves_do_too(tmp_path: Path) -> None:
    done = write_campaign_report(tmp_path, table().drop(columns="relative_path"))
    assert done.html.read_text().count("<figure>") == 1
    assert [section.key for section in done.page.sections] == ["over-folds", "against", "by-fold"]


def test_fold_without_usable_values_is_drawn() -> None:
    spoilt = table(folds=2)
    spoilt.loc[(spoilt["fold"] == 2) & (spoilt["method"] == "raw"), ["psnr_db", "roi_area_error_pct"]] = np.nan
    assert compose_campaign(spoilt, {}).sections


def test_what_others_wrote_into_the_review_stays() -> None:
    failure = "\n## 2026-11-21 04:56 UTC · warm-start\n\nFAILED gate roi\n"
    first = merged("# Reviewing the five-fold run\n" + failure, "one")
    assert first.startswith("# Reviewing the five-fold run\n\n<!-- review: begin -->\none\n")
    assert failure.strip() in first
    second = merged(first + failure.replace("04:56", "05:56"), "two")
    assert "one" not in second
    assert second.count("two") == 1
    assert second.count("FAILED gate roi") == 2
    assert merged("", "one") == "# Reviewing the five-fold run\n\n<!-- review: begin -->\none\n<!-- review: end -->\n"
    assert merged(merged("", "one"), "one") == merged("", "one")


def test_worst_captures_stand_beside_raw() -> None:
    captures = table()
    place = captures.index[(captures["fold"] == 3) & (captures["split"] == "test") & (captures["method"] == "model")][4]
    captures.loc[place, "psnr_db"] = 20.0
    worst = worst_captures(captures, most=4)
    assert len(worst) == 4
    assert worst.iloc[0][["fold", "psnr_db"]].tolist() == [3, 20.0]
    raw = captures[(captures["fold"] == 3) & (captures["split"] == "test") & (captures["method"] == "raw")]
    assert worst["raw_psnr_db"].iloc[0] == raw["psnr_db"].iloc[4]


@pytest.mark.parametrize("layout", ["packed", "files"])
def test_examples_are_read_in_either_layout(mini_corpus_root: Path, tmp_path: Path, layout: str) -> None:
    corpus = open_corpus(mini_corpus_root)
    path = str(corpus.captures["relative_path"].iloc[7])
    folder = tmp_path / "test"
    spectrum = np.linspace(0.1, 0.4, corpus.spectra_NL.shape[1], dtype=np.float32)
    if layout == "packed":
        folder.mkdir()
        np.save(folder / "denoised.npy", np.stack([0 * spectrum, spectrum]))
        pd.DataFrame({"relative_path": ["other", path]}).to_csv(folder / "manifest.csv", index=False)
    else:
        file = folder / path.replace(".npy", "_denoised.npy")
        file.parent.mkdir(parents=True)
        np.save(file, spectrum)
    worst = pd.DataFrame({"fold": [1], "relative_path": [path]})
    (found,) = worst_examples(corpus, worst, {1: folder})
    np.testing.assert_array_equal(found.denoised_L, spectrum.astype(np.float64))
    np.testing.assert_array_equal(found.raw_L, corpus.spectra_NL[7].astype(np.float64))
    with pytest.raises(BadInput, match="no denoised spectrum"):
        worst_examples(corpus, worst.assign(relative_path=str(corpus.captures["relative_path"].iloc[8])), {1: folder})
