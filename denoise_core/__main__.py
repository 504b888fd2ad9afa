"""`python -m denoise_core`: the science on its own, without Prefect or Slurm.

Exit codes: 0 done (and, for `evaluate`, every gate passed) · 2 bad input · 3 a gate failed.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from denoise_core.import_command import import_files
from study_core.cli import GATE_FAILED, Json, console, quiet, run
from study_core.errors import BadInput
from study_core.paths import below
from study_core.plan import changed

if TYPE_CHECKING:
    from denoise_core.plans import TrainingPlan

app = typer.Typer(
    name="denoise_core", help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)
CorpusDir = Annotated[Path, typer.Option("--corpus", help="Corpus folder: the seed's layout, or packed.")]
OutDir = Annotated[Path, typer.Option("--out", help="Folder to write into; made when missing.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the whole trace of an error; goes anywhere on the line.")
]


@app.callback()
def _options(context: typer.Context, verbose: Verbose = False) -> None:
    context.obj = verbose


@app.command()
def corpus(
    out: OutDir,
    size: Annotated[str, typer.Option(help="mini (seconds, for demos and tests) or full (8,100 spectra).")] = "mini",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bytes.")] = 1,
    as_json: Json = False,
) -> None:
    """Generate the synthetic corpus in the seed's layout; the clean truth goes to OUT/truth."""
    from denoise_core.corpus.synthetic import generate

    if size not in ("mini", "full"):
        raise BadInput(f"no corpus size {size!r}", remedy="mini or full")
    if out.exists() and any(out.iterdir()):
        raise BadInput("folder is not empty", file=out, remedy="name a new one; nothing is overwritten")
    with console.status(f"generating {size}, seed {seed}"):
        generate(out, size=size, seed=seed)  # type: ignore[arg-type]
    print(json.dumps({"corpus": str(out), "size": size, "seed": seed}) if as_json else out)


app.command("import")(import_files)


@app.command()
def folds(corpus: CorpusDir, out: OutDir, as_json: Json = False) -> None:
    """Write fold_01 …/{train,val,test}_manifest.csv: a sample to test, one to validate, the rest to train."""
    from denoise_core.corpus.folds import write_folds
    from denoise_core.corpus.store import open_corpus

    folders = [str(paths.train.parent) for paths in write_folds(open_corpus(corpus), out)]
    print(json.dumps({"folds": folders}) if as_json else "\n".join(folders))


@app.command()
def train(
    corpus: CorpusDir,
    out: OutDir,
    method: Annotated[str, typer.Option(help="mamba, or linear for a fitted filter alone.")] = "mamba",
    plan: Annotated[
        str, typer.Option(help="Named plan, or a JSON file of options over act_of_god_mini (over another by its name).")
    ] = "act_of_god_mini",
    epochs: Annotated[int | None, typer.Option(min=1, help="So many epochs at most, instead of the plan's.")] = None,
    kind: Annotated[str, typer.Option(help="Linear filter: f, g or lmmse.")] = "f",
    train_manifest: Annotated[Path | None, typer.Option(help="Default: the corpus's manifest_train.csv.")] = None,
    val_manifest: Annotated[Path | None, typer.Option(help="Default: the corpus's validation_panel.csv.")] = None,
    init_checkpoint: Annotated[Path | None, typer.Option(help="Warm start from this checkpoint.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    as_json: Json = False,
) -> None:
    """Train a model, or fit a linear filter (`--method linear`). Interrupted, the same command goes on."""
    from denoise_core.corpus.manifest import read_manifest
    from denoise_core.corpus.store import open_corpus
    from denoise_core.corpus.usable import values_told, verify_training
    from denoise_core.recipes import fitted

    if method not in ("mamba", "linear"):
        raise BadInput(f"no method {method!r}", remedy="mamba or linear")
    chosen = _plan(plan)
    if epochs is not None:
        chosen = changed(chosen, {"optimiser": {"epochs": epochs}})
    if init_checkpoint is not None and not init_checkpoint.exists():
        raise BadInput("no such checkpoint", file=init_checkpoint, remedy="check the path")
    opened = open_corpus(corpus)
    validation = read_manifest(val_manifest) if val_manifest else opened.manifest("validation_panel")
    if init_checkpoint is not None:
        from denoise_core.model.checkpoints import verify_checkpoint

        verify_checkpoint(init_checkpoint, opened.wavelength_nm)
    training = read_manifest(train_manifest) if train_manifest else opened.training_beside(validation)
    verify_training(opened, training, validation)
    if method == "linear":
        from denoise_core.model.linear import RECIPES, fit, save_linear

        if kind not in RECIPES:
            raise BadInput(f"no linear filter {kind!r}", remedy=f"one of {', '.join(RECIPES)}")
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"linear_{kind}.pt"
        print(f"{corpus}: {values_told(opened)}", file=sys.stderr)
        with console.status(f"fitting filter {kind} to {len(training.groups)} groups"):
            save_linear(path, fit(opened, training.groups, RECIPES[kind]))
        print(json.dumps({"checkpoint": str(path)}) if as_json else path)
        return
    chosen = fitted(chosen, opened.wavelength_nm.tolist(), opened.study.roi_nm)
    where = _device(device)
    _tell_estimate(chosen, opened, len(training), where)
    print(f"{corpus}: {values_told(opened)}", file=sys.stderr)
    receipt = _train_mamba(chosen, opened, training, validation, init_checkpoint, out, where)
    print(json.dumps(receipt) if as_json else receipt["checkpoint"])


def _plan(name: str) -> TrainingPlan:
    """A named plan, or the one in a JSON file."""
    from denoise_core.recipes import completed, named

    if not name.endswith(".json"):
        return named(name)
    try:
        content = json.loads(Path(name).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise BadInput("holds no options", remedy='as in {"optimiser": {"epochs": 2}}')
        return completed(content)
    except OSError as error:
        raise BadInput(f"cannot read the plan ({error.strerror})", file=name, remedy="check the path") from error
    except BadInput as error:
        raise BadInput(error.what, file=name, remedy=error.remedy) from error
    except ValueError as error:
        told = f"not JSON ({error})"
        raise BadInput(told, file=name, remedy="write it as python -m json.tool would") from error


def _tell_estimate(plan: TrainingPlan, opened: Any, rows: int, device: str) -> None:
    """How much memory and time it will take; BadInput where this machine has not enough."""
    import torch

    from denoise_core.estimate import available_memory, gigabytes, training_seconds, verify_gpu_memory, verify_memory

    needs = ""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        held = verify_gpu_memory(plan, len(opened), free, "free there are")
        needs = f", at least {gigabytes(held)} of its memory"
    if device == "cpu":
        needs = f", about {gigabytes(verify_memory(plan, len(opened), available_memory(), 'free here are'))} of memory"
    minutes = training_seconds(plan, rows, opened.wavelength_nm, device) / 60
    lasts = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    print(f"{plan.name} on {device}: up to {plan.optimiser.epochs} epochs, {lasts}{needs}", file=sys.stderr)


def _device(name: str) -> str:
    """The device to compute on; BadInput for one that this machine lacks."""
    import torch

    from study_core.device import device_for

    try:
        device = torch.device(device_for(name))
    except RuntimeError as error:
        raise BadInput(f"no device {name!r}", remedy="auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"no device {name!r}: CUDA is not to be had here", remedy="--device cpu, or auto")
    return str(device)


def _train_mamba(
    chosen: TrainingPlan, opened: Any, training: Any, validation: Any, init: Path | None, out: Path, device: str
) -> dict[str, Any]:
    from rich.progress import Progress

    from denoise_core.training import Hooks, TrainingInputs
    from denoise_core.training import train as run_training

    audit_log = below(out, chosen.files.audit_log)
    audit_log.parent.mkdir(parents=True, exist_ok=True)
    audit_log.touch()
    # what a training tells as it goes is no part of the command's result
    with contextlib.redirect_stdout(sys.stderr), Progress(console=console, disable=quiet) as bar:
        task = bar.add_task("training", total=chosen.optimiser.epochs)
        receipt = run_training(
            chosen,
            TrainingInputs(opened, training, validation, init),
            out,
            device=device,
            hooks=Hooks(progress=lambda fields: bar.update(task, completed=fields.get("epoch", 0))),
        )
    result: dict[str, Any] = receipt.to_json()
    return result


@app.command()
def denoise(
    corpus: CorpusDir,
    manifest: Annotated[Path, typer.Option(help="CSV of the spectra to denoise.")],
    checkpoint: Annotated[Path, typer.Option(help="Ours, the published format, or a linear filter.")],
    out: OutDir,
    layout: Annotated[str, typer.Option(help="files: one .npy a spectrum; packed: one array.")] = "files",
    batch_size: Annotated[int, typer.Option(min=1, help="Spectra at a time.")] = 128,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    as_json: Json = False,
) -> None:
    """Denoise every row of a manifest: OUT/<relative_path stem>_denoised.npy."""
    from denoise_core.corpus.manifest import read_manifest
    from denoise_core.corpus.stream import open_stream
    from denoise_core.inference import denoise_manifest
    from denoise_core.model.checkpoints import verify_checkpoint
    from denoise_core.model.neural import load_denoiser

    rows = read_manifest(manifest)
    model = load_denoiser(checkpoint, device=_device(device))
    opened = open_stream(corpus)
    verify_checkpoint(checkpoint, opened.wavelength_nm)
    with console.status(f"denoising {len(rows.unique())} spectra"):
        denoise_manifest(opened, rows, model, out, layout=layout, batch_size=batch_size)
    told = {"rows": len(rows), "spectra": len(rows.unique()), "out": str(out)}
    print(json.dumps(told) if as_json else f"{told['spectra']} spectra of {told['rows']} rows: {out}")


@app.command()
def evaluate(
    corpus: CorpusDir,
    panel: Annotated[Path, typer.Option(help="CSV of the fixed panel.")],
    predictions: Annotated[Path, typer.Option(help="Folder of *_denoised.npy, or NPZ (relative_path, denoised).")],
    out: OutDir,
    reference: Annotated[str, typer.Option(help="loo decides; self only reproduces the published audit.")] = "loo",
    expected_hash: Annotated[str | None, typer.Option(help="SHA-256 of the panel's rows or bytes.")] = None,
    training: Annotated[
        Path | None, typer.Option(help="Training manifest, for the leak check and the controls.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge predictions on the panel: exit 0 when every gate passes, 3 when one fails, 2 on bad input."""
    from denoise_core.corpus.manifest import expected_sha256
    from denoise_core.evaluation.panel import evaluate_predictions

    if expected_hash is not None:
        expected_hash = expected_sha256(expected_hash)
    audit, summary = evaluate_predictions(
        corpus, panel, predictions, out, reference=reference, expected_hash=expected_hash, training=training
    )
    if as_json:
        print(json.dumps(summary))
    else:
        _show(audit)
        print(out / "panel_eval_summary.json")
    if not audit.passed:
        raise typer.Exit(GATE_FAILED)


@app.command()
def replay(
    corpus: CorpusDir,
    bundle: Annotated[Path, typer.Option(help="Auditor's bundle (zip), or a run's folder.")],
    controls: Annotated[bool, typer.Option("--controls", help="Refit the control filters as well.")] = False,
    denoise: Annotated[bool, typer.Option("--denoise", help="Run the judged model again as well.")] = False,
    model: Annotated[Path | None, typer.Option(help="The judged model, where the bundle has it not.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute a verdict from its archived predictions: exit 0 and `equal`, or 1 and what differs."""
    from denoise_core.report.replay import replay as run_replay

    result = run_replay(corpus, bundle, controls=controls, denoise=denoise, model=model)
    print(json.dumps({"equal": result.equal, "lines": result.lines()}) if as_json else "\n".join(result.lines()))
    if not result.equal:
        raise typer.Exit(1)


def _show(audit: Any) -> None:
    from denoise_core.report.labels import gate_row

    table = Table(title="Readiness gates")
    for column in ("gate", "measure", "needs", "value", "verdict"):
        table.add_column(column)
    for result in audit.gates:
        table.add_row(*map(escape, gate_row(result)), "pass" if result.passed else "FAIL")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for result in audit.gates:
        if result.gate == "integrity" and not result.passed:
            print(f"{result.metric}: {result.reason}")  # what is wrong, and with which file


def main(arguments: list[str] | None = None) -> int:
    """Run a command; what went wrong is one line on standard error, with `-v` anywhere the whole trace before it."""
    return run(app, arguments, "python -m denoise_core")


if __name__ == "__main__":
    sys.exit(main())
