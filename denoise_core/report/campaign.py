"""The review of a cross-validation campaign: every fold's captures beside the controls, in text and figures.

Made from tables alone: `captures`, one row a fold, split, method and capture, and each fold's `metrics.csv`.
Figures over folds are mean ± standard deviation (ddof 1) of the folds' own means: a fold is one observation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from denoise_core.corpus.manifest import manifest_of
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.folds import MODEL
from denoise_core.evaluation.predictions import denoised_name
from denoise_core.report import figures
from denoise_core.report.campaign_blocks import (
    NAMES,
    against_table,
    by_fold_table,
    fold_boxes,
    fold_figures,
    mean_sd,
    over_folds_table,
    worst_blocks,
    worst_captures,
)
from denoise_core.report.labels import capture_label
from denoise_core.report.page import write_page
from denoise_core.report.spectra import Capture, Floats
from study_core.errors import UNREADABLE, BadInput
from study_core.files import replacing
from study_core.report.blocks import Block, Items, Page, Picture, Section, Table, Text

REVIEW, HTML = "reviewing_the_5fold_run.md", "reviewing_the_5fold_run.html"
TITLE = "# Reviewing the five-fold run\n"
_BEGIN, _END = "<!-- review: begin -->", "<!-- review: end -->"
_LEAD = (
    "Every capture is scored against the mean of its group's other captures; ± is the standard deviation over folds."
)
_UNSEEN = "The test split's groups were seen neither by training nor by the choice of a checkpoint."


@dataclass(frozen=True)
class CampaignReport:
    """Where the review was written, and the page for further showing."""

    html: Path
    review: Path
    page: Page


def write_campaign_report(
    folder: Path,
    captures: pd.DataFrame,
    curves: Mapping[int, pd.DataFrame] | None = None,
    *,
    failures: Mapping[int, str] | None = None,
    examples: Sequence[Capture] = (),
    split: str = "test",
    review: Path | None = None,
) -> CampaignReport:
    """Write the review's HTML into `folder` and its text into `review` (default: beside it).

    `captures`: columns fold, split, method, psnr_db, sam_deg, roi_area_error_pct; with relative_path the worst
    captures are named. `failures`: fold → why it has no figures. `examples`: from `worst_examples`. What others
    appended to the review (failure modes of later runs) stays. BadInput for missing columns or an empty table.
    """
    page = compose_campaign(captures, curves or {}, failures=failures or {}, examples=examples, split=split)
    html = write_page(page, Path(folder) / HTML)
    target = review or Path(folder) / REVIEW
    earlier = target.read_text(encoding="utf-8") if target.exists() else ""
    with replacing(target) as temporary:
        temporary.write_text(merged(earlier, review_text(page)), encoding="utf-8")
    return CampaignReport(html, target, page)


def compose_campaign(
    captures: pd.DataFrame,
    curves: Mapping[int, pd.DataFrame],
    *,
    failures: Mapping[int, str] | None = None,
    examples: Sequence[Capture] = (),
    split: str = "test",
) -> Page:
    """The review as a page, figures drawn."""
    folds = fold_figures(captures)
    judged = captures[captures["split"] == split]
    if judged.empty:
        raise BadInput(f"no capture of the split {split!r}", remedy=f"one of {sorted(set(captures['split']))}")
    lost = Items(tuple(f"Fold {fold} has no figures: {why}" for fold, why in sorted((failures or {}).items())))
    worst = worst_captures(captures, split)
    sections = [
        Section("over-folds", "Over folds", (over_folds_table(folds), *([lost] if lost.items else []))),
        Section("against", "Against the controls", (against_table(folds, split),)),
        Section("by-fold", "By fold", (fold_boxes(judged), by_fold_table(folds, split))),
        Section("training", "Training", _some(figures.fold_curves(curves))),
        Section("worst", "Worst captures", (*worst_blocks(worst), *_overlays(examples))),
    ]
    return Page(
        title=f"Cross-validation · {folds['fold'].nunique()} folds",
        status="fail" if failures else "none",
        sentence=sentence(folds, split, failures or {}),
        lead=(_LEAD, *((_UNSEEN,) if split == "test" else ())),
        sections=tuple(section for section in sections if section.blocks),
        footer="No fold ships: the review validates the settings with which one model is then trained on all data.",
    )


def sentence(folds: pd.DataFrame, split: str, failures: Mapping[int, str]) -> str:
    """The campaign in one sentence."""
    own = folds[(folds["split"] == split) & (folds["method"] == MODEL)]
    missing = f"; {len(failures)} folds failed" if failures else ""
    if own.empty:
        return f"No figures of a trained model on the {split} split{missing}."
    figures_ = ", ".join(f"{NAMES[name]} {mean_sd(own[name], name)}" for name in ("psnr_db", "sam_deg", "roi_kept"))
    return f"Over {len(own)} folds, {split} split: {figures_}{missing}."


def worst_examples(corpus: Corpus, worst: pd.DataFrame, outputs: Mapping[int, Path], most: int = 3) -> list[Capture]:
    """The spectra of the worst captures: `outputs` is fold → folder of that split's denoised spectra, either layout.

    BadInput when a spectrum is missing.
    """
    found = []
    for row in worst.head(most).to_dict("records"):
        path, fold = str(row["relative_path"]), int(row["fold"])
        frame = corpus.captures[corpus.captures["relative_path"] == path]
        index = corpus.rows(manifest_of(frame))
        found.append(
            Capture(
                f"Fold {fold}: {capture_label(path)}",
                corpus.wavelength_nm,
                corpus.spectra_NL[index[0]].astype(np.float64),
                _denoised(outputs[fold], path),
                loo_mean(corpus, index)[0].astype(np.float64),
            )
        )
    return found


def _denoised(folder: Path, relative: str) -> Floats:
    packed, single = folder / "denoised.npy", folder / denoised_name(relative)
    try:
        if not packed.exists():
            return np.asarray(np.load(single, allow_pickle=False), np.float64)
        names = pd.read_csv(folder / "manifest.csv")["relative_path"].tolist()
        return np.asarray(np.load(packed, mmap_mode="r", allow_pickle=False)[names.index(relative)], np.float64)
    except UNREADABLE as error:
        raise BadInput(
            f"no denoised spectrum of {relative} ({error})", file=folder, remedy="denoise the fold again"
        ) from error


def review_text(page: Page) -> str:
    """The page's words and tables as markdown, its figures by title (they are in the HTML)."""
    parts = [f"**{page.sentence}**", *page.lead]
    for section in page.sections:
        parts.append(f"## {section.title}")
        for block in section.blocks:
            if isinstance(block, Table):
                parts.append(f"{block.title}:\n\n{block.markdown()}" + (f"\n\n{block.note}" if block.note else ""))
            elif isinstance(block, Items):
                parts.append("\n".join(f"- {item}" for item in block.items))
            elif isinstance(block, Text):
                parts.append(block.text)
            elif isinstance(block, Picture):
                parts.append(f"Figure “{block.title}” ({HTML}): {block.alt}")
    return "\n\n".join([*parts, page.footer])


def merged(earlier: str, review: str) -> str:
    """`review` put into a file that others append to: an older review is replaced, everything else stays."""
    block = f"{_BEGIN}\n{review}\n{_END}\n"
    before, found, rest = earlier.partition(_BEGIN)
    if found:
        return before + block + rest.partition(_END)[2].lstrip("\n")
    title, _, rest = earlier.partition("\n") if earlier.startswith("# ") else (TITLE.strip(), "", earlier)
    rest = rest.lstrip("\n")
    return f"{title}\n\n{block}" + (f"\n{rest}" if rest else "")


def _overlays(examples: Sequence[Capture]) -> tuple[Block, ...]:
    return (figures.overlays(examples, "The worst captures: raw, denoised and reference"),) if examples else ()


def _some(block: Block | None) -> tuple[Block, ...]:
    return () if block is None else (block,)
