"""Where everything of a study lies below its hub: every path is written here once.

    <hub>/design.json
    <hub>/run_manifest.json                                what generate made, with hashes
    <hub>/dose_<int>/simulated_raw.npz  canonical.npz      counts as drawn; all positions after rounding
    <hub>/dose_<int>/train.npz  test.npz                   datasets (keys: `npz`)
    <hub>/dose_<int>/truth.npz                             the object; only the comparison opens it
    <hub>/dose_<int>/truth_train.npz                       the train half alone, for the supervised Baseline
    <hub>/dose_<int>/generate.log
    <hub>/dose_<int>/<view>/<view>_train.npz  <view>_test.npz        missing where the view was skipped
    <hub>/dose_<int>/<view>/spacing_<split>.json  skip_<split>.json  metrics_bundle.json
    <hub>/metrics/dose_<int>/<view>.json                   copy of the metrics bundle
    <hub>/train/dose_<int>/<view>_gs<g>/                   bundle.zip history.csv training.json train.log
    <hub>/training_manifest.json  skip_summary.json
    <hub>/reconstruct/dose_<int>/<view>_<split>/           reconstruction.npz reconstruct.log
    <hub>/reconstruction_manifest.json
    <hub>/compare/dose_<int>/<view>/                       aligned_<arm>.npz metrics.csv metrics.json panels
    <hub>/comparison_manifest.json
    <hub>/verdict.json  <hub>/summary.md  <hub>/report.html
    <hub>/jobs.csv                                         what the judged run's jobs took, where a cluster ran them
    <hub>/reference/training_manifest.json                 the golden manifest that a person promoted

A view is a name of the design (dense, sparse) or `baseline`: every position of a split, gridsize 1. No name holds a
time: the same design always writes to the same folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ptycho_core.design import ALL, Split, StudyDesign, dose_name
from study_core.errors import BadInput
from study_core.files import read_json, write_json


def default_hub(design: StudyDesign) -> Path:
    """`artifacts/fly64/<hash>` of the working folder."""
    return Path("artifacts") / "fly64" / design.sha256()[:12]


def open_hub(hub: Path) -> StudyDesign:
    """The design that a hub was made for. Raises BadInput where there is none or it cannot be read."""
    try:
        return StudyDesign.model_validate(read_json(hub / "design.json"))
    except FileNotFoundError:
        raise BadInput("no design.json", file=hub, remedy="run design or generate with this --hub first") from None
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise BadInput(f"not a study design ({first})", file=hub / "design.json", remedy="use a new --hub") from None


def claim_hub(hub: Path, design: StudyDesign) -> Path:
    """Write `design.json`, or find the same one there. Raises BadInput where another study lives."""
    path = hub / "design.json"
    if path.exists() and open_hub(hub).sha256() != design.sha256():
        raise BadInput("holds another study", file=path, remedy="use another --hub, or the same --size and options")
    return write_json(path, design.to_dict())


@dataclass(frozen=True)
class Layout:
    """The paths of one hub. A job's own folder is a hub of its own, so that its files are placed by their names."""

    hub: Path

    @property
    def design(self) -> Path:
        return self.hub / "design.json"

    @property
    def run_manifest(self) -> Path:
        return self.hub / "run_manifest.json"

    @property
    def training_manifest(self) -> Path:
        return self.hub / "training_manifest.json"

    @property
    def skip_summary(self) -> Path:
        return self.hub / "skip_summary.json"

    @property
    def reference_manifest(self) -> Path:
        return self.hub / "reference" / "training_manifest.json"

    @property
    def reconstruction_manifest(self) -> Path:
        return self.hub / "reconstruction_manifest.json"

    @property
    def comparison_manifest(self) -> Path:
        return self.hub / "comparison_manifest.json"

    @property
    def verdict(self) -> Path:
        return self.hub / "verdict.json"

    @property
    def summary(self) -> Path:
        return self.hub / "summary.md"

    @property
    def report(self) -> Path:
        return self.hub / "report.html"

    def dose(self, dose: float) -> Path:
        """Folder of a dose."""
        return self.hub / dose_name(dose)

    def raw(self, dose: float) -> Path:
        return self.dose(dose) / "simulated_raw.npz"

    def canonical(self, dose: float) -> Path:
        return self.dose(dose) / "canonical.npz"

    def truth(self, dose: float) -> Path:
        return self.dose(dose) / "truth.npz"

    def truth_train(self, dose: float) -> Path:
        return self.dose(dose) / "truth_train.npz"

    def generate_log(self, dose: float) -> Path:
        return self.dose(dose) / "generate.log"

    def dataset(self, dose: float, view: str, split: Split) -> Path:
        """The patterns of a view; of all positions for `baseline`. A skipped view has no such file."""
        folder = self.dose(dose)
        return folder / f"{split}.npz" if view == ALL else folder / view / f"{view}_{split}.npz"

    def spacing(self, dose: float, view: str, split: Split) -> Path:
        return self.dose(dose) / view / f"spacing_{split}.json"

    def skip(self, dose: float, view: str, split: Split) -> Path:
        return self.dose(dose) / view / f"skip_{split}.json"

    def metrics_bundle(self, dose: float, view: str) -> Path:
        return self.dose(dose) / view / "metrics_bundle.json"

    def metrics_copy(self, dose: float, view: str) -> Path:
        return self.hub / "metrics" / dose_name(dose) / f"{view}.json"

    def training(self, dose: float, view: str, gridsize: int, *, seed: int = 0, arm: str = "pinn") -> Path:
        """Folder of one training: `<view>_gs<g>`, `_supervised` for the Baseline arm, `_seed<k>` but for seed 0."""
        arm_part = "_supervised" if arm == "baseline" else ""
        seed_part = f"_seed{seed}" if seed else ""
        return self.hub / "train" / dose_name(dose) / f"{view}_gs{gridsize}{arm_part}{seed_part}"

    def reconstruction(self, dose: float, view: str, split: Split) -> Path:
        """Folder of one LSQML reconstruction."""
        return self.hub / "reconstruct" / dose_name(dose) / f"{view}_{split}"

    def comparison(self, dose: float, view: str) -> Path:
        """Folder of one compared cell."""
        return self.hub / "compare" / dose_name(dose) / view
