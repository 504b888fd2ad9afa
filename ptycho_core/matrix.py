"""The matrix of trainings: which network is trained on which view of which dose, and where it lands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptycho_core.design import ALL, SPLITS, StudyDesign, dose_name
from ptycho_core.layout import Layout
from ptycho_core.recipes import Arm
from study_core.files import peek_json


@dataclass(frozen=True)
class TrainingJob:
    """One training: its cell (dose, view, gridsize, seed, arm) and its paths."""

    dose: float
    view: str
    gridsize: int
    seed: int
    arm: Arm
    train: Path
    test: Path
    truth: Path | None
    artifact_dir: Path

    @property
    def log_path(self) -> Path:
        return self.artifact_dir / "train.log"

    @property
    def name(self) -> str:
        """For people: `dose_1000 dense gs2`."""
        parts = [dose_name(self.dose), self.view, f"gs{self.gridsize}"]
        parts += ["supervised"] if self.arm == "baseline" else []
        parts += [f"seed {self.seed}"] if self.seed else []
        return " ".join(parts)


def build_training_jobs(
    design: StudyDesign,
    hub: Path,
    *,
    allow_missing: bool = False,
    skip_events: list[dict[str, Any]] | None = None,
    arms: Sequence[Arm] = ("pinn",),
    seeds: Sequence[int] = (),
) -> list[TrainingJob]:
    """Every training of a design, by dose, then all positions (gs1), then each view (gs of the largest group).

    `seeds` is the first training seed unless given; the supervised arm sees all positions. Nothing is written, and no
    file is opened but the skip records.

    Raises:
        FileNotFoundError: a dataset is missing, unless `allow_missing`: then a {dose, view, reason} is appended to
            `skip_events` and the job left out.
    """
    layout, jobs = Layout(hub), []
    for dose in design.doses:
        for view, gridsize in _cells(design):
            missing = [path for split in SPLITS if not (path := layout.dataset(dose, view, split)).exists()]
            if missing and not allow_missing:
                raise FileNotFoundError(f"{missing[0]}: no such dataset; run generate and overlap for this dose first")
            if missing:
                event = {"dose": dose, "view": view, "reason": missing_reason(layout, dose, view, missing[0])}
                if skip_events is not None:
                    skip_events.append(event)
                continue
            for arm in arms:
                if arm == "baseline" and view != ALL:
                    continue
                jobs += [_job(layout, dose, view, gridsize, seed, arm)
                         for seed in seeds or design.seeds.training[:1]]  # fmt: skip
    return jobs


def _cells(design: StudyDesign) -> list[tuple[str, int]]:
    singles = [(ALL, 1)] if 1 in design.gridsizes else []
    return singles + [(view, max(design.gridsizes)) for view in design.views]


def missing_reason(layout: Layout, dose: float, view: str, missing: Path) -> str:
    """Why a dataset is not there: the overlap phase's own reason where it left one."""
    for split in SPLITS:
        if view != ALL and (record := peek_json(layout.skip(dose, view, split))):
            return str(record["reason"])
    return f"{missing.relative_to(layout.hub).as_posix()} is missing: run generate and overlap"


def _job(layout: Layout, dose: float, view: str, gridsize: int, seed: int, arm: Arm) -> TrainingJob:
    return TrainingJob(
        dose, view, gridsize, seed, arm,
        train=layout.dataset(dose, view, "train"), test=layout.dataset(dose, view, "test"),
        truth=layout.truth_train(dose) if arm == "baseline" else None,
        artifact_dir=layout.training(dose, view, gridsize, seed=seed, arm=arm),
    )  # fmt: skip
