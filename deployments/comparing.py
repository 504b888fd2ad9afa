"""`gated compare`: runs side by side, with what their tenant adds."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as Shown

from deployments.server import ROOT
from deployments.tenancy import Tenant, named_in, tenants
from study_core.files import write_text
from study_core.report.blocks import Page, Table
from tasks import compare as comparison
from tasks.provenance import artifacts_root
from tasks.runs import RunFacts, named
from tasks.terminal import Json, near


def compare(
    what: Annotated[list[str], typer.Argument(help="Two or more runs: folder, name, label, or an id's beginning.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML page; empty: below artifacts/comparisons/.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Runs side by side: gates, figures, spectra, and what differs in their plans. See gated runs for their names."""
    runs = [named(one) for one in what]
    if as_json:
        print(json.dumps(comparison.as_json(runs)))
        return
    owner = _owner(runs)
    words = owner and owner.row, owner and owner.terms
    page = comparison.page(runs, own_blocks(runs), *(named_in(where) if where else None for where in words))
    target = out or artifacts_root() / "comparisons" / f"{'-'.join(run.name.rsplit('-', 1)[-1] for run in runs)}.html"
    _print(page)
    print(f"page: {near(write_text(target, page.html()))}")


def own_blocks(runs: Sequence[RunFacts]) -> comparison.Blocks | None:
    """What the runs' tenant adds; None where it adds nothing, or they are not all its own."""
    tenant = _owner(runs)
    return partial(named_in(tenant.compared), root=ROOT) if tenant is not None and tenant.compared else None


def _owner(runs: Sequence[RunFacts]) -> Tenant | None:
    """The tenant whose runs these all are."""
    owners = {run.tenant for run in runs}
    return tenants().get(owners.pop()) if len(owners) == 1 else None


def _print(page: Page) -> None:
    """The page's words and its tables of gates and plan on a terminal."""
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    for line in (page.sentence, *page.lead):
        console.print(line)
    for section in page.sections:
        for block in section.blocks:
            if isinstance(block, Table) and section.key in ("runs", "gates", "plan"):
                shown = Shown(title=section.title, title_justify="left", box=None)
                for column in block.columns:
                    shown.add_column(column, overflow="fold")  # nothing is cut: a narrow terminal gets more lines
                for row in block.rows:
                    shown.add_row(*row)
                console.print(shown)
