"""What a run's end looks like on a terminal: the verdict's gates, the files to open, or why there is no verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from deployments.tenancy import Tenant
    from deployments.watching import Ended
    from study_core.gates import GateRecord

VERDICT = "verdict.json"


class Terminal:
    """Standard output for what stays, standard error for what moves; with `--json`, all but the result is aside."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.console = Console(soft_wrap=True, stderr=as_json, width=None if sys.stdout.isatty() else 140)
        self.aside = Console(stderr=True, quiet=not sys.stderr.isatty())  # nothing of it in a pipe
        self.moving = self.aside.status("")
        self.as_json = as_json

    def say(self, line: str) -> None:
        """One line as it is."""
        self.console.print(line, markup=False, highlight=False)

    def event(self, line: str) -> None:
        """One line with the time of day."""
        self.say(f"{datetime.now():%H:%M:%S}  {line}")

    def status(self, text: str) -> None:
        """The line that moves; an empty text takes it away."""
        if text:
            self.moving.update(escape(text[: self.aside.width - 3]))  # one line
            self.moving.start()
        else:
            self.moving.stop()


def tell(terminal: Terminal, tenant: Tenant, folder: Path | None, ended: Ended) -> None:
    """The result of a run that ended, in its tenant's own way where it has one."""
    if folder is not None and tenant.tell is not None:
        tenant.tell(folder, terminal.console)
    elif folder is not None and (folder / VERDICT).exists():
        show_verdict(terminal.console, folder, tenant.row)
    if folder is not None:
        for name in tenant.files:
            if (folder / name).exists():
                terminal.say(f"{folder / name}")
    if terminal.as_json:
        print(json.dumps(result(folder, ended)))


def result(folder: Path | None, ended: Ended) -> Mapping[str, object]:
    """For scripts: the verdict, or how the run ended without one."""
    if folder is not None and (folder / VERDICT).exists():
        verdict: dict[str, object] = json.loads((folder / VERDICT).read_text())
        return verdict
    return {"run": ended.id, "name": ended.name, "state": ended.state, "message": ended.message}


def show_verdict(console: Console, folder: Path, where: str = "", *, failed_only: bool = False) -> None:
    """The gate table, or its failed rows; `where`: the tenant's function that says one in its report's words."""
    from study_core.verdict import read_verdict

    verdict = read_verdict(folder / VERDICT)
    say = _plain
    if where:
        from deployments.tenancy import named_in

        say = named_in(where)
    table = Table(title=verdict.sentence())
    for column in ("gate", "measure", "needs", "value", "verdict"):
        table.add_column(column)
    for record in verdict.gates:
        if failed_only and record.passed:
            continue
        colour = "green" if record.passed else "red"
        table.add_row(*map(escape, say(record)), f"[{colour}]{record.state}[/{colour}]")
    console.print(table)


def _plain(record: GateRecord) -> tuple[str, str, str, str]:
    value = "missing" if record.value is None else f"{record.value:.5g}"
    return record.gate, record.name, record.needs, value
