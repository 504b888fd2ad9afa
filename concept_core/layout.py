"""Where everything of a run lies below its folder: every name is written here once.

windows.jsonl corpus.json                              the labelled windows (`corpus.windows.Window`), counts
embeddings/<model>/ L<l>_pos.npy L<l>_neg.npy          per-residue float16, windows × window length × width
                    L<l>_meta.json                     keys, strata, groups, parts, hashes, in the arrays' order
                    store.json shards/                 what it was made from; finished shards of an unfinished store
cavs/<model>/       L<l>_concept_v1.npy L<l>_pattern_v1.npy L<l>_random_<nn>_v1.npy
                    L<l>_{scaler,pca,probe,centred,folds}_v1.safetensors L<l>_report_v1.json L<l>_manifest_v1.json
evaluations/<model>/ projection_eval.json thresholds.json controls.json nulls.npz oof_scores.csv proteins.csv
                    facts.json tracks.safetensors
                    sensitivity.json plots/
detections/<input>/ predictions.json hits.tsv detection_summary.json report.html tracks/<accession>.png
logs/               indexing_corrections.jsonl
smoke_test_metrics.json
study.json candidate/ verdict.json report.html         the plan that was judged, what would ship, the verdict, the page
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

UNTRAINED = "{model}_untrained"


@dataclass(frozen=True)
class Layout:
    """Paths of one run."""

    root: Path

    @property
    def windows(self) -> Path:
        return self.root / "windows.jsonl"

    @property
    def corpus(self) -> Path:
        return self.root / "corpus.json"

    @property
    def study(self) -> Path:
        """The plan that the verdict was given on."""
        return self.root / "study.json"

    @property
    def candidate(self) -> Path:
        """The folder that ships (`concept_core.candidate`)."""
        return self.root / "candidate"

    @property
    def verdict(self) -> Path:
        return self.root / "verdict.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def corrections(self) -> Path:
        return self.root / "logs" / "indexing_corrections.jsonl"

    @property
    def smoke_metrics(self) -> Path:
        return self.root / "smoke_test_metrics.json"

    def embeddings(self, model: str) -> EmbeddingFiles:
        return EmbeddingFiles(self.root / "embeddings" / model)

    def cavs(self, model: str) -> CavFiles:
        return CavFiles(self.root / "cavs" / model)

    def evaluation(self, model: str) -> EvaluationFiles:
        return EvaluationFiles(self.root / "evaluations" / model)

    def detection(self, name: str) -> DetectionFiles:
        return DetectionFiles(self.root / "detections" / name)


@dataclass(frozen=True)
class EmbeddingFiles:
    """The per-residue store of one model."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store.json"

    @property
    def shards(self) -> Path:
        return self.root / "shards"

    def positives(self, layer: int) -> Path:
        return self.root / f"L{layer}_pos.npy"

    def negatives(self, layer: int) -> Path:
        return self.root / f"L{layer}_neg.npy"

    def meta(self, layer: int) -> Path:
        return self.root / f"L{layer}_meta.json"


@dataclass(frozen=True)
class CavFiles:
    """Versioned vectors and probes of one model, all layers in one folder."""

    root: Path
    version: str = "v1"

    def concept(self, layer: int) -> Path:
        return self.root / f"L{layer}_concept_{self.version}.npy"

    def pattern(self, layer: int) -> Path:
        return self.root / f"L{layer}_pattern_{self.version}.npy"

    def random(self, layer: int, number: int) -> Path:
        return self.root / f"L{layer}_random_{number:02d}_{self.version}.npy"

    def scaler(self, layer: int) -> Path:
        return self.root / f"L{layer}_scaler_{self.version}.safetensors"

    def pca(self, layer: int) -> Path:
        return self.root / f"L{layer}_pca_{self.version}.safetensors"

    def probe(self, layer: int) -> Path:
        return self.root / f"L{layer}_probe_{self.version}.safetensors"

    def centred(self, layer: int) -> Path:
        return self.root / f"L{layer}_centred_{self.version}.safetensors"

    def folds(self, layer: int) -> Path:
        """Both probes of every fold in the model's own space, for scores of proteins that a fold has not seen."""
        return self.root / f"L{layer}_folds_{self.version}.safetensors"

    def report(self, layer: int) -> Path:
        return self.root / f"L{layer}_report_{self.version}.json"

    def manifest(self, layer: int) -> Path:
        return self.root / f"L{layer}_manifest_{self.version}.json"


@dataclass(frozen=True)
class EvaluationFiles:
    """Figures of one model, judged later."""

    root: Path

    @property
    def projection(self) -> Path:
        return self.root / "projection_eval.json"

    @property
    def thresholds(self) -> Path:
        return self.root / "thresholds.json"

    @property
    def controls(self) -> Path:
        return self.root / "controls.json"

    @property
    def nulls(self) -> Path:
        return self.root / "nulls.npz"

    @property
    def scores(self) -> Path:
        return self.root / "oof_scores.csv"

    @property
    def proteins(self) -> Path:
        """Whole proteins of the detection test, a row a protein and source."""
        return self.root / "proteins.csv"

    @property
    def tracks(self) -> Path:
        """The model's tracks of the detection test's proteins."""
        return self.root / "tracks.safetensors"

    @property
    def sensitivity(self) -> Path:
        """True TCAV, where it was asked for."""
        return self.root / "sensitivity.json"

    @property
    def facts(self) -> Path:
        """Integrity counts and settings: with the tables, all that a verdict is computed from."""
        return self.root / "facts.json"

    @property
    def card(self) -> Path:
        """A few lines that travel with a shipped CAV."""
        return self.root / "card.md"

    @property
    def plots(self) -> Path:
        return self.root / "plots"


@dataclass(frozen=True)
class DetectionFiles:
    """What a scan of one input leaves."""

    root: Path

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.json"

    @property
    def hits(self) -> Path:
        return self.root / "hits.tsv"

    @property
    def summary(self) -> Path:
        return self.root / "detection_summary.json"

    @property
    def tracks(self) -> Path:
        return self.root / "tracks"

    @property
    def report(self) -> Path:
        return self.root / "report.html"


def untrained(model: str) -> str:
    """Folder name of a model's untrained control."""
    return UNTRAINED.format(model=model)
