"""The borders of the house, held for every `*_core` that there is: a new one is under contract the day it appears."""

from __future__ import annotations

import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
CORES = sorted(path.name for path in ROOT.glob("*_core") if (path / "__init__.py").exists())
HOUSE = ("deployments", "flows", "tasks", "benchmarks")
DRAWN, TYPED = ("matplotlib", "PIL"), ("typer", "rich")  # for reports and for command lines, which no job reaches


@pytest.mark.parametrize("core", CORES)
def test_a_core_is_a_stranger_to_the_house_and_to_the_other_cores(core: str) -> None:
    graph = grimp.build_graph(core, include_external_packages=True, cache_dir=None)
    outside = {module.partition(".")[0] for module in graph.modules} - {core}
    strangers = {"prefect", "submitit", *HOUSE, *CORES} - {core, "study_core"}
    assert not outside & strangers
    if core == "study_core":
        assert outside - set(graph_stdlib()) <= {"pydantic", "jinja2", "torch", *DRAWN, *TYPED}


def graph_stdlib() -> frozenset[str]:
    import sys

    return frozenset(sys.stdlib_module_names)


def test_every_core_stands_in_the_lint_contracts_and_under_mypy() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert set(CORES) <= set(settings["importlinter"]["root_packages"])
    assert set(CORES) <= set(settings["mypy"]["packages"])
