"""Denoise a whole manifest (the 8,100, or the 9,000 of staging) through one checkpoint."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import artifacts, orphans, outcome
from tasks.denoise import inputs, steps
from tasks.denoise.parameters import DenoisePlan
from tasks.dispatch import on_cluster
from tasks.run import open_run


@flow(
    name="denoise", flow_run_name=outcome.run_name("manifest"), log_prints=True,
    on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw],
)  # fmt: skip
@outcome.routed
def denoise_manifest(plan: DenoisePlan) -> State[Any]:
    """Write the denoised spectra of every row of a manifest; the default model is the one in production."""
    where = plan.where
    run = open_run("denoise", plan, label=plan.label)
    corpus, manifest = inputs.manifest_named(plan.corpus, plan.manifest)
    checkpoint = inputs.model_or_production(plan.checkpoint, plan.channel, corpus)
    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        asked = steps.denoising(
            plan.manifest, corpus, {"spectra": manifest}, checkpoint,
            layout=plan.layout, batch_size=plan.batch_size, device=where.device,
        )  # fmt: skip
        output = cluster.run_one(asked).outputs["spectra"]
    row = {"manifest": plan.manifest, "folder": str(output.folder.path), "sha256": output.folder.sha256}
    artifacts.publish_table(run, "outputs", [{**row, "spectra": output.spectra, "rows": output.manifest_sha256}])
    return outcome.conclude(run, f"Denoised {output.spectra} spectra: {output.folder.path}")
