"""What every command shares: options, the study of a hub, and how a command ends.

Exit codes: 0 done · 2 bad input · 3 a gate or a guardrail refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study_core.errors import BadInput

if TYPE_CHECKING:
    from ptycho_core.design import StudyDesign

Hub = Annotated[
    Path | None, typer.Option("--hub", help="Folder of the study. Default: artifacts/fly64/<hash of the design>.")
]
SizeOption = Annotated[
    str | None,
    typer.Option("--size", help="full, cluster64, mini (default) or smoke; a hub that exists knows its own."),
]
Doses = Annotated[list[float] | None, typer.Option("--dose", help="Only this dose; may be given again.")]
ViewOption = Annotated[list[str] | None, typer.Option("--view", help="Only this view; may be given again.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run/--no-dry-run", help="Say what would be done; --dry-run=true and =false are understood."),
]
BaseNpz = Annotated[
    Path | None, typer.Option("--base-npz", help="Start from this file's probe and object (probeGuess, objectGuess …).")
]
Image = Annotated[str, typer.Option("--object", help="With --base-npz: file, or synthetic to take the probe alone.")]
ScanOption = Annotated[str, typer.Option("--scan", help="With --base-npz: design, or file for the file's positions.")]
Tile = Annotated[bool, typer.Option("--tile", help="With --base-npz: repeat an object smaller than the scan.")]


@dataclass(frozen=True)
class Study:
    """A hub with its design and, where it started from a file, that file."""

    hub: Path
    design: StudyDesign
    base_npz: Path | None = None

    def doses(self, wanted: Sequence[float] | None) -> list[float]:
        """The wanted doses, all where none is named. Raises BadInput for one that the design does not have."""
        for dose in wanted or ():
            if dose not in self.design.doses:
                known = ", ".join(f"{one:g}" for one in self.design.doses)
                raise BadInput(f"dose {dose:g} is not of this study", remedy=f"one of {known}")
        return list(wanted or self.design.doses)

    def views(self, wanted: Sequence[str] | None, *, everything: bool = False) -> list[str]:
        """The wanted views, all where none is named; `everything` knows `baseline` (all positions) too."""
        from ptycho_core.design import ALL

        known = [*([ALL] if everything else []), *self.design.views]
        for view in wanted or ():
            if view not in known:
                raise BadInput(f"no view {view!r}", remedy=f"one of {', '.join(known)}")
        return list(wanted or known)


def new_study(
    hub: Path | None,
    size: str | None,
    doses: Sequence[float] | None = None,
    base_npz: Path | None = None,
    image: str = "file",
    scan: str = "design",
    tile: bool = False,
) -> Study:
    """The study of a hub, made where there is none yet. Raises BadInput where another one lives there."""  # fmt: skip
    from pydantic import ValidationError

    from ptycho_core.base import with_base
    from ptycho_core.design import get_study_design
    from ptycho_core.layout import claim_hub, default_hub, open_hub

    if hub is not None and size is None and not doses and base_npz is None and (hub / "design.json").exists():
        return Study(hub, open_hub(hub))
    try:
        design = get_study_design(size or "mini")  # type: ignore[arg-type]
        if doses:
            design = type(design).model_validate({**design.model_dump(), "doses": tuple(doses)})
        if base_npz is not None:
            design = with_base(design, base_npz, image=image, scan=scan, tile=tile)
        elif tile or scan != "design" or image != "file":
            raise BadInput("--object, --scan and --tile describe a base file", remedy="add --base-npz FILE")
    except ValidationError as error:
        raise BadInput(plain(error)) from None
    hub = hub or default_hub(design)
    claim_hub(hub, design)
    return Study(hub, design, base_npz)


def study_of(hub: Path | None, size: str | None = None) -> Study:
    """The study of a hub that exists. Raises BadInput where it does not."""
    from ptycho_core.design import get_study_design
    from ptycho_core.layout import default_hub, open_hub

    hub = hub or default_hub(get_study_design(size or "mini"))  # type: ignore[arg-type]
    return Study(hub, open_hub(hub))


def plain(error: Exception) -> str:
    """The first thing that a validation found, without the library's frame."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def plain_switches(arguments: Sequence[str]) -> list[str]:
    """`--dry-run=true` and `=false` as the switches that they mean.

    Raises:
        BadInput: another value.
    """
    words = []
    for word in arguments:
        match = re.fullmatch(r"--dry-run=(.*)", word)
        if match and match[1].lower() not in ("true", "false"):
            raise BadInput(f"--dry-run={match[1]} is neither", remedy="--dry-run or --no-dry-run, =true or =false")
        words.append(word if not match else "--dry-run" if match[1].lower() == "true" else "--no-dry-run")
    return words
