"""Blessing, the production pointer, and the archive of failed runs. Knows verdicts, nothing of a science.

`artifacts/registry/<tenant>/`, one a tenant: nobody's model replaces, or is compared with, another tenant's.
    models/<sha256>/…          blessed candidates, files or folders, immutable
    blessings/<id>.json        candidate, what it replaces, gates with thresholds, verdict, report, run
    production.json            the pointer: replaced atomically, never half-written
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from study_core.files import copy, copy_aside, read_json, sha256_of, write_json
from study_core.verdict import Verdict
from tasks import comparison
from tasks.run import Run, artifacts_root


class PromotionRefused(RuntimeError):
    """The candidate passed its gates but may not replace what is in production. Not a bug."""


class Blessing(BaseModel):
    """A candidate that passed, and the record of why."""

    model_config = ConfigDict(frozen=True)
    id: str
    study: str
    model: str
    model_sha256: str
    replaces: str | None
    verdict: Verdict
    incumbent_score: float | None
    report: str
    run: str
    run_folder: str
    approved_by: str | None = None
    blessed_at: str


FIRST = "denoise"  # whose registry `registry/` itself is, where it was written before there was one a tenant


def registry_root(tenant: str) -> Path:
    """The folder of a tenant's registry. One of old stays where it is and goes on as the first tenant's."""
    registries = artifacts_root() / "registry"
    return registries if tenant == FIRST and (registries / "blessings").is_dir() else registries / tenant


def registries() -> list[str]:
    """Tenants that ever shipped something."""
    found = [path.parent.name for path in (artifacts_root() / "registry").glob("*/blessings")]
    old = [FIRST] if (artifacts_root() / "registry" / "blessings").is_dir() else []
    return sorted({*found, *old})


@contextmanager
def locked(tenant: str) -> Iterator[Path]:
    """One writer at a time in a registry, over processes."""
    root = registry_root(tenant)
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield root


def production(tenant: str) -> Blessing | None:
    """What a tenant has in production now, or None."""
    pointer = registry_root(tenant) / "production.json"
    return blessing(tenant, read_json(pointer)["blessing"]) if pointer.exists() else None


def blessing(tenant: str, identifier: str) -> Blessing:
    path = registry_root(tenant) / "blessings" / f"{identifier}.json"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.json"))) or "none"
        raise FileNotFoundError(f"{path}: no such blessing; known: {known}")
    return Blessing.model_validate(read_json(path))


def ship(
    run: Run,
    verdict: Verdict,
    *,
    report: Path,
    incumbent: Verdict | None = None,
    margin: float = 0.0,
    approved_by: str | None = None,
) -> Blessing:
    """Bless the candidate, a file or a folder, and point its tenant's production at it.

    `incumbent` is the verdict of the model now in production *on the same panel*. Refused (`PromotionRefused`)
    when a gate failed, when the core has a reason against the candidate (`facts["may_not_ship"]`), when production
    has a model whose incumbent verdict is missing (it may have changed since), or the gate `production` refuses.
    Shipping the model that is in production already changes nothing.
    """
    if not verdict.passed:
        raise PromotionRefused(verdict.sentence())
    if reason := verdict.facts.get("may_not_ship"):
        raise PromotionRefused(str(reason))
    candidate = Path(verdict.candidate)
    if sha256_of(candidate) != verdict.candidate_sha256:
        raise PromotionRefused(f"{candidate}: changed since it was judged; audit it again")
    with locked(run.registry) as root:
        current = production(run.registry)
        if current and current.model_sha256 == verdict.candidate_sha256:
            run.event("shipped", f"Already in production: {current.id}", blessing=current.id)
            return current
        _compare(current, verdict, incumbent, margin)
        model = _kept(candidate, root / "models" / verdict.candidate_sha256)
        blessed = Blessing(
            id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{verdict.candidate_sha256[:8]}",
            study=run.study,
            model=str(model),
            model_sha256=verdict.candidate_sha256,
            replaces=current.id if current else None,
            verdict=verdict,
            incumbent_score=incumbent.score if incumbent else None,
            report=str(report),
            run=run.id,
            run_folder=str(run.folder),
            approved_by=approved_by,
            blessed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_json(root / "blessings" / f"{blessed.id}.json", blessed.model_dump(mode="json"))
        write_json(root / "production.json", {"blessing": blessed.id})
    run.event("shipped", f"Shipped {blessed.id}", blessing=blessed.id, replaces=blessed.replaces)
    return blessed


def _kept(candidate: Path, folder: Path) -> Path:
    """A copy of its own: what is blessed must not change when somebody edits the candidate in place."""
    if candidate.is_file():
        return copy(candidate, folder / candidate.name)
    target = folder / candidate.name
    return target if target.exists() else copy_aside(candidate, folder, candidate.name)


def _compare(current: Blessing | None, verdict: Verdict, incumbent: Verdict | None, margin: float) -> None:
    """The gate `production` once more, against what is in production now."""
    if current is None:
        return
    if incumbent is None or incumbent.candidate_sha256 != current.model_sha256:
        raise PromotionRefused(f"production model {current.id} was not judged beside the candidate; audit it too")
    found = comparison.row(verdict, incumbent, margin)
    if found is not None and not found.passed:
        scores = f"the candidate scores {verdict.score}, production model {current.id} scores {incumbent.score}"
        raise PromotionRefused(f"{scores} (needs a margin of {margin:g}): {found.reason}; production stays")


def rollback(tenant: str, reason: str) -> Blessing:
    """Point production at the blessing that the current one replaced; the reason stands in the registry."""
    with locked(tenant) as root:
        current = production(tenant)
        if current is None:
            raise FileNotFoundError(f"{root}: nothing is in production")
        if current.replaces is None:
            raise FileNotFoundError(f"{current.id} replaced nothing: there is nothing to roll back to")
        previous = blessing(tenant, current.replaces)
        if sha256_of(Path(previous.model)) != previous.model_sha256:
            raise PromotionRefused(f"{previous.model}: the file is not the one that was blessed; not rolling back")
        with open(root / "rollbacks.log", "a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} | {current.id} -> {previous.id} | {reason}\n")
            log.flush()
            os.fsync(log.fileno())
        write_json(root / "production.json", {"blessing": previous.id})
    return previous


def archive_failed(run: Run, name: str, failure: str) -> Path:
    """Copy the run's folder to `artifacts/NAME_failed_YYYYMMDD`; a second one of that day gets a suffix."""
    target = copy_aside(run.folder, artifacts_root(), f"{name}_failed_{datetime.now(UTC):%Y%m%d}")
    run.event("archived", f"Archived failed run: {target}", archive=str(target), failure=failure)
    return target


def history(tenant: str = "") -> list[dict[str, Any]]:
    """Every blessing, of one tenant or of all, oldest first, with those in production marked."""
    rows = [(one, row, production(one)) for one in ([tenant] if tenant else registries()) for row in _blessings(one)]
    return [
        {"tenant": one, "id": row.id, "study": row.study, "score": row.verdict.score, "replaces": row.replaces,
         "production": current is not None and row.id == current.id}
        for one, row, current in rows
    ]  # fmt: skip


def _blessings(tenant: str) -> list[Blessing]:
    paths = sorted((registry_root(tenant) / "blessings").glob("*.json"))
    return [Blessing.model_validate(read_json(path)) for path in paths]


def production_model(tenant: str) -> Path | None:
    """The candidate in production, checked against its blessing; None when nothing is."""
    current = production(tenant)
    if current is None:
        return None
    if sha256_of(Path(current.model)) != current.model_sha256:
        remedy = "restore it, or go back: gated rollback REASON"
        raise PromotionRefused(
            f"{current.model}: the production model's file was changed since it was blessed; {remedy}"
        )
    return Path(current.model)
