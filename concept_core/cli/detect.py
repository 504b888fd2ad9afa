"""The command that scans a FASTA file with a trained CAV at thresholds that were set for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from concept_core.cli.common import DEFAULT_CONFIG, ConfigOption, DeviceOption, ModelOption, OutOption, study
from study_core.cli import Json, say
from study_core.errors import BadInput

Thresholds = Annotated[Path | None, typer.Option("--thresholds", help="thresholds.json. Default: the study's.")]
Method = Annotated[
    str | None,
    typer.Option("--method", help="f1_max, precision_at_recall_90, fpr_0.05, protein_fpr_0.05. Default: the config's."),
]


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(detect)


def detect(
    fasta: Annotated[Path, typer.Option("--input", help="FASTA file (.gz too).")],
    output: Annotated[Path, typer.Option("--output", help="Folder for predictions, hits and tracks.")],
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    out: OutOption = None,
    cav: Annotated[Path | None, typer.Option("--cav", help="CAV folder. Default: the study's of this model.")] = None,
    thresholds: Annotated[
        Path | None, typer.Option("--thresholds", help="thresholds.json. Default: the study's.")
    ] = None,
    method: Method = None,
    as_json: Json = False,
) -> None:
    """Find the concept in every protein of a FASTA file: predictions.json, hits.tsv, detection_summary.json, tracks."""
    from concept_core.layout import DetectionFiles
    from concept_core.plans import DetectionPlan
    from concept_core.report.scan_page import write_scan_page
    from study_core.plan import changed

    opened = study(config, model, out)
    local = opened.local(device)
    if method:
        known = get_args(DetectionPlan.model_fields["threshold_method"].annotation)
        if method not in known:
            raise BadInput(f"no threshold method {method}", remedy=f"one of {', '.join(known)}")
        plan = changed(opened.config.plan, {"detection": {"threshold_method": method}})
        local = type(local)(plan, local.layout, local.registry, local.device, local.tell)
    files = DetectionFiles(output.absolute())
    merged = local.detect(
        fasta,
        files,
        cav=cav or opened.layout.cavs(local.model).root,
        thresholds=thresholds or opened.layout.evaluation(local.model).thresholds,
    )
    write_scan_page(files, merged)
    summary = {**merged.summary, "output": str(files.root), "tracks": len(merged.tracks)}
    text = (
        f"{summary['positive']} of {summary['proteins']} proteins, {summary['hits']} hits at {summary['method']} "
        f"({summary['threshold']:.3g}): {files.report}"
    )
    say(summary, as_json, text)
