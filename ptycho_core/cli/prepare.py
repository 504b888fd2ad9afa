"""Commands of the phases A to D: design, generate, overlap, validate."""

from __future__ import annotations

import typer

from ptycho_core.cli.common import (
    BaseNpz,
    Doses,
    Hub,
    Image,
    ScanOption,
    SizeOption,
    Tile,
    ViewOption,
    new_study,
    study_of,
)
from study_core.cli import Json, console, say

app = typer.Typer()


@app.command()
def design(
    hub: Hub = None,
    size: SizeOption = None,
    dose: Doses = None,
    base_npz: BaseNpz = None,
    image: Image = "file",
    scan: ScanOption = "design",
    tile: Tile = False,
    as_json: Json = False,
) -> None:
    """Write the study's design.json; --dose chooses its doses. A hub keeps one study."""
    study = new_study(hub, size, dose, base_npz, image, scan, tile)
    spacings = {view: study.design.spacing(view) for view in study.design.views}
    told = ", ".join(f"{view} S = {value:.1f} px" for view, value in spacings.items())
    say(
        {"hub": study.hub, "sha256": study.design.sha256(), "spacing": spacings, "design": study.design.to_dict()},
        as_json,
        f"{study.hub}\nN = {study.design.N}, doses {', '.join(f'{one:g}' for one in study.design.doses)}, {told}",
    )


@app.command()
def generate(
    hub: Hub = None,
    dose: Doses = None,
    size: SizeOption = None,
    base_npz: BaseNpz = None,
    image: Image = "file",
    scan: ScanOption = "design",
    tile: Tile = False,
    as_json: Json = False,
) -> None:
    """Simulate the scan at each dose, split it, and hold both halves to the contract."""
    from ptycho_core.generation import generate_dose, merge_run_manifest
    from ptycho_core.layout import Layout

    study = new_study(hub, size, None, base_npz, image, scan, tile)
    layout, entries = Layout(study.hub), {}
    for one in study.doses(dose):
        with console.status(f"generating dose {one:g}"):
            entries[one] = generate_dose(
                study.design.for_data(one), one, layout, base_npz=base_npz, tell=lambda line: console.print(line)
            )
        merge_run_manifest(layout, {one: entries[one]})
    lines = [f"dose {one:g}: mean {entry['mean_counts']:.5g} photons, {entry['zero_fraction']:.1%} zeros, largest "
             f"{entry['max_count']}" for one, entry in entries.items()]  # fmt: skip
    say({"hub": study.hub, "run_manifest": layout.run_manifest, "doses": list(entries.values())}, as_json,
        "\n".join([*lines, str(layout.run_manifest)]))  # fmt: skip


@app.command()
def overlap(
    hub: Hub = None, dose: Doses = None, view: ViewOption = None, size: SizeOption = None, as_json: Json = False
) -> None:
    """Select each view's groups at its spacing; a view with too few groups is skipped with its reason."""
    from ptycho_core.design import SPLITS
    from ptycho_core.layout import Layout
    from ptycho_core.views import generate_overlap_views
    from study_core.files import read_json

    study = study_of(hub, size)
    layout, doses, views = Layout(study.hub), study.doses(dose), study.views(view)
    skips, lines, records = [], [], []
    for one in doses:
        skips += generate_overlap_views(study.design.for_data(one), layout, doses=(one,), views=views)
        for name in views:
            for split in SPLITS:
                spacing = read_json(layout.spacing(one, name, split))
                records.append({"dose": one, "view": name, "split": split, **spacing})
                lines.append(
                    f"dose {one:g} {name} {split}: {spacing['n_accepted']} of {spacing['n_groups_candidate']} groups, "
                    f"{spacing['n_images']} images, nominal f {spacing['overlap']['nominal_f']}, measured overlap of "
                    f"neighbouring groups {spacing['overlap']['group_centre_nn']:.3f}"
                )
    lines += [f"skipped: dose {skip['dose']:g} {skip['view']} {skip['split']}: {skip['reason']}" for skip in skips]
    say({"hub": study.hub, "views": records, "skipped": skips, "skipped_count": len(skips)}, as_json, "\n".join(lines))


@app.command()
def validate(hub: Hub = None, dose: Doses = None, size: SizeOption = None, as_json: Json = False) -> None:
    """Hold every dataset of the hub to the contract; the first broken rule is told."""
    from ptycho_core.design import ALL, SPLITS
    from ptycho_core.layout import Layout
    from ptycho_core.views import check_view
    from study_core.errors import BadInput

    study = study_of(hub, size)
    layout, checked, absent = Layout(study.hub), [], []
    for one in study.doses(dose):
        for view in (ALL, *study.design.views):
            for split in SPLITS:
                path = layout.dataset(one, view, split)
                if view != ALL and not path.exists():
                    absent.append(path.relative_to(study.hub).as_posix())
                    continue
                check_view(path, split=split, view=view, design=study.design)
                checked.append(path.relative_to(study.hub).as_posix())
    if not checked:
        raise BadInput("no dataset below this hub", file=study.hub, remedy="run generate first")
    text = f"{len(checked)} datasets keep the contract" + (f"; absent: {', '.join(absent)}" if absent else "")
    say({"checked": checked, "absent": absent}, as_json, text)
