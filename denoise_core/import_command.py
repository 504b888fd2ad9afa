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
        str,
        typer.Option(
            show_default=False,
            help="What the values are: reflectance (a fraction), percent, absorbance, absorptance (1 - R). Asked for "
            "where neither the files nor study.yaml say it.",
        ),
    ] = "",
    axis: Annotated[
        str,
        typer.Option(show_default=False, help="What the axis is in, where not nm: um, angstrom, cm-1, ev."),
    ] = "",
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
    from denoise_core.corpus.imported import study_beside, study_for, verify_import, write_corpus
    from denoise_core.corpus.importing import Told, survey

    beside = study_beside(source, study)
    told_by_study = beside.units if beside is not None and "units" in beside.model_fields_set else ""
    if units and told_by_study not in ("", units):
        raise BadInput(f"--units {units}, but its study says {told_by_study}", file=source, remedy="say one of them")
    by = "--units" if units else "study.yaml"
    found = survey(source, Told(units or told_by_study, axis, _range(resample), by))
    described = study_for(found, out.name, beside, panel or ()) if found.taken else None
    told = {
        "source": str(source),
        "groups": found.groups,
        "skipped": [{"file": name, "why": why, "detail": detail} for name, why, detail in found.skipped],
        "ignored": found.ignored,
        "renamed": found.renamed,
        "units_stated": found.stated,
        "units": found.units,
        "study": described.name if described else None,
        "panel": list(described.panel) if described else [],
        "written": None,
    }
    lines = found.lines()
    if described is not None:
        lines.append(f"  study  {described.name}, {'with' if described.has_doses else 'without'} doses; panel: "
                     f"{', '.join(described.panel) or 'none'}")  # fmt: skip
    if not as_json:
        print("\n".join(lines), flush=True)
    refused, writes = bool(found.skipped) and not leave_out, yes and found.stated
    if yes and refused:
        raise BadInput(
            f"{len(found.skipped)} files would be left out (above), so nothing was written",
            file=source,
            remedy="mend them, or say --leave-out",
        )
    if described is None:
        if yes:
            raise BadInput("no spectrum to take", file=source, remedy="see above what was skipped and why")
    else:
        lacks = (write_corpus if writes else verify_import)(found, described, out)
        told["no_run"] = lacks
        if lacks and not as_json:
            print(f"  note   no run can be judged on it yet: {lacks}")
    likely = found.by_noise.units if found.by_noise else ""
    if yes and not found.stated:
        doubt = (
            f"the files say reflectance, their noise {likely}" if found.headed else "nobody says what the values are"
        )
        raise BadInput(
            f"{doubt}, so nothing was written",
            file=source,
            remedy=f"say --units {likely or 'reflectance'} (or what they are: reflectance, percent, absorbance, "
            "absorptance), or units in study.yaml",
        )
    if writes and described is not None:
        told["written"] = str(out)
        if not as_json:
            print(f"{out}: {len(found.taken)} captures of {len(found.taken[0].x_L)} wavelengths")
            print(f"next: gated run --corpus {out}")
    elif not as_json:
        say = "--yes" if found.stated else f"--yes --units {likely or 'UNITS'}"
        print(f"nothing was written; {f'{say} makes {out}' if described else 'there is no spectrum to take yet'}")
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
