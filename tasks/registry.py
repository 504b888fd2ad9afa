"""The registry by hand: `gated history`, `gated rollback REASON`, also as `python -m tasks.registry …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from study_core.verdict import few
from tasks import blessings, promotion
from tasks.terminal import Json, call, group, printable

Tenant = Annotated[str, typer.Option("--tenant", help="Whose registry.")]
Channel = Annotated[str, typer.Option("--channel", help="Which line of models; none: the one that is in use.")]


def history(tenant: Tenant = "", as_json: Json = False) -> None:
    """Every blessed model of every tenant, oldest first: what it was judged on, who signed, what is in production."""
    rows = promotion.history(tenant)
    if as_json:
        print(json.dumps(rows))
    elif not rows:
        print("nothing was ever shipped")
    else:
        table = Table(
            "tenant", "channel", "blessing", "score", "judged on", "panel", "thresholds", "signed by", "replaces", "",
            box=None,
        )  # fmt: skip
        for row in rows:
            table.add_row(*(printable(cell) for cell in _cells(row)))
        Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False).print(table)


def _cells(row: Mapping[str, Any]) -> list[str]:
    changed, signer = row["changed_thresholds"], row["signer"]
    data = " ".join(part for part in (Path(row["data"]).name, row["data_sha256"][:8]) if part)
    signed = [f"key {signer[:12]}" if signer else "no key", row["approved_by"] or ""]
    return [
        row["tenant"],
        row["channel"],
        row["id"],
        "missing" if row["score"] is None else f"{row['score']:.5g}",
        data or "not recorded",
        row["panel_sha256"][:8],
        f"CHANGED: {few(changed)}" if changed else "the study's own",
        ", ".join(part for part in signed if part),
        row["replaces"] or "nothing",
        "in production" if row["production"] else "",
    ]


def rollback(
    reason: Annotated[str, typer.Argument(help="Why, for the record.")],
    tenant: Tenant = blessings.FIRST,
    channel: Channel = "",
    as_json: Json = False,
) -> None:
    """Point production at the model that the current one replaced; the reason goes on record."""
    used = blessings.channels(tenant)
    if not channel and len(used) > 1:
        raise ValueError(f"{tenant} has something in production in several channels; name one: --channel {used[0]}")
    try:
        now = promotion.rollback(tenant, reason, channel or "".join(used))
    except promotion.PromotionRefused as error:
        raise ValueError(error) from error
    told = f"in production in channel {now.channel}: {now.id} ({now.model})"
    print(json.dumps(now.model_dump(mode="json")) if as_json else told)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 2 where there is nothing to roll back to."""
    commands = group("The registry by hand.", {"history": history, "rollback": rollback})
    return call(commands, "python -m tasks.registry", arguments)


if __name__ == "__main__":
    sys.exit(main())
