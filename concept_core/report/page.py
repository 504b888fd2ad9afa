"""The report of one evaluated model: plots under evaluations/<model>/plots, and one HTML page beside the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from concept_core.cav.rows import Floats
from concept_core.evaluation.localisation import Heatmap
from concept_core.evaluation.measures import located
from concept_core.evaluation.proteins import TestProtein, matches
from concept_core.layout import Layout
from concept_core.plans import ConceptPlan
from concept_core.report import detection_figures, figures, protein_figures, tables
from concept_core.report.record import StudyRecord, read_study
from study_core.files import replacing, write_bytes, write_text
from study_core.report.blocks import Block, Items, Page, Picture, Section, Table, Text
from study_core.report.jobs import jobs_table, read_jobs
from study_core.report.style import drawing, png


class Plot(NamedTuple):
    """A figure of the report: file name, title, what it shows to those who cannot see it, and how to read it."""

    name: str
    title: str
    alt: str | Callable[[StudyRecord], str]
    caption: str
    draw: Callable[[StudyRecord], Figure | None]


SKILL_PLOTS = (
    Plot(
        "controls_ladder", "What the model knows beyond its controls", tables.ladder_in_words,
        "Each bar is the AUROC against the stratum that the source does worst on. One half is nothing; whiskers are "
        "95 % over homology groups (of the chosen layer); hatched bars need no language model.",
        figures.controls_ladder,
    ),
)  # fmt: skip
LAYER_PLOTS = (
    Plot(
        "auroc_by_layer", "Layer by layer, with the null", tables.layers_in_words,
        "The band spans every refit with permuted labels.", figures.auroc_by_layer,
    ),
    Plot(
        "strata_by_layer", "Each stratum of negatives by layer", "Curves: AUROC by layer, one line a stratum",
        "Layer 0 knows letters only: it cannot tell a window from its own shuffle.", figures.strata_by_layer,
    ),
    Plot("roc_pr_curves", "ROC and precision-recall", "Curves, a line a stratum", "", figures.roc_pr_curves),
    Plot("score_histograms", "Scores by stratum", "Histograms, a row a stratum", "", figures.score_histograms),
    Plot("learning_curve", "More groups, more skill?", "Worst stratum by groups", "", figures.learning_curve),
)  # fmt: skip
PROTEIN_PLOTS = (
    Plot(
        "threshold_transfer", "Thresholds carried from windows to proteins", "Bars: rates of each threshold",
        "A protein has hundreds of windows: thresholds set on windows let decoys through; protein_fpr_0.05 is set on "
        "maxima.", detection_figures.threshold_transfer,
    ),
)  # fmt: skip
PLACE_PLOTS = (
    Plot(
        "localisation_vs_chance", "Localisation against chance", "Bars: share of proteins located, by source", "",
        detection_figures.localisation_vs_chance,
    ),
)  # fmt: skip
USE_PLOTS = (
    Plot(
        "tcav_sensitivity", "Sensitivity by layer", "Mean S by layer for both directions", "",
        detection_figures.tcav_sensitivity,
    ),
)  # fmt: skip


def write_report(layout: Layout, plan: ConceptPlan, model: str) -> Page:
    """Draw every plot and write `report.html` below the run: one file, no script, nothing from outside; its page.

    Raises:
        BadInput: the run holds no evaluation of the model.
    """
    record = read_study(layout, plan, model)
    page = compose(record, jobs_table(read_jobs(layout.root / "jobs.csv")))
    with replacing(layout.report) as temporary:
        temporary.write_text(page.html(), encoding="utf-8")
    write_text(record.files.card, card(record))
    return page


def compose(record: StudyRecord, jobs: Table | None = None) -> Page:
    """The page, its figures drawn and written to the plots' folder; `jobs`: what it took, where it ran as jobs."""
    with drawing():
        sections = (
            Section("gates", "Gates", (tables.gates_table(record),)),
            Section("skill", "Skill", (*_pictures(record, SKILL_PLOTS), tables.ladder_table(record))),
            Section("seed", "The first thresholds", (tables.seed_table(record),)),
            Section("layers", "Layers and strata", (tables.strata_table(record), *_pictures(record, LAYER_PLOTS))),
            Section("null", "Random CAVs", _nulls(record)),
            Section("proteins", "Whole proteins", _whole(record)),
            Section("places", "Localisation", _places(record)),
            Section("use", "Sensitivity", _use(record)),
            Section("notices", "What the figures do not say", (Items(tables.notices(record)),)),
            Section("provenance", "Provenance", (Items(_provenance(record)), *([jobs] if jobs else ()))),
        )
    return Page(
        title=f"{tables.concept(record)} in {record.model}",
        status="pass" if record.passed else "fail",
        sentence=tables.sentence(record),
        lead=_lead(record),
        sections=tuple(section for section in sections if section.blocks),
        facts=_facts(record),
        footer="Made from the tables of this run; the verdict can be computed from them again.",
    )


def _lead(record: StudyRecord) -> tuple[str, ...]:
    counts = {part: record.corpus.get("windows", {}).get(part, {}).get("pos") for part in ("train", "held_out")}
    groups = record.corpus.get("groups", {}).get("train")
    return (
        f"A linear probe of layer {record.layer} is asked to tell windows with {tables.concept(record)} from four "
        "kinds of windows without it. A direction ships only when the model knows more than a bag of residues, "
        "dipeptides, the same network untrained, and the same network trained without the concept.",
        f"{counts['train']} positive windows in training ({groups} homology groups with their negatives), "
        f"{counts['held_out']} held out.",
    )


def _facts(record: StudyRecord) -> dict[str, str]:
    worst = [record.value("worst_auroc", source="model", part=part) for part in ("oof", "held_out")]
    return {
        "layer": f"L{record.layer}",
        "worst stratum, out of fold": tables.number(worst[0]),
        "worst stratum, held out": tables.number(worst[1]),
        "p of the null": tables.number(record.value("p", source="model")),
        "proteins, AUROC": tables.number(record.value("protein_auroc", source="model", kind="natural")),
        "median IOU": tables.number(record.value("iou_median", source="model"), 2),
    }


def _pictures(record: StudyRecord, plots: tuple[Plot, ...]) -> list[Picture]:
    found = []
    for plot in plots:
        drawn = plot.draw(record)
        if drawn is not None:
            alt = plot.alt if isinstance(plot.alt, str) else plot.alt(record)
            found.append(_picture(record.files.plots / f"{plot.name}.png", drawn, plot.title, alt, plot.caption))
    return found


def _picture(path: Path, drawn: Figure, title: str, alt: str, caption: str = "") -> Picture:
    content = png(drawn)
    write_bytes(path, content)
    return Picture(title, content, alt, caption)


def _nulls(record: StudyRecord) -> tuple[Block, ...]:
    found = []
    for layer in record.tables.facts.layers:
        drawn = figures.random_comparison(record, layer)
        if drawn is not None:
            path = record.files.plots / f"L{layer}_random_comparison.png"
            picture = _picture(path, drawn, f"Layer {layer}", f"Histogram of the null of layer {layer} and the CAV")
            found += [picture] if layer == record.layer else []
    return tuple(found)


def _whole(record: StudyRecord) -> tuple[Block, ...]:
    if not len(record.tables.proteins):
        return (Text("No protein was scanned."),)
    return (tables.detection_table(record), *_pictures(record, PROTEIN_PLOTS), *_tracks(record))


def _tracks(record: StudyRecord) -> list[Picture]:
    """Tracks of the best located, a middling and the worst protein."""
    rows = located(record.tables, "model", record.layer).sort_values(["iou", "accession"], ascending=[False, True])
    if record.tracks is None or not len(rows):
        return []
    ious = dict(zip(rows.accession.tolist(), rows.iou.astype(float).tolist(), strict=True))
    names = list(ious)
    pairs = record.tracks.pairs(record.layer)
    numbers = {one.accession: number for number, one in enumerate(record.proteins) if one.kind == "positive"}
    shown = {names[-1]: "worst", names[len(names) // 2]: "middling", names[0]: "best"}
    found = []
    for accession, why in reversed(shown.items()):
        number = numbers[accession]
        protein = record.proteins[number]
        title = f"{accession}, layer {record.layer}, IOU {ious[accession]:.2f}"
        drawn = protein_figures.track_figure(
            title, pairs[number].plain, record.tables.facts.window,
            threshold=record.registry.value(record.plan.detection.threshold_method), domains=protein.domains,
            patterns=[one.span() for one in matches(protein.sequence, record.plan.data.concept.pattern)],
        )  # fmt: skip
        caption = "Shaded: known occurrences; triangles: matches of the pattern; dashed: threshold."
        path = record.files.plots / f"track_{protein_figures.file_name(protein.accession)}.png"
        found.append(
            _picture(path, drawn, f"Track of {accession} ({why})", _track_alt(protein, pairs[number].plain), caption)
        )
    return found


def _track_alt(protein: TestProtein, scores: Floats) -> str:
    known = ", ".join(f"{start + 1}-{end}" for start, end in protein.domains)
    peak = int(scores.argmax()) + 1
    return f"Score along {protein.accession}: highest in the window from residue {peak}; known occurrences at {known}"


def _places(record: StudyRecord) -> tuple[Block, ...]:
    if not len(located(record.tables, "model", record.layer)):
        return ()
    return (tables.localisation_table(record), *_pictures(record, PLACE_PLOTS), *_heatmaps(record))


def _heatmaps(record: StudyRecord) -> list[Picture]:
    """Thirteen a layer as files; on the page the best, the worst and one drawn of the chosen layer."""
    if record.tracks is None:
        return []
    values = {layer: record.tracks.residues(layer, record.proteins) for layer in record.tracks.layers}
    shown: list[Picture] = []
    seen: set[str] = set()
    for layer in record.tracks.layers:
        for chosen in protein_figures.chosen_heatmaps(record, layer):
            picture = _heatmap(record, chosen, layer, values)
            if picture is not None and layer == record.layer and chosen.why not in seen:
                seen.add(chosen.why)
                shown.append(picture)
    return shown


def _heatmap(record: StudyRecord, chosen: Heatmap, layer: int, values: dict[int, dict[str, Floats]]) -> Picture | None:
    of_protein = {one: found[chosen.accession] for one, found in values.items() if chosen.accession in found}
    if not of_protein:
        return None
    drawn = protein_figures.heatmap_figure(record, chosen, layer, of_protein)
    path = record.files.plots / f"L{layer}_heatmap_{protein_figures.file_name(chosen.accession)}.png"
    title = f"Heatmap of {chosen.accession} ({chosen.why})"
    return _picture(
        path, drawn, title, "Projection of each residue on the direction, a row a layer", "Bright: concept."
    )


def _use(record: StudyRecord) -> tuple[Block, ...]:
    table = tables.sensitivity_table(record)
    return (table, *_pictures(record, USE_PLOTS)) if table else ()


def _provenance(record: StudyRecord) -> tuple[str, ...]:
    plan = record.plan
    return (
        f"CAV {record.registry.cav_sha256[:16]} of layer {record.layer}; window {record.registry.window}, context "
        f"{record.registry.context or 'whole protein'}",
        f"windows {str(record.corpus.get('windows_sha256', ''))[:16]}; seed of data {plan.data.seed}, of probes "
        f"{plan.cav.seed}, of the bootstrap {plan.evaluation.seed}",
        f"{plan.cav.null_refits} refits of the null, {plan.evaluation.bootstrap} resamples of homology groups",
    )


def card(record: StudyRecord) -> str:
    """A few lines that travel with a shipped CAV."""
    lines = [f"# {tables.concept(record)} in {record.model}, layer {record.layer}", "", tables.sentence(record), ""]
    lines += [f"- {name}: {value}" for name, value in _facts(record).items()]
    lines += ["", *(f"- {one}" for one in tables.notices(record)), ""]
    return "\n".join(lines)
