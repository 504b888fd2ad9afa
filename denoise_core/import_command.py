"""`import`: a laboratory's own files as a corpus. Without `--yes` it says what it would take, skip and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from study_core.errors import BadInput

FOUND = 1  # something was skipped, as exit codes have it: something was found


def import_files(
    source: Annotated[Path, typer.Argument(help="Folder of TREATMENT/SAMPLE/ANGLE/files, or a table of spectra.")],
    out: Annotated[Path, typer.Option("--out", help="The corpus to make: a new folder.")],
    units: Annotated[
        str, typer.Option(help="What the values are: reflectance (a fraction), percent, absorbance.")
    ] = "reflectance",
    axis: Annotated[str, typer.Option(help="What the wavelengths are in: nm or um.")] = "nm",
    resample: Annotated[
        str, typer.Option(help="FIRST:LAST:STEP in nm: interpolate to it; never beyond the data.")
    ] = "",
    study: Annotated[
        Path | None, typer.Option(help="study.yaml of the corpus; default: the source's own, or names alone.")
    ] = None,
    panel: Annotated[
        list[str] | None, typer.Option(help="Group held out, TREATMENT/SAMPLE/ANGLE; again for another.")
    ] = None,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Write although files are skipped.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write the corpus; without it nothing is written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON, alone on standard output.")] = False,
) -> None:
    """Bring a laboratory's own spectra (CSV, TSV, JCAMP-DX, SPC) into a corpus; first say what would be taken.

    Exit codes: 0 nothing was skipped (and, with --yes, the corpus is written), 1 something was skipped, 2 bad input.
    """
    from denoise_core.corpus.importing import Told, study_for, survey, write_corpus

    found = survey(source, Told(units, axis, _range(resample)))
    described = study_for(found, out.name, study, panel or ()) if found.taken else None
    told = {
        "source": str(source),
        "groups": found.groups,
        "skipped": [{"file": name, "why": why} for name, why in found.skipped],
        "renamed": found.renamed,
        "study": described.name if described else None,
        "panel": list(described.panel) if described else [],
        "written": None,
    }
    lines = found.lines()
    if described is not None:
        lines.append(f"  study {described.name}, {'with' if described.has_doses else 'without'} doses; panel: "
                     f"{', '.join(described.panel) or 'none'}")  # fmt: skip
    if not as_json:
        print("\n".join(lines))
    refused = bool(found.skipped) and not leave_out
    if yes and refused:
        raise BadInput(
            f"{len(found.skipped)} files would be left out (above), so nothing was written",
            file=source,
            remedy="mend them, or say --leave-out",
        )
    if yes and described is not None:
        opened = write_corpus(found, described, out)
        told["written"] = str(out)
        if not as_json:
            print(f"{out}: {len(opened)} captures of {len(opened.wavelength_nm)} wavelengths")
    elif yes:
        raise BadInput("no spectrum to take", file=source, remedy="see above what was skipped and why")
    elif not as_json:
        print(f"nothing was written; --yes makes {out}")
    if as_json:
        print(json.dumps(told))
    if refused:
        raise typer.Exit(FOUND)


def _range(text: str) -> tuple[float, float, float] | None:
    if not text:
        return None
    parts = text.split(":")
    try:
        first, last, step = (float(part) for part in parts)
    except ValueError as error:
        raise BadInput(f"--resample {text}: not FIRST:LAST:STEP", remedy="as in 300:600:1") from error
    return first, last, step
