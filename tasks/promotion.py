"""What may be shipped, the way back, and the archive of failed runs. Knows verdicts, nothing of a science."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from study_core.files import copy, copy_aside, sha256_of
from study_core.verdict import Verdict
from tasks import blessings, channels, comparison, signing
from tasks.blessings import DEFAULT, Blessing, locked, production
from tasks.channels import Line
from tasks.channels import PromotionRefused as PromotionRefused
from tasks.provenance import artifacts_root
from tasks.run import Run

SIGN_OFF = (
    "what passed under changed thresholds ships only with a named person's sign-off: run it again with your name in "
    "the plan (approval.by), or with approval.ask and answer on the run's page; nothing is trained twice"
)


def ship(
    run: Run,
    verdict: Verdict,
    *,
    report: Path,
    incumbent: Verdict | None = None,
    margin: float = 0.0,
    approved_by: str | None = None,
) -> Blessing:
    """Bless the candidate, a file or a folder, and point the production of the run's channel at it.

    `incumbent` is the verdict of the model now in production there. Refused (`PromotionRefused`) when a gate failed,
    when the core has a reason against the candidate (`facts["may_not_ship"]`), when thresholds were changed and nobody
    signed off, when production is of another line (`channels.check`) or has a model whose incumbent verdict is missing
    (it may have changed since), or the gate `production` refuses. Shipping the model that is in production already
    changes nothing.
    """
    if not verdict.passed:
        raise PromotionRefused(verdict.sentence())
    if reason := verdict.facts.get("may_not_ship"):
        raise PromotionRefused(str(reason))
    if verdict.changed_thresholds and not approved_by:
        raise PromotionRefused(SIGN_OFF)
    candidate = Path(verdict.candidate)
    if sha256_of(candidate) != verdict.candidate_sha256:
        raise PromotionRefused(f"{candidate}: changed since it was judged; audit it again")
    signer = signing.own_key()
    with locked(run.registry) as root:
        current = production(run.registry, run.channel)
        if current and current.model_sha256 == verdict.candidate_sha256:
            run.event("shipped", f"Already in production: {current.id}", blessing=current.id, channel=current.channel)
            return current
        before = channels.check(run, Line.of(verdict))
        _compare(current, verdict, incumbent, margin, other_data=before is not None)
        model = _kept(candidate, root / "models" / verdict.candidate_sha256)
        blessed = Blessing(
            id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{verdict.candidate_sha256[:8]}",
            study=run.study,
            model=str(model),
            model_sha256=verdict.candidate_sha256,
            replaces=current.id if current else None,
            channel=run.channel or DEFAULT,
            other_data=str(before or ""),
            verdict=verdict,
            incumbent_score=incumbent.score if incumbent else None,
            report=str(report),
            run=run.id,
            run_folder=str(run.folder),
            approved_by=approved_by,
            signer=signer.id,
            public_key=signer.line,
            blessed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        blessings.put(root, blessed)
    run.event(
        "shipped", f"Shipped {told(blessed)}", blessing=blessed.id, channel=blessed.channel, replaces=blessed.replaces,
        approved_by=approved_by, changed_thresholds=list(verdict.changed_thresholds),
    )  # fmt: skip
    return blessed


def told(blessed: Blessing) -> str:
    """What was shipped where, what it replaced, and who signed it off."""
    signed = f", signed off by {blessed.approved_by}" if blessed.approved_by else ""
    before = f", which was judged on other data ({blessed.other_data})" if blessed.other_data else ""
    return f"{blessed.id}, channel {blessed.channel}, replacing {blessed.replaces or 'nothing'}{before}{signed}"


def _kept(candidate: Path, folder: Path) -> Path:
    """A copy of its own: what is blessed must not change when somebody edits the candidate in place."""
    if candidate.is_file():
        return copy(candidate, folder / candidate.name)
    target = folder / candidate.name
    return target if target.exists() else copy_aside(candidate, folder, candidate.name)


def _compare(
    current: Blessing | None, verdict: Verdict, incumbent: Verdict | None, margin: float, *, other_data: bool
) -> None:
    """The gate `production` once more, against what is in production now."""
    if current is None:
        return
    if incumbent is None or incumbent.candidate_sha256 != current.model_sha256:
        raise PromotionRefused(f"production model {current.id} was not judged beside the candidate; audit it too")
    found = comparison.row(verdict, incumbent, margin, other_data=other_data)
    if found is not None and not found.passed:
        scores = f"the candidate scores {verdict.score}, production model {current.id} scores {incumbent.score}"
        raise PromotionRefused(f"{scores} (needs a margin of {margin:g}): {found.reason}; production stays")


def rollback(tenant: str, reason: str, channel: str = "") -> Blessing:
    """Point a channel at the blessing that its current one replaced; the reason stands in the registry's log."""
    with locked(tenant) as root:
        current = production(tenant, channel)
        if current is None:
            used = ", ".join(blessings.channels(tenant)) or "none"
            raise FileNotFoundError(
                f"{root}: nothing is in production in channel {channel or DEFAULT} (in use: {used})"
            )
        if current.replaces is None:
            raise FileNotFoundError(f"{current.id} replaced nothing: there is nothing to roll back to")
        previous = blessings.blessing(tenant, current.replaces)
        if sha256_of(Path(previous.model)) != previous.model_sha256:
            raise PromotionRefused(f"{previous.model}: the file is not the one that was blessed; not rolling back")
        blessings.put_back(root, previous, current, reason)
    return previous


def archive_failed(run: Run, name: str, failure: str) -> Path:
    """Copy the run's folder to `artifacts/NAME_failed_YYYYMMDD`; a second one of that day gets a suffix."""
    target = copy_aside(run.folder, artifacts_root(), f"{name}_failed_{datetime.now(UTC):%Y%m%d}")
    run.event("archived", f"Archived failed run: {target}", archive=str(target), failure=failure)
    return target


def history(tenant: str = "") -> list[dict[str, Any]]:
    """Every blessing, of one tenant or of all, oldest first, with those in production marked."""
    rows = []
    for one in [tenant] if tenant else blessings.registries():
        now = {channel: production(one, channel) for channel in blessings.channels(one)}
        for row in blessings.blessings(one):
            current = now.get(row.channel)
            rows.append({
                "tenant": one, "channel": row.channel, "id": row.id, "study": row.study, "score": row.verdict.score,
                "data": row.verdict.data, "data_sha256": row.verdict.data_sha256,
                "panel_sha256": row.verdict.panel_sha256, "changed_thresholds": list(row.verdict.changed_thresholds),
                "replaces": row.replaces, "approved_by": row.approved_by, "signer": row.signer,
                "production": current is not None and row.id == current.id,
            })  # fmt: skip
    return rows


def production_model(run: Run) -> Path | None:
    """The candidate that the run's channel has in production, checked against its blessing; None when nothing is."""
    return checked_model(production(run.registry, run.channel))


def checked_model(current: Blessing | None) -> Path | None:
    """A blessing's candidate. Raises PromotionRefused where it is no longer what was blessed."""
    if current is None:
        return None
    if sha256_of(Path(current.model)) != current.model_sha256:
        remedy = "restore it, or go back: gated rollback REASON"
        raise PromotionRefused(
            f"{current.model}: the production model's file was changed since it was blessed; {remedy}"
        )
    return Path(current.model)
