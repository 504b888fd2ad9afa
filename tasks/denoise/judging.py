"""The verdict on what a job measured: judged here, in the flow, by this run's thresholds, written into its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.jobs.audit import PanelMeasured
from study_core.verdict import Verdict
from tasks import comparison
from tasks.denoise.inputs import Data
from tasks.run import Run

PANEL_EVAL = Path("final_analytics") / "panel_eval"


@dataclass(frozen=True)
class PanelReport:
    """What was judged of every checkpoint, best first, each beside the model in production."""

    verdicts: tuple[Verdict, ...]
    incumbent: Verdict | None

    @property
    def best(self) -> Verdict:
        return self.verdicts[0]


def judged(
    run: Run,
    data: Data,
    receipt: PanelMeasured,
    thresholds: GateThresholds,
    *,
    candidates: int,
    incumbent: int | None = None,
    own_filter: int | None = None,
    margin: float = 0.0,
    expected_hash: str = "",
    selected_on: Sequence[str] = (),
    started_on: Sequence[str] = (),
) -> PanelReport:
    """Judge what was measured: the first `candidates` folders of the receipt, and the places among all of them of
    `incumbent`, the model in production, and `own_filter`, a candidate that the others must be worth more than."""
    from denoise_core.evaluation.panel import judge_checkpoints, judge_incumbent  # SciPy: only a verdict pays for it

    out, measured = run.folder / PANEL_EVAL, [content.path for content in receipt.measured]
    found = judge_checkpoints(
        measured[:candidates], data.panel, thresholds, out,
        expected_hash=expected_hash or None, selected_on=selected_on, started_on=started_on,
        own_filter=None if own_filter is None else measured[own_filter],
    )  # fmt: skip
    held = None
    if incumbent is not None:
        held = judge_incumbent(measured[incumbent], data.panel, thresholds, out, expected_hash=expected_hash or None)
    origin = data.judged_by(thresholds)
    own = (one.verdict.model_copy(update=origin) for one in found)
    return PanelReport(tuple(comparison.beside(verdict, held, margin) for verdict in own), held)
