"""Replay: the verdict computed again from the archived spectra, and what differs from the one on record.

Every figure is held against its record: hashes, gates, metrics, the captures' and the groups' tables, the
controls. A figure equals its record within a relative 1e-6 (tables within half of their last decimal), one that rests
on filters that are fitted again within 1e-3: another number of threads moves it by some 1e-5. Counts, verdicts and
hashes equal exactly. What cannot be computed again is named, never passed over.

`denoise` begins one step earlier: the panel goes through the judged model again, and its spectra, gates and figures are
held against their records, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from denoise_core.corpus.manifest import FIRST_ROW, Manifest, read_manifest
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.checkpoints import denoised_panel
from denoise_core.evaluation.controls import LEFT_OUT, fitted_control_predictions
from denoise_core.evaluation.measurement import Reference
from denoise_core.evaluation.metrics import Floats
from denoise_core.evaluation.report import PanelAudit
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.report.record import PANEL_EVAL, PANEL_FILE, TRAINING_FILE, RunRecord, read_run
from study_core.bundles import MODEL, unpacked
from study_core.device import device_for
from study_core.errors import BadInput
from study_core.files import sha256_of
from study_core.replay import Comparison, Difference, Replay
from study_core.revision import git_hash
from study_core.verdict import PRODUCTION, changed_thresholds, own_changes

RELATIVE, ABSOLUTE = 1e-6, 1e-9
CAPTURE_DECIMALS, GROUP_DECIMALS = 6, 4
REFITTED = 1e-3  # relative; of figures beside filters that are fitted again
SPECTRUM, FROM_MODEL = 1e-5, 1e-3
"""Reflectance, and relative, of what a model gives again (other threads: 5e-7 of reflectance)."""
MOST_NAMED = 5
BATCH = 256  # as the job's: another one moves last bits
WITHIN = f"relative tolerance {RELATIVE:g}, beside refitted filters {REFITTED:g}; verdicts, counts and hashes exact"
BESIDE_FILTERS = ("fidelity", "plausibility")  # gates
SLICES = ("group", "treatments")


class _Comparison(Comparison):
    """Of whole tables and records; a table names its first few rows only."""

    def mapping(
        self,
        where: str,
        recorded: Mapping[str, Any],
        recomputed: Mapping[str, Any],
        relative: float | None = None,
    ) -> None:
        """Every recorded leaf, nested mappings included; one that is not computed any more differs."""
        for name, value in recorded.items():
            again = recomputed.get(name)
            if isinstance(value, Mapping):
                self.mapping(f"{where}, {name}", value, again if isinstance(again, Mapping) else {}, relative)
            elif isinstance(value, bool | str | list):
                self.exact(where, name, value, again)
            else:
                self.close(where, name, value, again, relative=relative)

    def table(self, file: str, key: str, recorded: pd.DataFrame, recomputed: pd.DataFrame, decimals: int) -> None:
        """Row by row, cell by cell; the first rows that differ are named with their row in the file."""
        if not self.exact(file, "number of rows", len(recorded), len(recomputed)):
            return
        named = 0
        for row, (old, new) in enumerate(
            zip(recorded.to_dict("records"), recomputed.to_dict("records"), strict=True), start=FIRST_ROW
        ):
            before = len(self.differences)
            where = f"{file}, row {row}"
            if self.exact(where, key, old[key], new.get(key)):
                for column, value in old.items():
                    name = str(column)
                    if isinstance(value, str):
                        self.exact(f"{where}, {old[key]}", name, value, new.get(name))
                    else:
                        self.close(f"{where}, {old[key]}", name, value, new.get(name), absolute=0.51 * 10.0**-decimals)
            named += len(self.differences) > before
            if named > MOST_NAMED:
                self.differences[before:] = [
                    Difference(file, "further rows differ", f"rows from {row} on", "not named")
                ]
                return


def replay(
    corpus: Path, bundle: Path, *, controls: bool = False, denoise: bool = False, model: Path | None = None
) -> Replay:
    """Judge the archived spectra of a bundle (zip or folder) again, on the corpus given.

    LMMSE and F are fitted again, as the gates need them; `controls`: also without the panel's samples. `denoise`: the
    judged model is run again, too: `model`, else the bundle's own, else the file that was judged, by its hash in any
    case. BadInput when the bundle is none, the corpus cannot be opened, or there is no such model; whatever is wrong
    *inside* the bundle is a difference.
    """
    opened = open_corpus(corpus)
    with unpacked(bundle) as folder:
        record = read_run(folder)
        return _replay(opened, record, controls, _model(record, model) if denoise else None)


def _model(record: RunRecord, named: Path | None) -> Path:
    """The file of the judged model."""
    judged = Path(str(record.verdict.get("candidate", "")))
    places = [named] if named else [record.folder / MODEL / judged.name, judged]
    if found := next((path for path in places if path.is_file()), None):
        return found
    raise BadInput(
        f"the judged model {judged.name} is not in it", file=record.folder, remedy="name its file by --model"
    )


def _replay(corpus: Corpus, record: RunRecord, controls: bool, model: Path | None) -> Replay:
    comparison = _Comparison(RELATIVE, ABSOLUTE)
    notes = _not_replayed(record, controls, model)
    try:
        panel, training = _manifests(record, corpus, comparison)
    except BadInput as error:
        comparison.differences.append(_broken(error))
        comparison.compared += 1
        return comparison.outcome(WITHIN, notes)
    if "changed_thresholds" in record.verdict:
        told = own_changes([str(line) for line in record.verdict["changed_thresholds"] or ()])
        again = changed_thresholds(_thresholds(record), GateThresholds())
        comparison.exact("verdict.json", "changed thresholds", told, again)
    known = (record.inputs.get("corpus") or {}).get("sha256")
    if known is not None:
        comparison.exact("corpus", "content SHA-256", known, corpus.sha256)
    if not any(difference.where.startswith(str(PANEL_FILE)) for difference in comparison.differences):
        try:  # another panel is not worth judging; what another corpus or training manifest changes, the figures say
            archived_ML = record.predictions(panel, corpus.spectra_NL.shape[1])
            _compare(comparison, record, _judge(corpus, record, panel, training, controls, archived_ML))
            if model is not None:
                _from_model(comparison, record, corpus, panel, training, model, archived_ML)
        except BadInput as error:
            comparison.differences.append(_broken(error))
            comparison.compared += 1
    return comparison.outcome(WITHIN, notes)


def _broken(error: BadInput) -> Difference:
    place = ", ".join(str(part) for part in (error.file, f"row {error.row}" if error.row else "") if part)
    return Difference(place or "bundle", error.what, "", "")


def _manifests(record: RunRecord, corpus: Corpus, comparison: _Comparison) -> tuple[Manifest, Manifest | None]:
    """The bundle's manifests, held against the hashes on record and, row by row, against the captures judged."""
    panel = read_manifest(record.folder / PANEL_FILE)
    comparison.exact(str(PANEL_FILE), "rows SHA-256", record.verdict.get("panel_sha256"), panel.rows_sha256)
    _same_rows(record, panel, comparison)
    _corpus_panel(record, panel, corpus, comparison)
    known = record.inputs.get("training") or {}
    path = record.folder / TRAINING_FILE
    if not path.exists() and not known:
        return panel, None
    training = read_manifest(path)
    comparison.exact(str(TRAINING_FILE), "rows SHA-256", known.get("rows_sha256"), training.rows_sha256)
    return panel, training


def _same_rows(record: RunRecord, panel: Manifest, comparison: _Comparison) -> None:
    """Name the first row of the panel that is not the capture judged on that row."""
    if record.per_spectrum is None:
        return
    judged, given = record.per_spectrum["relative_path"].tolist(), panel.frame["relative_path"].tolist()
    comparison.exact(str(PANEL_FILE), "number of rows", len(judged), len(given))
    for row, (old, new) in enumerate(zip(judged, given, strict=False), start=FIRST_ROW):
        if not comparison.exact(f"{PANEL_FILE}, row {row}", "capture", old, new):
            return


def _corpus_panel(record: RunRecord, panel: Manifest, corpus: Corpus, comparison: _Comparison) -> None:
    """A run that took the corpus's own panel must find it there again: the first row that is another is named."""
    asked = record.plan.get("panel")
    if isinstance(asked, Mapping) and asked.get("manifest"):
        return
    own = corpus.manifest("validation_panel")
    if own.rows_sha256 == panel.rows_sha256:
        return
    where = str(own.path or "the corpus's panel")
    old, new = panel.frame["relative_path"].tolist(), own.frame["relative_path"].tolist()
    comparison.exact(where, "number of rows", len(old), len(new))
    for row, (judged, found) in enumerate(zip(old, new, strict=False), start=FIRST_ROW):
        if not comparison.exact(f"{where}, row {row}", "capture", judged, found):
            return
    comparison.exact(where, "rows SHA-256", panel.rows_sha256, own.rows_sha256)


def _thresholds(record: RunRecord) -> GateThresholds:
    """Those of the run's plan."""
    gates = record.plan.get("gates")
    return GateThresholds.model_validate(gates) if isinstance(gates, Mapping) else GateThresholds()


def _from_model(
    comparison: _Comparison,
    record: RunRecord,
    corpus: Corpus,
    panel: Manifest,
    training: Manifest | None,
    model: Path,
    archived_ML: Floats,
) -> None:
    """The panel through the judged model again: its spectra, then gates, figures and standard errors."""
    if not comparison.exact(f"model {model.name}", "SHA-256", record.verdict.get("candidate_sha256"), sha256_of(model)):
        return  # another model's spectra say nothing of this verdict
    values_ML, error_ML = denoised_panel(corpus, panel, model, BATCH, device_for("auto"))
    departure_M = np.abs(values_ML.astype(np.float32) - archived_ML).max(axis=1)
    same = int((departure_M == 0).sum())
    comparison.notes.append(
        f"denoised again: {same} of {len(panel)} spectra bit for bit, largest departure {departure_M.max():.2g} "
        "of reflectance"
    )
    far = np.flatnonzero(~(departure_M <= SPECTRUM))
    comparison.compared += len(panel)
    for row in far[:MOST_NAMED]:
        name = panel.frame["relative_path"].iloc[row]
        what = f"spectrum departs from what the model gives by {departure_M[row]:.3g}"
        comparison.differences.append(Difference(f"{PANEL_FILE}, row {row + FIRST_ROW}, {name}", what))
    if len(far) > MOST_NAMED:
        comparison.differences.append(Difference("denoised again", f"{len(far)} spectra are not what the model gives"))
    again = _judge(corpus, record, panel, training, False, values_ML, error_ML)
    own = _Comparison(FROM_MODEL, FROM_MODEL)
    _compare_gates(own, record.gates, again)
    own.mapping("metrics", _whole(record), again.metrics)
    own.close("verdict", "score", record.verdict.get("score"), again.composite_score)
    if record.facts.get("uncertainty"):
        own.mapping("standard errors", record.facts["uncertainty"], again.uncertainty or {})
    comparison.compared += own.compared
    comparison.differences += [one._replace(where=f"denoised again, {one.where}") for one in own.differences]


def _judge(
    corpus: Corpus,
    record: RunRecord,
    panel: Manifest,
    training: Manifest | None,
    controls: bool,
    predictions_ML: Floats,
    standard_error_ML: Floats | None = None,
) -> PanelAudit:
    """The audit again, with the run's own thresholds, reference and expected hash."""
    asked = record.plan.get("panel")
    left_out = any(name.endswith("_sample_left_out") for name in record.controls)
    reference: Reference = "self" if record.facts.get("reference") == "self" else "loo"
    return audit_predictions(
        corpus,
        panel,
        predictions_ML,
        reference=reference,
        thresholds=_thresholds(record),
        training=training,
        controls=fitted_control_predictions(corpus, panel, training, leave_sample_out=left_out and controls)
        if training is not None and (controls or reference == "loo")  # fidelity is judged beside LMMSE and F
        else None,
        expected_hash=(asked.get("expected_hash") or None) if isinstance(asked, Mapping) else None,  # "": not asked for
        standard_error_ML=standard_error_ML,
    )


def _compare(comparison: _Comparison, record: RunRecord, audit: PanelAudit) -> None:
    _compare_gates(comparison, record.gates, audit)
    comparison.mapping("metrics", _whole(record), audit.metrics)
    comparison.close("verdict", "score", record.verdict.get("score"), audit.composite_score)
    again = audit.controls
    for name, row in record.controls.items():
        if name in again:
            comparison.mapping(f"control {name}", {k: v for k, v in row.items() if k != "name"}, again[name], REFITTED)
    comparison.mapping("downstream_metrics.json", record.downstream, audit.downstream)
    folder = PANEL_EVAL.as_posix()
    if record.per_spectrum is not None:
        file = f"{folder}/{record.name}_per_spectrum_metrics.csv"
        comparison.table(file, "relative_path", record.per_spectrum, audit.per_spectrum, CAPTURE_DECIMALS)
    if record.per_group is not None:
        file = f"{folder}/{record.name}_per_group_summary.csv"
        comparison.table(file, "group_id", record.per_group, audit.per_group, GROUP_DECIMALS)


def _whole(record: RunRecord) -> dict[str, Any]:
    """The metrics of the whole panel; in records of old, slices are among them, and in the gates anyway."""
    return {name: value for name, value in record.metrics.items() if "[" not in name}


def _compare_gates(comparison: _Comparison, recorded: Sequence[Mapping[str, Any]], audit: PanelAudit) -> None:
    """Every rule on record, and no rule fewer or more."""
    again = {_rule(record): record for record in (result.record() for result in audit.gates)}
    old = {_rule(gate): gate for gate in recorded}
    added = {key for key in old if key[1] == "reference_may_ship" or key[0] == PRODUCTION}  # not the audit's own
    comparison.exact("gates", "rules", sorted(set(old) - added), sorted(again))
    for key, gate in old.items():
        if key not in again:
            continue
        where = f"gate {', '.join(part for part in key if part)}"
        comparison.exact(where, "comparison", gate.get("comparison"), again[key]["comparison"])
        comparison.close(where, "threshold", gate.get("threshold"), again[key]["threshold"])
        relative = REFITTED if key[0] in BESIDE_FILTERS else None
        comparison.close(where, "value", gate.get("value"), again[key]["value"], relative=relative)
        comparison.exact(where, "verdict", gate.get("passed"), again[key]["passed"])


def _rule(gate: Mapping[str, Any]) -> tuple[str, str, str]:
    """A rule's gate, metric and slice; where within a group it was worst is a finding, not part of the rule.

    A bundle of old has the group in the metric's name: `name[group]`.
    """
    where = gate.get("slice") or {}
    metric, _, group = str(gate["metric"]).partition("[")
    slices = [group.rstrip("]")] if group else [str(where[key]) for key in SLICES if key in where]
    return str(gate["gate"]), metric, ", ".join(slices)


def _not_replayed(record: RunRecord, controls: bool, model: Path | None) -> tuple[str, ...]:
    """What the archive does not allow to compute again."""
    fitted = [name for name in record.controls if name.endswith(LEFT_OUT)]
    then, now = str(record.provenance.get("git_hash") or "unknown"), git_hash(Path(__file__).parent) or "unknown"
    lines = [
        (bool(fitted) and not controls, f"not compared: the refitted controls {', '.join(fitted)} (ask for controls)"),
        (
            bool(record.facts.get("uncertainty")) and model is None,
            "not compared: coverage of the standard errors (they are not archived: denoise again)",
        ),
        (model is None, "not compared: whether the model gives these spectra (denoise again)"),
        (bool(record.facts.get("unseen")), "not compared: figures on unseen groups (their spectra are not archived)"),
        (not record.inputs, "not compared: the corpus's hash (this run recorded none)"),
        (record.per_spectrum is None, "not compared: the captures' table (missing)"),
        (then != now, f"code: the verdict was made by {then[:20]}, replayed by {now[:20]}"),
    ]
    return tuple(text for applies, text in lines if applies)
