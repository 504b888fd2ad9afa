"""The dose and overlap study's deployment, and `make ptycho`: one run of it in a house of its own.

`python -m deployments.tenants.ptycho [--dose 1e4 …]` brings the house up, runs `ptycho/study`, prints matrix and
verdict, and takes the house down again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from prefect.deployments.runner import RunnerDeployment

from deployments.house import DEFAULT_CORPUS, ROOT, console, deploy, house, no_verdict
from flows.ptycho.study import dose_overlap
from study_core.files import read_json
from tasks.ptycho.parameters import DoseOverlapPlan
from tasks.terminal import Parser, run

DEPLOYMENT = "ptycho/study"


def deployments() -> list[RunnerDeployment]:
    """`ptycho/study`, its form at the mini study of one dose."""
    plan = DoseOverlapPlan().model_dump(mode="json")
    made = dose_overlap.to_deployment("study", tags=["gated", "ptycho"], parameters={"plan": plan})
    assert isinstance(made, RunnerDeployment)  # a coroutine only where the caller is async
    return [made]


def _do(options: argparse.Namespace) -> int:
    console.stderr = options.json
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with house(DEFAULT_CORPUS, options.port) as running:
        plan: dict[str, object] = {"doses": options.dose or [1e4], "size": options.size}
        code, identifier = deploy(running.env, DEPLOYMENT, plan)
        artifacts = Path(running.env.get("GATED_ARTIFACTS", ROOT / "artifacts"))
        folders = sorted(artifacts.glob(f"ptycho/*-{identifier[:8]}")) if identifier else []
        if not folders or not (folders[0] / "hub" / "verdict.json").exists():
            return no_verdict(running.env, identifier) or code or 1
        _show(folders[0], options.json)
    return code


def _show(folder: Path, as_json: bool) -> None:
    """The matrix and the verdict on the terminal, and where the page lies."""
    hub = folder / "hub"
    if as_json:
        print((hub / "verdict.json").read_text(encoding="utf-8").strip())
    summary = (hub / "summary.md").read_text(encoding="utf-8")
    console.print(summary.partition("## Findings")[0].strip(), markup=False, highlight=False)
    console.print(read_json(hub / "verdict.json")["sentence"], markup=False)
    for name in ("report.html", "auditors_bundle.zip", "hub/summary.md", "audit.jsonl"):
        console.print(f"{folder / name}", markup=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 every gate passed, 1 refused or lost, 2 input that cannot be used."""
    parser = Parser(prog="python -m deployments.tenants.ptycho", description=__doc__)
    parser.add_argument("--dose", type=float, action="append", help="photons a pattern; may be given again")
    parser.add_argument("--size", default="mini", choices=("full", "cluster64", "mini", "smoke"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("GATED_PORT", "4200")), help="of server and UI")
    parser.add_argument("--json", action="store_true", help="the verdict as JSON on standard output")
    return run(parser, _do, arguments)


if __name__ == "__main__":
    sys.exit(main())
