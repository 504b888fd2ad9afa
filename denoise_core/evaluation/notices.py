"""What a reader must know beside an audit's figures."""

from __future__ import annotations

from collections.abc import Sequence

from denoise_core.evaluation.controls import LEFT_OUT, is_fitted
from denoise_core.evaluation.report import PanelAudit
from denoise_core.evaluation.selection import selection_notice, start_notice


def notices(
    audit: PanelAudit,
    sisters: Sequence[str] | None,
    expected_hash: str | None,
    selected_on: Sequence[str],
    started_on: Sequence[str],
) -> tuple[str, ...]:
    """A sentence each. `sisters`: training groups of the panel's samples; None without a training manifest."""
    metrics, dose = audit.metrics, audit.downstream["dose_monotonicity"]
    across = dose["across_groups"]
    recommended = str((audit.unseen or {}).get("worth", {}).get("recommendation", ""))
    fitted = [name for name in audit.controls if is_fitted(name)]
    lines: list[tuple[bool, str]] = [
        (bool(recommended), recommended),
        (
            not audit.reference_may_ship,
            "Reference `self`: each capture is scored against itself. It reproduces the published audit and never "
            "decides shipping: the perfect denoiser fails gate 3 under it, and the identity gets an infinite PSNR.",
        ),
        (
            dose["dose_column_used"] is None,
            "The study gives no doses for the panel's treatments: gate 4 has no dose test.",
        ),
        (
            audit.panel.frame["treatment"].nunique() < 2,
            "The panel holds one treatment: gate 4 cannot ask whether treatments stay apart.",
        ),
        (
            bool(dose["vacuous"]) and dose["dose_column_used"] is not None,
            "Dose monotonicity is vacuous: no treatment of the panel has two doses, so every correlation is 0 and the "
            f"test cannot fail. Across the {across['groups']} groups the correlation of dose with ROI area is "
            f"{across['baseline_rho']:.2f} raw, {across['denoised_rho']:.2f} denoised.",
        ),
        (
            audit.reference_may_ship and not fitted,
            "No fitted filter stood beside the predictions: the gate of fidelity allowed for nothing but noise.",
        ),
        (expected_hash is None, "The panel's hash was not checked: no expected hash was given."),
        (
            sisters is None,
            "No training manifest was given, so a leak of panel groups cannot be ruled out: gate 0 refuses.",
        ),
        (True, selection_notice(audit.panel, selected_on)),
        (bool(set(started_on) & set(audit.panel.groups)), start_notice(audit.panel, started_on)),
        (
            bool(sisters),
            f"The panel's samples are in training at their other angle ({', '.join(sisters or ())}); "
            f"the controls named …{LEFT_OUT}, where computed, are refitted without them.",
        ),
        (
            True,
            f"PSNR_std is {metrics['psnr_std']:.2f} dB; without the {metrics['offset_outliers']:.0f} rows whose offset "
            f"lies beyond 3 sigma it is {metrics['psnr_std_without_offset_outliers']:.2f} dB.",
        ),
        (
            audit.reference == "loo" and metrics["spurious_peaks"] > 0 and audit.gate_passed("roi"),
            f"{metrics['spurious_peaks']:.0f} spurious dips on {len(audit.panel)} rows "
            f"({metrics['spurious_per_capture']:.3f} a capture): within the tolerance, not zero.",
        ),
        (
            audit.unseen is None,
            "No figures on groups that neither training nor any choice has seen were given (a fold's test groups).",
        ),
    ]
    return tuple(text for applies, text in lines if applies)
