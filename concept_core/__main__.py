"""`python -m concept_core`: the science on its own, without Prefect or Slurm.

Exit codes: 0 done, shipped where there are gates · 2 bad input · 3 a gate refused · 130 stopped.
"""

from __future__ import annotations

import sys

import typer

from concept_core.cli import detect, evaluate, pipeline, prepare, train
from study_core.cli import run

app = typer.Typer(
    name="concept_core", help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)
prepare.mount(app)
train.mount(app)
evaluate.mount(app)
detect.mount(app)
pipeline.mount(app)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return run(app, arguments, "python -m concept_core", extra=("concept", ("transformers", "sklearn", "safetensors")))


if __name__ == "__main__":
    sys.exit(main())
