"""Coverage notes: the three Markdown files with which the seed's auditors check what a manifest holds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from denoise_core.corpus import layout
from denoise_core.corpus.study import PUBLISHED
from study_core.files import replacing
from study_core.markdown import markdown_table


def write_notes(captures: pd.DataFrame, out: Path) -> list[Path]:
    """Write `validation_panel_summary.md`, `train_manifest_summary.md`, `training_group_counts.md` into `out`."""
    panel = layout.derive_manifest(captures, "validation_panel", PUBLISHED)
    train = layout.derive_manifest(captures, "manifest_train", PUBLISHED)
    samples = train.groupby(["treatment", "sample", "angle"], sort=True).size().reset_index(name="spectra")
    notes = {
        "validation_panel_summary.md": _note("Validation panel (fixed hold-out)", panel, _counts(panel)),
        "train_manifest_summary.md": _note("Training manifest by treatment, sample and angle", train, samples),
        "training_group_counts.md": _note("Training manifest by group_id", train, _counts(train)),
    }
    for name, text in notes.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [out / name for name in notes]


def _counts(frame: pd.DataFrame) -> pd.DataFrame:
    counts = frame.groupby("group_id", sort=True)["relative_path"].agg(["size", "nunique"]).reset_index()
    return counts.set_axis(["group_id", "spectra", "unique"], axis=1)


def _note(title: str, frame: pd.DataFrame, table: pd.DataFrame) -> str:
    head = f"# {title}\n\n{len(frame)} spectra, {frame['relative_path'].nunique()} unique, "
    head += f"{frame['group_id'].nunique()} groups.\n\n"
    return head + markdown_table(list(table.columns), list(table.itertuples(index=False))) + "\n"
