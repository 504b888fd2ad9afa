"""What a person fills in to start the study; titles and help show in the UI's form."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from study_core.plan import Frozen
from tasks.parameters import Approval, Common, Number, Text

SizeName = Literal["full", "cluster64", "mini", "smoke"]


class Base(Frozen):
    """What the scan is simulated from."""

    npz: Text = Field(
        "", title="Base file", description="An .npz with probeGuess and objectGuess. Empty: the study's own formulas."
    )
    object: Literal["file", "synthetic"] = Field(
        "file", title="Object", description="With a base file: its object, or the study's own to take the probe alone."
    )
    scan: Literal["design", "file"] = Field("design", title="Scan", description="The study's scan, or the file's.")
    tile: bool = Field(False, title="Repeat a small object", description="Where the file's object is too small.")
    seed: Number = Field(
        0, ge=0, title="Object seed", description="Of the study's own object. 0: the design's; another is a new study."
    )


class Training(Frozen):
    """The networks."""

    seeds: tuple[int, ...] = Field((), title="Seeds", description="Each trains anew. Empty: the design's.")
    iterations: Number = Field(0, ge=0, title="Iterations", description="0: the design's. Others have no floors yet.")
    supervised: bool = Field(True, title="Baseline", description="Train the supervised arm too, on the train half.")


class Iterative(Frozen):
    """LSQML by pty-chi."""

    run: bool = Field(True, title="Reconstruct", description="Without pty-chi its cells are skipped with the reason.")
    epochs: Number = Field(0, ge=0, title="Epochs", description="0: the design's 100.")
    noise: Literal["poisson", "gaussian"] = Field(
        "poisson", title="Noise model", description="Of LSQML's likelihood; photons are Poisson."
    )


class DoseOverlapPlan(Common):
    """The study: doses, size, arms, gates."""

    size: SizeName = Field(
        "mini", title="Size", description="mini: one CPU, minutes. cluster64: three seeds. full: N = 128."
    )
    doses: tuple[float, ...] = Field(
        (1e4,), min_length=1, title="Doses", description="Photons a pattern; the initiative's are 1e3, 1e4 and 1e5."
    )
    base: Base = Field(default_factory=Base, title="Base", description="What is simulated: probe, object and scan.")
    training: Training = Field(default_factory=Training, title="Training", description="The networks that are trained.")
    iterative: Iterative = Field(
        default_factory=Iterative, title="Iterative reconstruction", description="LSQML, the arm that learns nothing."
    )
    gates: dict[str, Any] = Field(
        default_factory=dict,
        title="Changes to the gates",
        description='By field: `{"over_flat_min": 0.3}`. Empty: what was measured for this size.',
    )
    approval: Approval = Field(
        default_factory=Approval,
        title="Blessing",
        description="Ask a person whether this run becomes the reference of later ones.",
    )
