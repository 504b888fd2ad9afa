"""`gated`: one command word for everything that is done by hand, with the work of each where it belongs.

A line of `COMMANDS` is all that a new command takes. The old `python -m tasks.slurm …` forms call the same functions.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from tasks.terminal import Door, Doors, call

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("deployments.running:run", "Run a study, or one deployment, and follow it to its verdict."),
    "up": ("deployments.running:up", "Server, web page and every deployment, until Ctrl-C."),
    "import": ("deployments.importing:command", "Bring a laboratory's own files into a study's data."),
    "jobs": ("tasks.slurm.__main__:jobs", "List the live jobs."),
    "cancel": ("tasks.slurm.__main__:cancel", "Cancel live jobs, all or by name."),
    "sweep": ("tasks.slurm.__main__:sweep", "Cancel live jobs whose flow has died."),
    "prune": ("tasks.pruning:prune", "Make room: say what old jobs or runs hold, and remove it with --yes."),
    "verify": ("tasks.verification:verify", "Check the house: logs, files, signatures, registry, bundles."),
    "bundle": ("tasks.bundle:verify_bundles", "Check an auditor's bundle."),
    "replay": ("tasks.replay:command", "Recompute a verdict from its archived predictions."),
    "export": ("tasks.export:command", "Runs in other tools' own forms: an MLflow store in files."),
    "runs": ("tasks.runs:runs", "Every run: when, of what, and how it ended."),
    "compare": ("deployments.comparing:compare", "Runs side by side: gates, figures, plans."),
    "key": ("tasks.signing:key", "Your public key, with which others check what you signed."),
    "history": ("tasks.registry:history", "What was shipped, and what is in production."),
    "rollback": ("tasks.registry:rollback", "Put the model before this one back into production."),
    "try": ("tasks.slurm.__main__:try_", "Send one job that looks around: does a profile work here?"),
    "dry-run": ("tasks.slurm.__main__:dry_run", "Print the exact text that sbatch would be given."),
    "webhook": ("deployments.automations:webhook", "A POST for each refusal, lost job and sign-off."),
}
ABOUT = (
    "Gated model training and studies on a Slurm cluster.\n\n"
    "Every command has --help, and --json for scripts; -v shows the trace of an error. Exit codes: 0 done or shipped; "
    "1 refused, or something was found; 2 input that cannot be used; 3 ended without a verdict (job lost, run crashed "
    "or cancelled); 130 stopped by Ctrl-C."
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gated {importlib.metadata.version('gated-training')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="The version, and nothing else.")
    ] = False,
) -> None:
    """Options of the word itself."""


def doors() -> Doors:
    """Every command, none of them imported."""
    app = typer.Typer(cls=Doors, add_completion=False, pretty_exceptions_enable=False)
    app.callback(help=ABOUT)(_options)
    group = typer.main.get_command(app)
    assert isinstance(group, Doors)
    for name, (where, help) in COMMANDS.items():
        group.add_command(Door(name, where, help))
    return group


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `gated`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return call(doors(), "gated", given or ["--help"])


if __name__ == "__main__":
    sys.exit(main())
