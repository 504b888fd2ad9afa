"""Commands over the whole chain: `pipeline` (data to verdict) and `smoke` (six tests on a handful of windows)."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from concept_core.cli.common import DEFAULT_CONFIG, ConfigOption, DeviceOption, ModelOption, OutOption, study
from study_core.cli import GATE_FAILED, Json, say

SMOKE_FAILED = 1


def mount(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(pipeline)
    app.command()(smoke)


def pipeline(
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    out: OutOption = None,
    skip_embed: Annotated[bool, typer.Option("--skip-embed", help="Use the embeddings that are there.")] = False,
    skip_train: Annotated[bool, typer.Option("--skip-train", help="Use the CAVs that are there.")] = False,
    skip_eval: Annotated[bool, typer.Option("--skip-eval", help="Stop after the CAVs.")] = False,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Also true TCAV.")] = False,
    as_json: Json = False,
) -> None:
    """Data, embeddings, CAVs, smoke test, evaluation, verdict, report. Exit code 3: a gate refused.

    What was made before from the same files is used again in any case; a skip option refuses to make it anew.
    """
    from concept_core.cli.evaluate import evaluated
    from concept_core.cli.prepare import warn_of_cpu
    from concept_core.prepare import make_windows
    from concept_core.smoke import Smoke

    opened = study(config, model, out)
    make_windows(opened.config, opened.layout)
    warn_of_cpu(opened, device)
    skipped = {"embed": skip_embed or skip_train, "train_cav": skip_train}
    local = replace(opened.local(device), kept_only=frozenset(name for name, wanted in skipped.items() if wanted))
    local.train()
    if skip_eval:
        say({"cavs": str(opened.layout.root / "cavs")}, as_json, f"CAVs: {opened.layout.root / 'cavs'}")
        return
    if not opened.layout.smoke_metrics.exists():
        with tempfile.TemporaryDirectory() as folder:
            tested = type(opened.layout)(Path(folder))
            Smoke(opened.config, tested, 5, device).run()
            shutil.copyfile(tested.smoke_metrics, opened.layout.smoke_metrics)
    result, passed = evaluated(opened, device, sensitivity=sensitivity, report=True)
    say(result, as_json, result["text"])
    if not passed:
        raise typer.Exit(GATE_FAILED)


def smoke(
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = None,
    samples: Annotated[int, typer.Option("--n-samples", min=5, help="Proteins of each class.")] = 5,
    keep: Annotated[bool, typer.Option("--keep-temp", help="Leave the folder there.")] = False,
    device: DeviceOption = "auto",
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Six named tests of the whole chain; writes smoke_test_metrics.json. Exit code 1: one failed."""
    from concept_core.smoke import Smoke

    opened = study(config, model, out)
    folder = Path(tempfile.mkdtemp(prefix="concept-smoke-"))
    try:
        made = type(opened.layout)(folder)
        metrics = Smoke(opened.config, made, samples, device).run()
        opened.layout.root.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made.smoke_metrics, opened.layout.smoke_metrics)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    lines = [
        f"{'ok    ' if one['passed'] else 'FAILED'} {name} ({one['seconds']:.1f} s)"
        + (f": {one['error']}" if "error" in one else "")
        for name, one in metrics["tests"].items()
    ]
    lines += [f"{opened.layout.smoke_metrics}"] + ([f"kept: {folder}"] if keep else [])
    say(metrics, as_json, "\n".join(lines))
    if not metrics["passed"]:
        raise typer.Exit(SMOKE_FAILED)
