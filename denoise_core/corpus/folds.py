"""Folds by sample: of each treatment one sample to test, one to validate, the others to train; 3/1/1 of five."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from denoise_core.corpus import layout
from denoise_core.corpus.manifest import Manifest, manifest_of, write_manifest
from denoise_core.corpus.store import Corpus
from denoise_core.corpus.study import FEWEST_SAMPLES, PUBLISHED, STUDY_FILE, Study
from study_core.errors import BadInput


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


def fold_numbers(captures: pd.DataFrame, study: Study) -> tuple[int, ...]:
    """The folds that a corpus has, from 1: as many as its smallest treatment has samples. BadInput says why none."""
    by_treatment = layout.rotating_samples(captures, study)
    if not by_treatment:
        raise BadInput(
            "every treatment is a control: the controls take part in no fold", remedy="give treatments that are none"
        )
    for treatment, samples in by_treatment.items():
        if study.samples is not None and len(samples) != study.samples:
            raise BadInput(
                f"{treatment} has {len(samples)} samples, the rotation needs {study.samples}",
                remedy="complete the corpus, or leave the treatment out",
            )
        if len(samples) < FEWEST_SAMPLES:
            raise BadInput(
                f"no folds: {treatment} has {len(samples)} samples, a fold needs one each to train, validate and test",
                remedy=f"give {FEWEST_SAMPLES} samples, or make it a control in {STUDY_FILE}",
            )
    return tuple(range(1, min(map(len, by_treatment.values())) + 1))


def split_samples(captures: pd.DataFrame, k: int, study: Study) -> dict[str, dict[str, list[str]]]:
    """split → treatment → samples of fold k; BadInput for a fold that there is not.

    Each fold tests one sample of a treatment, validates on the one before it in rotation, trains on the others.
    """
    numbers = fold_numbers(captures, study)
    if k not in numbers:
        raise BadInput(f"no fold {k}", remedy=f"folds are 1 to {numbers[-1]}")
    by_treatment = layout.rotating_samples(captures, study)
    return {
        "train": {t: [layout.fold_sample(s, k, o) for o in range(len(s) - 2)] for t, s in by_treatment.items()},
        "val": {t: [layout.fold_sample(s, k, -2)] for t, s in by_treatment.items()},
        "test": {t: [layout.fold_sample(s, k, -1)] for t, s in by_treatment.items()},
    }


def verify_groups(captures: pd.DataFrame, study: Study) -> None:
    """BadInput names the first group that a fold needs and that lacks captures, where the study says how many."""
    if study.replicates is None:
        return
    by_treatment = layout.rotating_samples(captures, study)
    sizes = captures["group_id"].value_counts().to_dict()
    angles = study.angles or sorted(set(captures["angle"]))
    groups = [f"{t}/{s}/{a}" for t, samples in by_treatment.items() for s in samples for a in angles]
    equal = study.replicates == "equal"
    replicates = max(sizes.get(group, 0) for group in groups) if equal else study.replicates
    for group in groups:
        if sizes.get(group, 0) != replicates:
            raise BadInput(
                f"group {group} has {sizes.get(group, 0)} captures, "
                + (f"others have {replicates}" if equal else f"the study {study.name} says {replicates}"),
                remedy=f"restore the missing captures, or leave replicates out of {STUDY_FILE}",
            )


def fold_manifests(corpus: Corpus, k: int) -> Fold:
    """Manifests of fold k (from 1), unique captures in corpus order, their groups counted."""
    samples = split_samples(corpus.captures, k, corpus.study)
    verify_groups(corpus.captures, corpus.study)
    of_sample = corpus.captures["treatment"] + "/" + corpus.captures["sample"]
    manifests = {}
    for split, by_treatment in samples.items():
        chosen = [f"{t}/{s}" for t, names in by_treatment.items() for s in names]
        manifests[split] = manifest_of(corpus.captures[of_sample.isin(chosen)])
    return Fold(k, **manifests)


def inside_training(corpus: Corpus, training: Manifest, k: int) -> Fold:
    """A training manifest split as fold k splits its groups, so that no panel has to choose an epoch.

    A model that starts from that fold's and is trained on `train` has its epoch chosen on `val` and has seen nothing of
    `test`: there it shows what it is worth. Groups that the fold does not know are trained on. BadInput where nothing
    is left to train on, or to choose on.
    """
    fold = fold_manifests(corpus, k)
    held = {name: training.frame["group_id"].isin(getattr(fold, name).groups) for name in ("val", "test")}
    rest = ~(held["val"] | held["test"])
    if not rest.any() or not held["val"].any():
        raise BadInput(
            f"no epoch can be chosen inside training: fold {k} "
            f"{'validates on none of its groups' if rest.any() else 'trains on none of its groups'}",
            file=training.path,
            remedy="choose it on the panel, or name another fold",
        )
    parts = {name: manifest_of(training.frame[rows]) for name, rows in {"train": rest, **held}.items()}
    return Fold(k, **parts)


def folds_json(captures: pd.DataFrame, study: Study = PUBLISHED) -> dict[str, Any]:
    """The published `folds.json`: fold → split → treatment → samples (a list for train, one name otherwise)."""
    folds = {}
    for k in fold_numbers(captures, study):
        splits = split_samples(captures, k, study)
        folds[str(k)] = {
            split: {t: names if split == "train" else names[0] for t, names in by_treatment.items()}
            for split, by_treatment in splits.items()
        }
    return {"folds": folds}


def write_folds(corpus: Corpus, out_dir: Path) -> list[FoldPaths]:
    """Write `fold_01 …/{train,val,test}_manifest.csv` of every fold under `out_dir`."""
    written = []
    for k in fold_numbers(corpus.captures, corpus.study):
        folder = Path(out_dir) / f"fold_{k:02d}"
        paths = {}
        for split, manifest in fold_manifests(corpus, k):
            paths[split] = folder / f"{split}_manifest.csv"
            write_manifest(manifest.frame, paths[split])
        written.append(FoldPaths(k, **paths))
    return written
