"""What follows a refusal: Act B with the plan that it is handed, the archive, and the line in the review."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from study_core.files import locked, read_json, write_text
from study_core.verdict import PRODUCTION, Verdict, read_verdict
from tasks import promotion, trigger
from tasks.denoise import inputs
from tasks.denoise.judging import PANEL_EVAL
from tasks.denoise.parameters import ActBPlan, WarmStartPlan
from tasks.provenance import artifacts_root
from tasks.run import Run

DEPLOYMENT = "act-b/fallback"
HANDED_ON = ("label", "corpus", "where", "training", "panel", "gates", "top_k", "production", "approval")


def start(run: Run, plan: WarmStartPlan) -> str | None:
    """Start Act B for a refused run, once its verdicts are written."""
    seed = _seed(run.folder)
    handed = _handed_on(plan.model_dump(mode="json"), run.id, seed.candidate, seed.failed_gates)
    return trigger.start(run, DEPLOYMENT, {"plan": handed}, what="Act B", label=plan.label)


def _seed(folder: Path) -> Verdict:
    """The best of a run's candidates that can be trained on: the filter beside them, which may be the first, cannot."""
    filters = artifacts_root() / inputs.FILTERS
    ranked = [read_verdict(path) for path in sorted((folder / PANEL_EVAL).glob("verdict_[0-9]*.json"))]
    trained = [verdict for verdict in ranked if filters not in Path(verdict.candidate).parents]
    return trained[0] if trained else read_verdict(folder / "verdict.json")


def _handed_on(plan: Mapping[str, Any], source: str, checkpoint: str, failed: Sequence[str]) -> dict[str, Any]:
    kept = {key: plan[key] for key in HANDED_ON if key in plan}  # a source of old may lack what is new
    return {
        **kept,
        "source_run": source,
        "checkpoint": checkpoint,
        "failed_gates": [gate for gate in failed if gate != PRODUCTION],
    }


def completed(plan: ActBPlan) -> ActBPlan:
    """A fallback's plan that names only its source run (the backstop automation knows no more), filled in from that
    run's folder. A plan with a checkpoint is taken as it is.

    Raises NoSource when the source left no verdict here, or none is named.
    """
    if plan.checkpoint:
        return plan
    source = plan.source_run
    folder = trigger.folder_of(source)
    verdict = _seed(folder)
    given = read_json(folder / "plan.json")
    return ActBPlan.model_validate(_handed_on(given, source, verdict.candidate, verdict.failed_gates))


@contextmanager
def reviewing() -> Iterator[Path]:
    """The five-fold review, one writer at a time over processes."""
    review = artifacts_root() / "final_analytics" / "reviewing_the_5fold_run.md"
    review.parent.mkdir(parents=True, exist_ok=True)
    with locked(review.with_name(".review.lock")):
        yield review


def archive(run: Run, name: str, failure: str) -> None:
    """Archive a refused run; its failure mode goes into the five-fold review, as the warm-start plan asks."""
    target = promotion.archive_failed(run, name, failure)
    with reviewing() as review:
        earlier = review.read_text(encoding="utf-8") if review.exists() else "# Reviewing the five-fold run\n"
        entry = f"\n## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC · {run.name}\n\n{failure}\n\nArchive: `{target.name}`\n"
        write_text(review, earlier + entry)
