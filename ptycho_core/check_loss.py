"""The loss guardrail: a training against the golden manifest that a person blessed.

What is compared is the stitched deviance ratio on the test view; it means the same at every dose, where the raw
likelihood does not. A patch ratio below .90 is refused as well: the network copied noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ptycho_core.manifests import read_manifest
from study_core.errors import BadInput
from study_core.files import copy, sha256_of, write_json

TOLERANCE = 0.05
PATCH_FLOOR = 0.90


@dataclass(frozen=True)
class LossCheck:
    """One verdict: a line for people, and the numbers that it was made of."""

    passed: bool
    line: str
    numbers: dict[str, Any]


def check_loss(
    reference: Mapping[str, Any],
    candidate: Mapping[str, Any],
    *,
    dose: float,
    view: str,
    gridsize: int,
    seed: int | None = None,
    arm: str = "pinn",
    tolerance: float = TOLERANCE,
) -> LossCheck:
    """Compare one cell of two manifests; whatever is missing, failed or not finite refuses. `seed` None: any."""
    cell = f"dose {dose:g} {view} gs{gridsize}" + (f" seed {seed}" if seed is not None else "")
    wanted: dict[str, Any] = {"dose": dose, "view": view, "gridsize": gridsize, "arm": arm}
    wanted |= {} if seed is None else {"seed": seed}
    numbers: dict[str, Any] = {**wanted, "tolerance": tolerance}
    faults = []
    for role, manifest in (("reference", reference), ("candidate", candidate)):
        found = [job for job in manifest["jobs"] if all(job.get(key) == value for key, value in wanted.items())]
        if not found:
            faults.append(f"no such job in the {role}")
            continue
        result = found[0].get("result") or {}
        numbers[role] = {name: result.get(name) for name in _NUMBERS} | {"status": result.get("status")}
        if result.get("status") != "success":
            faults.append(f"the {role}'s status is {result.get('status')}")
        faults += [f"the {role}'s {name} is {result.get(name)}" for name in _NUMBERS if not _finite(result.get(name))]
    faults = faults or _compared(numbers["reference"], numbers["candidate"], tolerance)
    ratios = [numbers.get(role, {}).get("deviance_ratio_test") for role in ("candidate", "reference")]
    figures = " vs reference ".join("missing" if not _finite(one) else f"{one:.4f}" for one in ratios)
    line = f"{cell}: deviance ratio {figures}, tolerance {tolerance:g}: " + ("; ".join(faults) if faults else "ok")
    return LossCheck(not faults, ("FAIL " if faults else "pass ") + line, numbers | {"faults": faults})


_NUMBERS = ("deviance_ratio_test", "deviance_ratio_patch", "deviance_ratio_flat", "final_loss")


def _compared(reference: Mapping[str, Any], candidate: Mapping[str, Any], tolerance: float) -> list[str]:
    ratio, before = candidate["deviance_ratio_test"], reference["deviance_ratio_test"]
    faults = []
    if ratio > before + tolerance:
        faults.append(f"exceeds the reference by {ratio - before:.4f}")
    if ratio >= candidate["deviance_ratio_flat"]:
        faults.append(f"explains no more than a flat object ({candidate['deviance_ratio_flat']:.4f})")
    if candidate["deviance_ratio_patch"] < PATCH_FLOOR:
        faults.append(f"patch ratio {candidate['deviance_ratio_patch']:.4f} < {PATCH_FLOOR:.2f}: noise was copied")
    return faults


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def archive_check(check: LossCheck, candidate_manifest: Path) -> Path:
    """Keep the verdict beside the candidate: `check_loss_<dose>_<view>_gs<g>.json`."""
    numbers = check.numbers
    seed = f"_seed{numbers['seed']}" if numbers.get("seed") else ""
    name = f"check_loss_{int(numbers['dose'])}_{numbers['view']}_gs{numbers['gridsize']}{seed}.json"
    record = {"passed": check.passed, "line": check.line, **numbers}
    return write_json(candidate_manifest.parent / name, record)


def promote_reference(manifest: Path, reference: Path, *, by: str, note: str) -> Path:
    """Make a manifest the golden one: a copy of its own, with who, when and why beside it.

    Raises:
        BadInput: nobody's name, no note, or a manifest without a training that succeeded.
    """
    if not by.strip() or not note.strip():
        raise BadInput("a reference needs a name and a note", remedy="--by NAME --note TEXT: who looked, at what")
    content = read_manifest(manifest)
    succeeded = [job for job in content["jobs"] if (job.get("result") or {}).get("status") == "success"]
    if not succeeded:
        raise BadInput("holds no training that succeeded", file=manifest, remedy="promote the manifest of a real run")
    copy(manifest, reference)
    write_json(reference.with_name("promotion.json"), {
        "by": by, "note": note, "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": sha256_of(reference), "n_jobs": len(succeeded),
    })  # fmt: skip
    return reference
