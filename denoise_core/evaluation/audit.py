"""The panel audit in one call: measured, then judged. A cluster does the two in two places; this is for one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.judging import judge_measurement
from denoise_core.evaluation.measurement import Reference, UnseenGroups
from denoise_core.evaluation.measuring import measure_predictions
from denoise_core.evaluation.report import PanelAudit
from denoise_core.evaluation.thresholds import GateThresholds


def audit_predictions(
    corpus: Corpus,
    panel: Manifest,
    predictions_ML: ArrayLike,
    *,
    reference: Reference = "loo",
    thresholds: GateThresholds | None = None,
    training: Manifest | None = None,
    controls: Mapping[str, ArrayLike] | None = None,
    expected_hash: str | None = None,
    selected_on: Sequence[str] = (),
    standard_error_ML: ArrayLike | None = None,
    unseen: UnseenGroups | None = None,
    checkpoint: str = "predictions",
) -> PanelAudit:
    """Judge one prediction (M, L) a panel row on gates 0 to 7; arguments as `measure_predictions` and
    `judge_measurement` have them. Raises BadInput when a row is not in the corpus or shapes differ; bad *values* are
    refused by gate 0, and so is a missing `training` manifest.
    """
    found = measure_predictions(
        corpus,
        panel,
        predictions_ML,
        reference=reference,
        training=training,
        controls=controls,
        standard_error_ML=standard_error_ML,
        unseen=unseen,
        checkpoint=checkpoint,
    )
    return judge_measurement(found, panel, thresholds, expected_hash=expected_hash, selected_on=selected_on)
