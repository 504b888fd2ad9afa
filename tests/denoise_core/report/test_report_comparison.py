"""Two runs side by side: figures by group, and the captures on which they differ most."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from denoise_core.evaluation.predictions import denoised_name
from denoise_core.report.comparison import blocks
from denoise_core.report.record import read_run
from study_core.report.blocks import Picture, Table, Text


def test_groups_and_spectra_of_two_runs(ran, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ran.folder, other)
    for folder in (ran.folder, other):
        plan = json.loads((folder / "plan.json").read_text())
        (folder / "plan.json").write_text(json.dumps({**plan, "corpus": str(ran.corpus.root)}))
    capture = str(ran.panel.frame["relative_path"].iloc[3])
    spectrum = read_run(other).predictions_folder / denoised_name(capture)
    np.save(spectrum, np.load(spectrum) + np.float32(0.05))
    found = list(blocks({"one": ran.folder, "two": other}, tmp_path))
    whole, *by_group = [block for block in found if isinstance(block, Table)]
    assert [row[0] for row in whole.rows] == ["one", "two"]
    assert whole.rows[0][1:] == whole.rows[1][1:]
    assert [table.columns for table in by_group] == [("group", "one", "two")] * 3
    boxes, overlays = [block for block in found if isinstance(block, Picture)]
    assert boxes.title.startswith("PSNR of the captures")
    assert f"{capture.rsplit('_', 1)[-1].removesuffix('.npy')}: 50.00" in overlays.alt  # the one that was moved


def test_a_corpus_that_is_gone_costs_the_figures_alone(ran, tmp_path: Path) -> None:
    found = list(blocks({"one": ran.folder, "two": ran.folder}, tmp_path))
    assert len([block for block in found if isinstance(block, Table)]) == 4
    (text,) = [block for block in found if isinstance(block, Text)]
    assert text.text.startswith("No figures of spectra")
