"""The five 3/1/1 folds by sample: train on three samples of each treatment, validate on one, test on one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from denoise_core.corpus import layout
from denoise_core.corpus.dose import ANGLES
from denoise_core.corpus.manifest import Manifest, manifest_of, write_manifest
from denoise_core.corpus.store import Corpus
from study_core.errors import BadInput

FOLDS = (1, 2, 3, 4, 5)
SPLITS = {"train": (0, 1, 2), "val": (3,), "test": (4,)}  # places after the fold's first training sample


@dataclass(frozen=True, eq=False)
class Fold:
    """Manifests of one fold; in the full corpus 4500 / 1500 / 1500 captures."""

    k: int
    train: Manifest
    val: Manifest
    test: Manifest

    def __iter__(self) -> Iterator[tuple[str, Manifest]]:
        yield from (("train", self.train), ("val", self.val), ("test", self.test))


@dataclass(frozen=True)
class FoldPaths:
    """Files of one fold as `write_folds` leaves them."""

    k: int
    train: Path
    val: Path
    test: Path


def split_samples(captures: pd.DataFrame, k: int) -> dict[str, dict[str, list[str]]]:
    """split → treatment → samples of fold k. BadInput: no such fold, or a treatment without five samples."""
    if k not in FOLDS:
        raise BadInput(f"no fold {k}", remedy="folds are 1 to 5")
    by_treatment = layout.dosed_samples(captures)
    if not by_treatment:
        raise BadInput("no dosed treatment: the controls take part in no fold", remedy="give treatments 1 to 5")
    for treatment, samples in by_treatment.items():
        if len(samples) != len(FOLDS):
            raise BadInput(
                f"{treatment} has {len(samples)} samples, the rotation needs {len(FOLDS)}",
                remedy="complete the corpus, or leave the treatment out",
            )
    return {
        split: {t: [layout.fold_sample(samples, k, o) for o in offsets] for t, samples in by_treatment.items()}
        for split, offsets in SPLITS.items()
    }


def fold_counts(captures: pd.DataFrame) -> dict[str, int]:
    """Rows that each split must have: treatments × samples of the split × angles × captures a group.

    BadInput names the first dosed group that is missing or holds another number of captures than the others.
    """
    by_treatment = layout.dosed_samples(captures)
    sizes = captures["group_id"].value_counts().to_dict()
    groups = [f"{t}/{s}/{a}" for t, samples in by_treatment.items() for s in samples for a in ANGLES]
    replicates = max(sizes.get(group, 0) for group in groups)
    for group in groups:
        if sizes.get(group, 0) != replicates:
            raise BadInput(
                f"group {group} has {sizes.get(group, 0)} captures, others have {replicates}",
                remedy="restore the missing captures: folds must hold equal groups",
            )
    return {split: len(by_treatment) * len(o) * len(ANGLES) * replicates for split, o in SPLITS.items()}


def fold_manifests(corpus: Corpus, k: int) -> Fold:
    """Manifests of fold k (1 … 5), unique captures in corpus order, their counts checked."""
    samples = split_samples(corpus.captures, k)
    expected = fold_counts(corpus.captures)
    of_sample = corpus.captures["treatment"] + "/" + corpus.captures["sample"]
    manifests = {}
    for split, by_treatment in samples.items():
        chosen = [f"{t}/{s}" for t, names in by_treatment.items() for s in names]
        manifest = manifest_of(corpus.captures[of_sample.isin(chosen)])
        if len(manifest) != expected[split]:
            raise BadInput(
                f"fold {k} {split} has {len(manifest)} rows, expected {expected[split]}",
                file=corpus.root,
                remedy="restore the missing captures",
            )
        manifests[split] = manifest
    return Fold(k, **manifests)


def folds_json(captures: pd.DataFrame) -> dict[str, Any]:
    """The published `folds.json`: fold → split → treatment → samples (a list for train, one name otherwise)."""
    folds = {}
    for k in FOLDS:
        splits = split_samples(captures, k)
        folds[str(k)] = {
            split: {t: names if split == "train" else names[0] for t, names in by_treatment.items()}
            for split, by_treatment in splits.items()
        }
    return {"folds": folds}


def write_folds(corpus: Corpus, out_dir: Path) -> list[FoldPaths]:
    """Write `fold_01 … fold_05/{train,val,test}_manifest.csv` under `out_dir`."""
    written = []
    for k in FOLDS:
        folder = Path(out_dir) / f"fold_{k:02d}"
        paths = {}
        for split, manifest in fold_manifests(corpus, k):
            paths[split] = folder / f"{split}_manifest.csv"
            write_manifest(manifest.frame, paths[split])
        written.append(FoldPaths(k, **paths))
    return written
