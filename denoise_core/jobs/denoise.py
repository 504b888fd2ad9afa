"""Denoise whole manifests through one checkpoint."""

from __future__ import annotations

from typing import Literal

from study_core.device import device_for
from study_core.job import Content, Context, Receipt, Request, Where
from study_core.paths import Name
from study_core.plan import Frozen


class Denoise(Request):
    """What is denoised by what; `layout`: one array a manifest, or one file a spectrum."""

    corpus: Content
    manifests: dict[Name, Content]
    checkpoint: Content
    layout: Literal["packed", "files"] = "packed"
    batch_size: int = 64
    device: Where[str] = "auto"


class Output(Frozen):
    """The denoised spectra of one manifest."""

    folder: Content
    spectra: int
    manifest_sha256: str


class Denoised(Receipt):
    """One output a manifest, by its name."""

    outputs: dict[str, Output]


def denoise(request: Denoise, context: Context) -> Denoised:
    """Batch by batch, so that memory does not grow with the corpus."""
    from denoise_core.corpus.manifest import read_manifest
    from denoise_core.corpus.stream import open_stream
    from denoise_core.inference import denoise_manifest
    from denoise_core.model.neural import load_denoiser

    corpus = open_stream(request.corpus.path)
    denoiser = load_denoiser(request.checkpoint.path, device=device_for(request.device))
    outputs: dict[str, Output] = {}
    for number, (name, content) in enumerate(sorted(request.manifests.items())):
        context.progress(done=number, total=len(request.manifests), stage=f"denoise {name}")
        out = context.folder / "denoised" / name
        manifest = read_manifest(content.path)
        denoise_manifest(corpus, manifest, denoiser, out, layout=request.layout, batch_size=request.batch_size)
        outputs[name] = Output(folder=Content.of(out), spectra=len(manifest), manifest_sha256=manifest.rows_sha256)
    return Denoised(outputs=outputs)
