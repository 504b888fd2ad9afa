"""Generated data that several files look at: made once a session, a few seconds together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ptycho_core.design import StudyDesign, get_study_design
from ptycho_core.generation import generate_dose, merge_run_manifest
from ptycho_core.layout import Layout, claim_hub
from ptycho_core.views import generate_overlap_views

ROOT = Path(__file__).resolve().parent.parent.parent


def _hub(root: Path, design: StudyDesign, *doses: float) -> Layout:
    layout = Layout(root)
    claim_hub(root, design)
    for dose in doses:
        merge_run_manifest(layout, {dose: generate_dose(design.for_data(dose), dose, layout)})
        generate_overlap_views(design.for_data(dose), layout, doses=(dose,))
    return layout


@pytest.fixture(scope="session")
def mini() -> StudyDesign:
    return get_study_design("mini")


@pytest.fixture(scope="session")
def smoke() -> StudyDesign:
    return get_study_design("smoke")


@pytest.fixture(scope="session")
def mini_hub(tmp_path_factory: pytest.TempPathFactory, mini: StudyDesign) -> Layout:
    """The mini study at its three doses, with views."""
    return _hub(tmp_path_factory.mktemp("mini") / "hub", mini, *mini.doses)


@pytest.fixture(scope="session")
def smoke_hub(tmp_path_factory: pytest.TempPathFactory, smoke: StudyDesign) -> Layout:
    """The smoke study at 1e4 alone, with views. Tests write elsewhere."""
    return _hub(tmp_path_factory.mktemp("smoke") / "hub", smoke, 1e4)


@pytest.fixture(scope="session")
def real_probe() -> Path:
    """A measured probe and object; the test is skipped where there is none."""
    path = Path(os.environ.get("PTYCHO_SHARED", ROOT.parent / "shared" / "ptycho")) / "run1084.npz"
    if not path.exists():
        pytest.skip(f"no {path} (set PTYCHO_SHARED)")
    return path
