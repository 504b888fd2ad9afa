"""The architecture picture shows the imports as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def architecture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs" / "architecture.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_picture_shows_the_imports_of_today(architecture: ModuleType) -> None:
    now, shown = set(architecture.arrows()), set(architecture.drawn())
    assert now == shown, f"make picture: new {sorted(now - shown)}, gone {sorted(shown - now)}"


def test_the_picture_names_every_room_and_the_readme_shows_it(architecture: ModuleType) -> None:
    text = architecture.PICTURE.read_text(encoding="utf-8")
    for room in architecture.ROOMS:
        assert f">{room}</text>" in text, room
    assert "docs/architecture.svg" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_arrows_follow_the_rules_of_the_house(architecture: ModuleType) -> None:
    arrows = set(architecture.arrows())
    assert ("flows", "tasks") in arrows
    floors = {"deployments": 0, "flows": 1, "tasks": 2, "tasks.slurm": 2, "files · terminal": 2}
    for here, there in arrows - {("tasks", "tasks.slurm")}:
        if there not in architecture.OUTSIDE:
            assert floors.get(here, 3) <= floors.get(there, 3), (here, there)
    assert not [here for here, there in arrows if there == "submitit" and here != "tasks.slurm"]
    assert not [here for here, there in arrows if there == "Prefect" and floors.get(here, 3) == 3]


def test_an_arrow_that_another_way_implies_is_told_apart(architecture: ModuleType) -> None:
    edges = [("a", "b"), ("b", "c"), ("a", "c")]
    assert architecture.detours(edges) == {("a", "c")}


def test_drawing_again_gives_the_same_bytes(architecture: ModuleType, tmp_path: Path) -> None:
    first = architecture.draw(tmp_path / "one.svg").read_bytes()
    assert architecture.draw(tmp_path / "two.svg").read_bytes() == first
    assert architecture.drawn(tmp_path / "one.svg") == architecture.arrows()
