"""Commands that make what a study starts from: labelled windows, embeddings, the house model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concept_core.cli.common import DEFAULT_CONFIG, ConfigOption, DeviceOption, ModelOption, OutOption, Study, study
from study_core.cli import Json, console, quiet, say, shown
from study_core.errors import BadInput

if TYPE_CHECKING:
    from concept_core.models.house import HousePlan

Fasta = Annotated[list[Path], typer.Option("--fasta", help="FASTA file (.gz too); may be given again.")]


def mount(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(data)
    app.command()(embed)
    app.command()(house)


def data(
    fasta: Fasta,
    out: Annotated[Path, typer.Option("--out", help="Folder for rows and windows; made when missing.")],
    pattern: Annotated[str, typer.Option(help="C2H2, or a regular expression of one occurrence.")] = "C2H2",
    spans: Annotated[
        Path | None, typer.Option(help="Known spans instead: accession, first, last; tab-separated, 1-based.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal files.")] = 0,
    window: Annotated[int, typer.Option(min=5, help="Window length.")] = 41,
    as_json: Json = False,
) -> None:
    """Label any FASTA by a pattern or by known spans; make rows, all strata of negatives, groups and the split."""
    from concept_core.corpus.assemble import Source, assemble
    from concept_core.corpus.label import by_pattern, labelled, read_spans
    from concept_core.corpus.rows import write_rows
    from concept_core.corpus.windows import write_windows
    from concept_core.layout import Layout
    from concept_core.plans import DataPlan
    from concept_core.prepare import windows_in_words

    proteins = _proteins(fasta)
    expression = _pattern(pattern)
    plan = DataPlan(window=window, seed=seed)
    plan = plan.model_copy(update={"concept": plan.concept.model_copy(update=_concept(pattern, expression, spans))})
    known = read_spans(spans, proteins) if spans else by_pattern(proteins, expression)
    source = str(spans.name) if spans else f"pattern {pattern}"
    rows = labelled(proteins, known, source=source, width=window, seed=seed, pattern=expression)
    files = (out / "pos.jsonl", out / "neg.jsonl")
    for file, part in zip(files, rows, strict=True):
        write_rows(file, part)
    made = assemble(Source(tuple(rows[0]), tuple(rows[1]), *files), plan, pool=proteins)
    layout = Layout(out)
    write_windows(layout.windows, made.windows)
    facts = {"positives": str(files[0]), "negatives": str(files[1]), "windows": str(layout.windows), **made.facts}
    counts = windows_in_words(made.facts["windows"])
    say(facts, as_json, f"{out}: {len(rows[0])} positive and {len(rows[1])} negative proteins; {counts}")


def _concept(pattern: str, expression: str, spans: Path | None) -> dict[str, Any]:
    return {} if pattern == "C2H2" and spans is None else {
        "name": pattern if spans is None else spans.stem,
        "pattern": None if spans is not None else expression,
        "ligand_residues": None,
    }  # fmt: skip


def _pattern(name: str) -> str:
    """A named concept's pattern, or the expression itself. Raises BadInput where it is none."""
    from pydantic import ValidationError

    from concept_core.plans import ConceptSpec

    if name == "C2H2":
        return str(ConceptSpec().pattern)
    try:
        return str(ConceptSpec(pattern=name).pattern)
    except ValidationError as error:
        raise BadInput(
            error.errors()[0]["msg"].removeprefix("Value error, "), remedy="--pattern: C2H2, or an expression"
        ) from None


def _proteins(files: list[Path]) -> list[Any]:
    """Records of every file; an id counts once, as the first file has it; within a file its letters are equal."""
    from concept_core.corpus.rows import read_fasta

    found: dict[str, Any] = {}
    for file in files:
        for protein in read_fasta(file, unknown_max=1.0, repeated=True):
            found.setdefault(protein.accession, protein)
    return list(found.values())


def embed(
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    out: OutOption = None,
    as_json: Json = False,
) -> None:
    """Embed the configuration's windows with the model and its controls; finished shards are kept."""
    from concept_core.prepare import make_windows

    opened = study(config, model, out)
    make_windows(opened.config, opened.layout)
    warn_of_cpu(opened, device)
    stores = {name: str(opened.layout.embeddings(name).root) for name in opened.local(device).embed()}
    say({"stores": stores}, as_json, "\n".join(f"{name}: {folder}" for name, folder in stores.items()))


def warn_of_cpu(opened: Study, device: str) -> None:
    """Say what to expect where there is no GPU."""
    from concept_core.prepare import expected_on_cpu
    from concept_core.steps import networks
    from study_core.device import device_for

    read = opened.config
    found = networks(read.plan, read.paths.model_registry)
    if device_for(device) == "cpu" and (told := expected_on_cpu([one.name for one in found], opened.layout.windows)):
        print(f"no CUDA: computing on the CPU, {told}", file=sys.stderr)


def house(
    fasta: Fasta,
    out: Annotated[Path, typer.Option("--out", help="The model's folder.")],
    exclude: Annotated[
        list[Path], typer.Option("--exclude", help="JSONL rows whose proteins, and their relatives, are not seen.")
    ],
    concept: Annotated[str, typer.Option(help="C2H2, or a regular expression.")] = "C2H2",
    steps: Annotated[int, typer.Option(min=1)] = 2000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    init: Annotated[
        Path | None, typer.Option("--init", help="House model to start from. Default: fresh weights.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="Any other option of the plan, as drift=0.6; may be given again.")
    ] = None,
    without: Annotated[bool, typer.Option("--without-concept", help="The concept-free twin.")] = False,
    as_json: Json = False,
) -> None:
    """Train the small ESM-2: fixed steps, one seed, about ten minutes of one core. Interrupted, it goes on."""
    from rich.progress import Progress

    from concept_core.corpus.rows import read_rows
    from concept_core.models.house import train
    from concept_core.models.house_data import crops
    from concept_core.plans import ConceptSpec

    rows = [row.sequence for file in exclude for row in read_rows(file)]
    plan = _house_plan(steps, seed, init, option or [], without)
    conserved = str(ConceptSpec().ligand_residues) if concept == "C2H2" else ""
    data = crops(_proteins(fasta), rows, _pattern(concept), with_concept=not without, conserved=conserved)
    with shown("house", out) as context, Progress(console=console, disable=quiet) as bar:
        task = bar.add_task("loss", total=steps)
        folder = train(
            plan,
            data,
            out,
            init=init,
            tell=lambda step, loss: bar.update(task, completed=step, description=f"loss {loss:.3f}"),
            should_stop=context.should_stop,
        )
    facts = {"model": str(folder), "proteins": len(data.proteins), "occurrences": len(data.occurrences), "steps": steps}
    say(facts, as_json, f"{folder}: {steps} steps, {facts['proteins']} proteins, {facts['occurrences']} occurrences")


def _house_plan(steps: int, seed: int, init: Path | None, options: list[str], without: bool) -> HousePlan:
    """The plan of the options. Raises BadInput for one that it does not have, or a value that it does not take."""
    from pydantic import ValidationError

    from concept_core.models.house import HousePlan, weights_of
    from study_core.files import sha256_of

    fields: dict[str, Any] = {"steps": steps, "seed": seed, **({"concept_share": 0.0} if without else {})}
    for one in options:
        name, _, value = one.partition("=")
        if name not in HousePlan.model_fields or not value:
            raise BadInput(f"no option {one!r}", remedy=f"NAME=VALUE; names are {', '.join(HousePlan.model_fields)}")
        fields[name] = value
    if init is not None:
        fields["init_sha256"] = sha256_of(weights_of(init))
    try:
        return HousePlan.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{first['loc'][0]}: {first['msg']}", remedy="correct --set") from None
