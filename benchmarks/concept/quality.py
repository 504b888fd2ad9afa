"""Whether the embedded default meets its targets, on three split seeds; and layers on data that may not be committed.

Two parts. `targets`: the committed set, the house model with its untrained (and, where named, concept-free) twin, every
gate, a split seed a run; and again with a reference house model that may not be committed. `upstream`: Pfam-labelled
fingers (read where they lie, never copied) through the house model and UniRep-64: out-of-fold AUROC of each stratum and
layer beside bag, dipeptides, PSSM and the untrained twin.

    python -m benchmarks.concept.quality [--seeds 0 1 2] [--out FOLDER] [--shared FOLDER] [--json FILE]

Runs go on where they stood: `--out` keeps every job's receipt.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from concept_core import controls
from concept_core.cav.rows import Rows
from concept_core.config import Config, read_config
from concept_core.corpus.rows import Protein, read_rows, write_fasta
from concept_core.corpus.windows import read_windows
from concept_core.evaluation.scores import StratumScores, by_stratum
from concept_core.frames import read_csv
from concept_core.jobs.concept_eval import Evaluated
from concept_core.layout import Layout
from concept_core.local import Study
from concept_core.plans import NEGATIVES
from concept_core.prepare import make_windows
from concept_core.replay import judged
from study_core.files import write_json
from study_core.gates import passed
from study_core.plan import changed

LAYERS = "layer_worst_auroc"
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data" / "concept"
SHARED = ROOT.parent / "shared" / "concept"


class Target(NamedTuple):
    """A figure that the embedded default is held to."""

    what: str
    metric: str
    where: tuple[tuple[str, str], ...]
    low: float
    high: float


def _target(what: str, metric: str, low: float, high: float = 1.0, **where: str) -> Target:
    return Target(what, metric, tuple(sorted(where.items())), low, high)


TARGETS = (
    _target("worst stratum, out of fold", "worst_auroc", 0.95, source="model", part="oof"),
    _target("worst stratum, held out", "worst_auroc", 0.90, source="model", part="held_out"),
    _target("bag of residues, worst stratum", "worst_auroc", 0.45, 0.55, source="bag20", part="oof"),
    _target("layer 0, worst stratum", "worst_auroc", 0.45, 0.55, source="L0", part="oof"),
    _target("untrained twin, worst stratum", "worst_auroc", 0.45, 0.55, source="untrained", part="oof"),
    _target("concept-free twin, worst stratum", "worst_auroc", 0.0, 0.60, source="concept_free", part="oof"),
    _target("p of the null", "p", 0.0, 0.005, source="model"),
    _target("whole proteins, natural", "protein_auroc", 0.93, source="model", kind="natural"),
    _target("whole proteins, decoys", "protein_auroc", 0.80, source="model", kind="decoy"),
    _target("median IOU, two steps", "iou_median", 0.85, source="model"),
    _target("share with IOU > .75", "iou_share", 0.70, source="model"),
    _target("Recall@1 (IOU ≥ .5)", "iou_recall", 0.70, source="model"),
)


def values(found: Evaluated) -> dict[Any, float | None]:
    """Measures by name and slice."""
    return {(one.metric, tuple(sorted(one.slice.items()))): one.value for one in found.measures}


def seeded(config: Config, seed: int, out: Path) -> Study:
    """The default's study with another split seed, in a folder of its own."""
    plan = changed(config.plan, {"data": {"seed": seed}})
    return Study(
        plan, Layout(out / f"seed{seed}"), config.paths.model_registry, "cpu", tell=lambda line: print(line, flush=True)
    )


def configured(out: Path, house: Path | None) -> Config:
    """The embedded default, or the same with another house model in the committed one's place."""
    if house is None:
        return read_config(DATA / "config.yaml")
    registry = yaml.safe_load((DATA / "models" / "model_registry.yaml").read_text())["models"]
    written = yaml.safe_load((DATA / "config.yaml").read_text())
    entry = {**registry["house_esm2"], "checkpoint_path": str(house)}
    (out / "registry.yaml").write_text(yaml.safe_dump({"models": {"house_esm2": entry}}))
    paths = {name: str((DATA / path).resolve()) for name, path in written["paths"].items()}
    written["paths"] = {**paths, "model_registry": str(out / "registry.yaml")}
    written["model"] = {"name": "house_esm2"}
    (out / "config.yaml").write_text(yaml.safe_dump(written))
    return read_config(out / "config.yaml")


def targets(out: Path, seeds: Sequence[int], house: Path | None = None) -> list[dict[str, Any]]:
    """Every target on every seed, the verdict, and the concept-free twin's own figures where one is named."""
    out.mkdir(parents=True, exist_ok=True)
    config = configured(out, house)
    rows = []
    for seed in seeds:
        started = time.perf_counter()
        study = seeded(config, seed, out)
        facts = make_windows(config.model_copy(update={"plan": study.plan}), study.layout)
        found = study.evaluate(dropped_share=facts["dropped_share"], smoke_passed=6)
        table = values(found)
        records = judged(found.measures, study.plan)
        rows.append(
            {
                "seed": seed, "layer": found.layer, "passed": passed(records),
                "failed": [f"{one.gate}: {one.name}" for one in records if not one.passed],
                "figures": {one.what: table.get((one.metric, one.where)) for one in TARGETS},
                "by_layer": {where[0][1]: value for (metric, where), value in table.items() if metric == LAYERS},
                "dipeptides": table.get(("worst_auroc", (("part", "oof"), ("source", "dipeptide")))),
                "pssm": {
                    "worst": table.get(("worst_auroc", (("part", "oof"), ("source", "pssm")))),
                    "share": table.get(("iou_share", (("source", "pssm"),))),
                },
                "concept_free": twin(study, found) if study.plan.model.concept_free else None,
                "seconds": time.perf_counter() - started,
            }
        )  # fmt: skip
    return rows


def twin(study: Study, found: Evaluated) -> dict[str, Any]:
    """The concept-free twin judged as if it were the model: its own seed-style figures and the gates that refuse it."""
    table = values(found)
    rand = (("part", "held_out"), ("source", "concept_free"), ("stratum", "rand"))
    return {
        "auroc_rand_held_out": table.get(("auroc", rand)), "ap_rand_held_out": table.get(("ap", rand)),
        "p": table.get(("p", (("source", "concept_free"),))),
    }  # fmt: skip


def upstream(out: Path, shared: Path) -> dict[str, dict[str, StratumScores]]:
    """Out-of-fold figures of each feature on the Pfam-labelled set: by feature, by layer."""
    files = {name: shared / f"pf00096_upstream_{name}.jsonl" for name in ("pos", "neg_random", "neg_hard")}
    pool = [Protein(row.accession, row.sequence) for row in read_rows(files["neg_hard"])]
    taken = {row.accession for name in ("pos", "neg_random") for row in read_rows(files[name])}
    distinct = {one.accession: one for one in pool if one.accession not in taken}
    write_fasta(out / "pool.fasta", distinct.values())
    found: dict[str, dict[str, StratumScores]] = {}
    for model in ("house_esm2", "unirep_64"):
        study, windows = _upstream_study(out, files, model, shared)
        trained = study.train()
        for network in trained.networks:
            tables = {one.layer: read_csv(one.scores.path) for one in trained.by_network[network.name]}
            found[network.name] = {f"L{layer}": _figures(table) for layer, table in tables.items()}
        for one in trained.controls:
            found[one.source] = {"": _figures(read_csv(one.scores.path))}
        rows = Rows.of(windows)
        scores = controls.pssm_scores(windows, rows, width=controls.domain_width(windows))
        found["pssm"] = {"": by_stratum(scores[rows.judged], rows.strata[rows.judged])}
    return found


def _figures(table: Any) -> StratumScores:
    oof = table[table.part == "oof"]
    return by_stratum(oof.score.to_numpy(float), oof.stratum.to_numpy(str))


def _upstream_study(out: Path, files: dict[str, Path], model: str, shared: Path) -> tuple[Study, list[Any]]:
    registry = yaml.safe_load((DATA / "models" / "model_registry.yaml").read_text())["models"]
    entries = {name: dict(registry[name]) for name in ("house_esm2", "unirep_64")}
    entries["house_esm2"]["checkpoint_path"] = str(DATA / "house_esm2")
    entries["unirep_64"]["checkpoint_path"] = str(shared / "unirep64.npz")
    entries = {name: {**entry, "layers_to_extract": [1, 2, 3, 4]} for name, entry in entries.items()}
    (out / "registry.yaml").write_text(yaml.safe_dump({"models": entries}))
    paths = {
        "positives": files["pos"], "negatives": files["neg_random"], "pool": out / "pool.fasta",
        "model_registry": out / "registry.yaml", "output": out / model,
    }  # fmt: skip
    written = {
        "model": {"name": model},
        "paths": {name: str(path) for name, path in paths.items()},
        "data": {"held_out": 0.0},
        "embedding": {"context": 96 if model == "house_esm2" else 128},
        "cav": {"null_refits": 1, "random_cavs": 0},
    }  # fmt: skip
    (out / f"{model}.yaml").write_text(yaml.safe_dump(written))
    config = read_config(out / f"{model}.yaml")
    layout = Layout(config.paths.output)
    make_windows(config, layout)
    study = Study(config.plan, layout, config.paths.model_registry, "cpu", tell=lambda line: print(line, flush=True))
    return study, read_windows(layout.windows)


def markdown(
    seeds: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]], features: dict[str, dict[str, StratumScores]]
) -> str:
    """All tables, with the command that makes them again."""
    lines = [
        "# Quality of the concept study", "",
        "Measured by `python -m benchmarks.concept.quality`; one thread, CPU, single precision.", "",
        "## The embedded default against its targets", "", *_targets_table(seeds),
    ]  # fmt: skip
    if reference:
        lines += [
            "", "## The same with a reference house model", "",
            "Same architecture, trained on fingers of 50 Pfam-annotated proteins that this set does not hold; it may "
            "not be committed.", "", *_targets_table(reference),
        ]  # fmt: skip
    if features:
        title = "## Pfam-labelled fingers: out-of-fold AUROC by stratum"
        lines += ["", title, "", f"| feature | {' | '.join(NEGATIVES)} | worst |", "| --- |" + " ---: |" * 5]
    for name, layers in features.items():
        for layer, one in layers.items():
            cells = [_number(one.auroc.get(stratum)) for stratum in NEGATIVES]
            lines.append(f"| {name} {layer} | {' | '.join(cells)} | {_number(one.worst)} |")
    return "\n".join([*lines, ""])


def _targets_table(seeds: Sequence[dict[str, Any]]) -> list[str]:
    names = [f"seed {one['seed']}" for one in seeds]
    lines = [f"| | target | {' | '.join(names)} | |", "| --- | ---: |" + " ---: |" * len(seeds) + " --- |"]
    for target in TARGETS:
        figures = [one["figures"][target.what] for one in seeds]
        if all(value is None for value in figures):
            continue
        met = all(value is not None and target.low <= value <= target.high for value in figures)
        cells = " | ".join(map(_number, figures))
        bounds = f"{target.low:g} … {target.high:g}"
        lines.append(f"| {target.what} | {bounds} | {cells} | {'met' if met else 'missed'} |")
    return [*lines, *_beside(seeds)]


def _beside(seeds: Sequence[dict[str, Any]]) -> Iterator[str]:
    def row(name: str, cells: Sequence[str]) -> str:
        return f"| {name} | | {' | '.join(cells)} | |"

    yield row("chosen layer", [f"L{one['layer']}" for one in seeds])
    yield row("dipeptides, worst stratum", [_number(one["dipeptides"]) for one in seeds])
    yield row("PSSM, worst stratum", [_number(one["pssm"]["worst"]) for one in seeds])
    yield row("PSSM, share with IOU > .75", [_number(one["pssm"]["share"]) for one in seeds])
    if all(one["concept_free"] for one in seeds):
        yield row(
            "concept-free: AUROC, other proteins, held out",
            [_number(one["concept_free"]["auroc_rand_held_out"]) for one in seeds],
        )
        yield row("concept-free: p of the null", [_number(one["concept_free"]["p"]) for one in seeds])
    yield row("verdict", ["passed" if one["passed"] else "refused: " + "; ".join(one["failed"]) for one in seeds])
    yield row("seconds", [f"{one['seconds']:.0f}" for one in seeds])


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def main() -> None:
    """Run both parts and write the record."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--out", type=Path, help="Keep the runs here.")
    arguments.add_argument("--shared", type=Path, default=SHARED)
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--markdown", type=Path, default=Path(__file__).with_name("quality.md"))
    given = arguments.parse_args()
    out = given.out or Path(tempfile.mkdtemp(prefix="concept-quality-"))
    (out / "upstream").mkdir(parents=True, exist_ok=True)
    seeds = targets(out / "default", given.seeds)
    house = given.shared / "house_esm2"
    reference = targets(out / "reference", given.seeds, house) if house.is_dir() else []
    features = upstream(out / "upstream", given.shared) if given.shared.is_dir() else {}
    given.markdown.write_text(markdown(seeds, reference, features), encoding="utf-8")
    if given.json:
        write_json(given.json, {"default": seeds, "reference": reference})
    print(given.markdown.read_text())


if __name__ == "__main__":
    main()
