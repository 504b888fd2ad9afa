"""The command that trains CAVs: one a layer of the model and of its controls, beside the bag and the dipeptides."""

from __future__ import annotations

from typing import Annotated

import typer

from concept_core.cli.common import DEFAULT_CONFIG, ConfigOption, DeviceOption, ModelOption, OutOption, study
from study_core.cli import Json, say


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)


def train(
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = None,
    layer: Annotated[
        int | None, typer.Option("--layer", help="One layer only. Default: all of the registry's.")
    ] = None,
    device: DeviceOption = "auto",
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Train a CAV a layer with random CAVs and null; what was trained from the same files is kept."""
    from concept_core.prepare import make_windows

    opened = study(config, model, out)
    make_windows(opened.config, opened.layout)
    trained = opened.local(device).train(layer=layer)
    rows = [one for network in trained.networks for one in trained.by_network[network.name]] + list(trained.controls)
    lines = [
        f"{one.source} L{one.layer}: worst stratum {one.worst_oof:.3f} out of fold"
        + (" (no direction)" if one.no_direction else "")
        for one in rows
    ]
    result = {"cavs": str(opened.layout.root / "cavs"), "trained": [one.model_dump(mode="json") for one in rows]}
    say(result, as_json, "\n".join(lines))
