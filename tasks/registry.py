"""The registry by hand: `gated history`, `gated rollback REASON`, also as `python -m tasks.registry …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tasks import promotion
from tasks.terminal import Json, call, group

Tenant = Annotated[str, typer.Option("--tenant", help="Whose registry.")]


def history(tenant: Tenant = "", as_json: Json = False) -> None:
    """Every blessed model of every tenant, oldest first, with those in production."""
    rows = promotion.history(tenant)
    if as_json:
        print(json.dumps(rows))
    elif not rows:
        print("nothing was ever shipped")
    else:
        table = Table("tenant", "blessing", "study", "score", "replaces", "", box=None)
        for row in rows:
            score = "missing" if row["score"] is None else f"{row['score']:.5g}"
            mark = "in production" if row["production"] else ""
            table.add_row(row["tenant"], row["id"], row["study"], score, row["replaces"] or "nothing", mark)
        Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False).print(table)


def rollback(
    reason: Annotated[str, typer.Argument(help="Why, for the record.")],
    tenant: Tenant = promotion.FIRST,
    as_json: Json = False,
) -> None:
    """Point production at the model that the current one replaced; the reason goes on record."""
    try:
        now = promotion.rollback(tenant, reason)
    except promotion.PromotionRefused as error:
        raise ValueError(error) from error
    print(json.dumps(now.model_dump(mode="json")) if as_json else f"in production: {now.id} ({now.model})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 2 where there is nothing to roll back to."""
    commands = group("The registry by hand.", {"history": history, "rollback": rollback})
    return call(commands, "python -m tasks.registry", arguments)


if __name__ == "__main__":
    sys.exit(main())
