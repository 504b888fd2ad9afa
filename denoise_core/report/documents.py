"""The seven documents of the auditor's bundle, under the published names: text made from data, nothing from memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from denoise_core import recipes
from denoise_core.corpus.dose import sampling_weights
from denoise_core.corpus.folds import fold_manifests
from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.corpus.study import PUBLISHED, Study
from denoise_core.plans import FILM_FEATURES
from denoise_core.report import provenance, tables
from denoise_core.report.record import RunRecord, read_run
from study_core.errors import BadInput
from study_core.markdown import markdown_table
from study_core.plan import identity
from study_core.report.blocks import Table

PLAN = "act_of_god_warm_start_plan.md"
AUDIT = "validation_panel_audit_results.md"
PANEL = "validation_panel_split_summary.md"
COVERAGE = "training_manifest_coverage_summary.md"
COUNTS = "training_group_counts_reference.md"
FOLD = "fold02_training_coverage_snapshot.md"
DOSE = "dose_metadata_documentation.md"
NAMES = (PLAN, AUDIT, PANEL, COVERAGE, COUNTS, FOLD, DOSE)
FOLD_OF_THE_SEED = 2
_NO_TRAINING = "No training manifest is on record for this run."


def bundle_documents(folder: Path, corpus: Corpus, panel: Manifest, training: Manifest | None) -> dict[str, str]:
    """Name → text of all seven. BadInput when the folder holds no verdict."""
    record = read_run(folder)
    return {
        PLAN: plan_document(record, panel, training, corpus.study),
        AUDIT: audit_document(record),
        PANEL: panel_document(panel, corpus),
        COVERAGE: coverage_document(training),
        COUNTS: counts_document(training, corpus.study),
        FOLD: fold_document(corpus, _start_fold(record)),
        DOSE: dose_document(corpus),
    }


def plan_document(record: RunRecord, panel: Manifest, training: Manifest | None, study: Study = PUBLISHED) -> str:
    """What was planned: panel, training set, gates with reasons, the recipe beside the seed's, the commands."""
    parts = [
        f"# Warm-start plan: {record.folder.name}",
        f"{_origin(record)} The gates below decide on the fixed panel: a model ships only if every one of them passes.",
        "## Validation panel (fixed hold-out)",
        f"{_size(panel)}. Rows SHA-256 `{panel.rows_sha256}`.",
        _by_group(panel, study),
        "## Training set",
        _training_line(panel, training),
        "## Readiness gates",
        _table(tables.thresholds_table(record.plan)),
        "## Training recipe",
        _recipe(record),
        "## Commands",
        _commands(record),
    ]
    return _joined(parts)


def _origin(record: RunRecord) -> str:
    """Where the weights come from, by the run's own parameters."""
    start, checkpoint = record.plan.get("start"), record.plan.get("checkpoint")
    if isinstance(start, dict):
        origin = start.get("checkpoint") or f"fold {_start_fold(record):02d}'s best checkpoint"
        return f"Warm start from {origin}, then training on everything but the panel."
    if checkpoint:
        return f"Training goes on from {checkpoint}."
    return "The run's parameters name no start: it judged checkpoints that existed."


def _training_line(panel: Manifest, training: Manifest | None) -> str:
    if training is None:
        return _NO_TRAINING
    leaked = sorted(set(panel.groups) & set(training.groups))
    among = f"**panel groups are among them: {', '.join(leaked)}**" if leaked else "no group of the panel is among them"
    return f"{_size(training)}; {among}. Rows SHA-256 `{training.rows_sha256}`."


def _recipe(record: RunRecord) -> str:
    plan = provenance.training_plan(record)
    if plan is None and record.training_plan:
        return "The plan on record (training_plan.json) is of another version of this program."
    if plan is None:
        return "No training plan is on record in this run's folder."
    seed = recipes.named("track_h" if plan.name.startswith("track_h") else "act_of_god_seed")
    ours, theirs = plan.model_dump(mode="json"), seed.model_dump(mode="json")
    rows = [
        (
            f"{section}.{name}",
            _shown(value),
            _shown(theirs[section][name]),
            "" if value == theirs[section][name] else "≠",
        )
        for section, options in ours.items()
        if isinstance(options, dict)
        for name, value in options.items()
    ]
    head = f"Plan `{plan.name}`, SHA-256 `{identity(plan)}`; beside it the seed's recipe (`{seed.name}`).\n\n"
    return head + markdown_table(("option", "this run", "seed", ""), rows)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _commands(record: RunRecord) -> str:
    train = (
        "python -m denoise_core train --corpus CORPUS --plan training_plan.json --out RUN "
        "--train-manifest manifests/manifest_train.csv --val-manifest manifests/validation_panel.csv "
        "--init-checkpoint START"
    )
    judge = (
        "python -m denoise_core evaluate --corpus CORPUS --panel manifests/validation_panel.csv "
        f"--training manifests/manifest_train.csv --predictions {record.predictions_folder.relative_to(record.folder)} "
        f"--expected-hash {record.verdict.get('panel_sha256', '')} --out AGAIN"
    )
    again = "python -m denoise_core replay --corpus CORPUS --bundle ."
    lines = [train, judge, again] if record.training_plan else [judge, again]
    return "```\n" + "\n".join(lines) + "\n```\n\nRun in the unpacked bundle; CORPUS is the corpus's folder."


def audit_document(record: RunRecord) -> str:
    """The verdict for people: sentence, gates, controls, groups, notices, ranking."""
    parts = [
        "# Validation panel: audit results",
        f"**{tables.sentence(record)}**",
        f"Candidate `{record.verdict.get('candidate_sha256', '')}`; panel rows "
        f"`{record.verdict.get('panel_sha256', '')}`; reference `{record.facts.get('reference', '')}`.",
        "## Gates",
        _table(tables.gates_table(record)),
        "## Beside the controls",
        *(
            [_table(tables.controls_table(record)), _table(tables.groups_table(record))]
            if record.controls
            else ["None."]
        ),
        tables.against_base(record),
        *(["## Unseen groups", _table(unseen)] if (unseen := tables.unseen_table(record)) else []),
        *(["## Ranking", _table(ranking)] if (ranking := tables.ranking_table(record)) else []),
        "## Notices",
        "\n".join(f"- {notice}" for notice in record.facts.get("notices") or []) or "None.",
    ]
    return _joined(parts)


def panel_document(panel: Manifest, corpus: Corpus) -> str:
    """What the panel holds, by group, with each group's dose, its share of the corpus, and both hashes."""
    share = 100 * panel.frame["relative_path"].nunique() / len(corpus)
    held, all_of = (frame.groupby("group_id")["relative_path"].nunique() for frame in (panel.frame, corpus.captures))
    partly = [group for group in panel.groups if held[group] != all_of.get(group)]
    whole = f"Not held out whole: {', '.join(partly)}." if partly else "Every group is held out whole."
    parts = [
        "# Validation panel: split summary",
        f"{_size(panel)}: {share:.1f} % of the corpus's {len(corpus)} captures. {whole}",
        _by_group(panel, corpus.study),
        f"- SHA-256 of the rows (line ends and column order aside): `{panel.rows_sha256}`\n"
        f"- SHA-256 of the file's bytes: `{panel.bytes_sha256 or 'not a file'}`",
        "Rows that stand twice name the same capture: they weigh twice in every mean, as in the published audit.",
    ]
    return _joined(parts)


def coverage_document(training: Manifest | None) -> str:
    """Training rows by treatment, sample and angle."""
    head = "# Training manifest: coverage by treatment, sample and angle"
    if training is None:
        return _joined([head, _NO_TRAINING])
    frame = training.frame
    crossed = frame.pivot_table(
        index=["treatment", "sample"], columns="angle", values="relative_path", aggfunc="size", fill_value=0
    ).reset_index()
    samples = frame.groupby("treatment")["sample"].agg(lambda names: ", ".join(sorted(set(names)))).reset_index()
    return _joined([head, f"{_size(training)}.", _frame(crossed), "## Samples of each treatment", _frame(samples)])


def counts_document(training: Manifest | None, study: Study = PUBLISHED) -> str:
    """Training rows and captures of every group."""
    head = "# Training manifest: counts by group_id"
    return _joined(
        [head, _NO_TRAINING] if training is None else [head, f"{_size(training)}.", _by_group(training, study)]
    )


def fold_document(corpus: Corpus, fold: int) -> str:
    """What the warm start's fold was trained, validated and tested on, by treatment and sample."""
    head = f"# Fold {fold:02d}: training coverage"
    try:
        parts = fold_manifests(corpus, fold)
    except BadInput as error:
        return _joined([head, f"This corpus has no fold {fold}: {error}"])
    splits = {"train": parts.train, "validation": parts.val, "test": parts.test}
    rows = [
        (treatment, *(", ".join(_letters(part, treatment)) for part in splits.values()))
        for treatment in sorted(set(parts.train.frame["treatment"]))
    ]
    sizes = "; ".join(f"{name} {_size(part)}" for name, part in splits.items())
    hashes = "\n".join(f"- {name}: rows SHA-256 `{part.rows_sha256}`" for name, part in splits.items())
    return _joined([head, f"{sizes}.", markdown_table(("treatment", *splits), rows), hashes])


def _letters(part: Manifest, treatment: str) -> list[str]:
    names = part.frame.loc[part.frame["treatment"] == treatment, "sample"]
    return sorted({name.removeprefix("sample_") for name in names})


def dose_document(corpus: Corpus) -> str:
    """What each treatment received, the FiLM features made of it, their statistics, the sampling bins."""
    doses = [
        (
            name,
            f"{dose.uva_mw_cm2:g}",
            f"{dose.uvb_mw_cm2:g}",
            f"{dose.uva_hours:.7g}",
            f"{dose.uvb_hours:.7g}",
            f"{dose.uva_total:.6g}",
            f"{dose.uvb_total:.6g}",
        )
        for name in sorted(set(corpus.captures["treatment"]))
        if (dose := corpus.study.dose(name)) is not None
    ]
    if not doses:
        return _joined(["# Dose metadata", f"{len(corpus)} captures. The study {corpus.study.name} gives no doses."])
    controls = [name for name in corpus.study.treatments or () if corpus.study.is_control(name)]
    columns = ("treatment", "UVA mW/cm²", "UVB mW/cm²", "UVA h", "UVB h", "UVA mWh/cm²", "UVB mWh/cm²")
    weights = sampling_weights(corpus.captures, corpus.study).merge(corpus.captures[["relative_path", "treatment"]])
    bins = weights.groupby(["treatment", "bin_pair", "sampling_weight"]).size().rename("captures").reset_index()
    return _joined(
        [
            "# Dose metadata",
            f"{len(corpus)} captures. {', '.join(controls) or 'No treatment'} is the control: no dose, so its UVA/UVB "
            "ratio does not exist and stands as 0 after standardising.",
            markdown_table(columns, doses),
            "## FiLM features and their statistics",
            "cos_theta is the cosine of the clock angle (12 o'clock +1, 6 o'clock −1); totals are irradiance × hours; "
            "*_norm are totals over the largest treatment's. Mean and population standard deviation over the dosed "
            "captures, by which the features are standardised:",
            _statistics(corpus),
            "## Sampling bins",
            "Quintile bins of (UVA_norm, UVB_norm) and the sampling weight of each capture in them:",
            _frame(bins),
        ]
    )


def _statistics(corpus: Corpus) -> str:
    try:
        stats = corpus.dose_stats
    except BadInput as error:
        return f"Not available: {error}"
    rows = [(name, f"{mean:.6g}", f"{std:.6g}") for name, mean, std in
            zip(FILM_FEATURES, stats.mean_F.tolist(), stats.std_F.tolist(), strict=True)]  # fmt: skip
    return markdown_table(("feature", "mean", "sd"), rows)


def _start_fold(record: RunRecord) -> int:
    start = record.plan.get("start")
    fold = start.get("fold") if isinstance(start, dict) else None
    return int(fold) if fold else FOLD_OF_THE_SEED


def _size(manifest: Manifest) -> str:
    unique = manifest.frame["relative_path"].nunique()
    return f"{len(manifest)} rows, {unique} captures, {len(manifest.groups)} groups"


def _totals(study: Study, treatment: str) -> tuple[str, str]:
    """UVA and UVB totals of a treatment; a dash where the study gives none."""
    dose = study.dose(treatment)
    return ("–", "–") if dose is None else (f"{dose.uva_total:g}", f"{dose.uvb_total:g}")


def _by_group(manifest: Manifest, study: Study) -> str:
    counts = manifest.frame.groupby("group_id", sort=True)["relative_path"].agg(["size", "nunique"])
    rows = [
        (group, int(rows), int(unique), *_totals(study, str(group).split("/")[0]))
        for group, rows, unique in counts.itertuples()
    ]
    return markdown_table(("group_id", "rows", "captures", "UVA mWh/cm²", "UVB mWh/cm²"), rows)


def _frame(frame: pd.DataFrame) -> str:
    return markdown_table([str(name) for name in frame.columns], frame.to_numpy().tolist())


def _table(table: Table) -> str:
    return f"### {table.title}\n\n{table.markdown()}" + (f"\n\n{table.note}" if table.note else "")


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
