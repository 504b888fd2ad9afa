"""The commands that judge: evaluate (all gates, the report, exit 3 where one refuses), sensitivity, replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concept_core.cli.common import DEFAULT_CONFIG, ConfigOption, DeviceOption, ModelOption, OutOption, Study, study
from study_core.cli import GATE_FAILED, Json, say

if TYPE_CHECKING:
    from study_core.gates import GateRecord

WithSensitivity = Annotated[bool, typer.Option("--sensitivity", help="Also true TCAV: does the model use it?")]
WithReport = Annotated[bool, typer.Option(help="Draw plots and write report.html.")]


def mount(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evaluate)
    app.command()(sensitivity)
    app.command()(replay)


def evaluate(
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    out: OutOption = None,
    sensitivity: WithSensitivity = False,
    report: WithReport = True,
    as_json: Json = False,
) -> None:
    """Measure, judge by gates 0 to 7, and write the report. Exit code 3: a gate refused."""
    opened = study(config, model, out)
    result, passed = evaluated(opened, device, sensitivity=sensitivity, report=report)
    say(result, as_json, result["text"])
    if not passed:
        raise typer.Exit(GATE_FAILED)


def evaluated(opened: Study, device: str, *, sensitivity: bool, report: bool) -> tuple[dict[str, Any], bool]:
    """Evaluate a study, write verdict.json and the report; the result, and whether it passed."""
    from concept_core.prepare import make_windows
    from concept_core.replay import judged
    from concept_core.steps import networks
    from concept_core.verdict import write_verdict

    facts = make_windows(opened.config, opened.layout)
    local = opened.local(device)
    if sensitivity or opened.config.plan.sensitivity.on:
        local.sensitivity()
    found = local.evaluate(dropped_share=facts["dropped_share"], smoke_passed=smoke_passed(opened))
    records = judged(found.measures, opened.config.plan)
    network = networks(opened.config.plan, opened.config.paths.model_registry)[0]
    if report:
        from concept_core.report.page import write_report

        write_report(opened.layout, opened.config.plan, network.name)
    verdict = write_verdict(opened.layout, opened.config.plan, network, found, records)
    text = table(records) + f"\n{verdict.sentence()}"
    result = {"layer": found.layer, "cav_sha256": found.cav_sha256, **verdict.model_dump(mode="json")}
    if report:
        result["report"] = str(opened.layout.report)
        text += f"\nreport: {result['report']}"
    return {**result, "passed": verdict.passed, "text": text}, verdict.passed


def smoke_passed(opened: Study) -> int | None:
    """Passed tests of the run's smoke test; None where it was not run."""
    from study_core.files import peek_json

    metrics = peek_json(opened.layout.smoke_metrics)
    return None if metrics is None else sum(bool(one["passed"]) for one in metrics["tests"].values())


def table(records: Sequence[GateRecord]) -> str:
    """A line a rule."""
    lines = []
    for one in records:
        value = "missing" if one.value is None else f"{one.value:.4g}"
        lines.append(f"{one.state:7} {one.gate:14} {one.name}: {value} (needs {one.needs or one.reason})")
    return "\n".join(lines)


def sensitivity(
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """True TCAV on held-out positives: S of every layer's directions, p from mean S against label-shuffled CAVs."""
    from concept_core.prepare import make_windows

    opened = study(config, model, out)
    make_windows(opened.config, opened.layout)
    found = opened.local(device).sensitivity()
    lines = [
        f"L{one['layer']} {one['direction']}: mean S {one['mean']:+.3f}, p {one['p']:.2f}; other residue "
        f"{one['other_mean']:+.3f}, p {one['other_p']:.2f}; S > 0 in {one['share']:.2f} "
        f"(random {one['random_share']:.2f})"
        for one in found["directions"]
    ]
    say(found, as_json, "\n".join(lines))


def replay(
    folder: Annotated[Path, typer.Argument(help="An archived evaluations/<model> folder.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Compute the verdict of an archived evaluation again from its tables. Exit code 3: a gate refuses."""
    from concept_core.config import read_config
    from concept_core.replay import replay as again
    from study_core.gates import passed

    found, records = again(folder, read_config(config).plan)
    result = {"layer": found.layer, "passed": passed(records), "gates": [one.record() for one in records]}
    say(result, as_json, table(records))
    if not passed(records):
        raise typer.Exit(GATE_FAILED)
