"""Denoise a whole manifest (the 8,100, or the 9,000 of staging) through one checkpoint."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.parameters import DenoisePlan
from tasks import audit, denoise, orphans, outcome
from tasks import denoise_jobs as jobs
from tasks.dispatch import job, on_cluster


@flow(
    name="denoise", flow_run_name=outcome.run_name("manifest"), log_prints=True,
    on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw],
)  # fmt: skip
@outcome.routed
def denoise_manifest(plan: DenoisePlan) -> State[Any]:
    """Write the denoised spectra of every row of a manifest; the default model is the one in production."""
    where = plan.where
    run = audit.open_run("denoise", plan, label=plan.label)
    corpus, manifest = denoise.manifest_named(plan.corpus, plan.manifest)
    checkpoint = denoise.model_or_production(plan.checkpoint)
    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        spec = jobs.denoise_spec(
            plan.manifest, corpus, {"spectra": manifest}, checkpoint,
            layout=plan.layout, batch_size=plan.batch_size, device=where.device,
        )  # fmt: skip
        receipt = job(cluster, *cluster.send([spec]))
    output = receipt["outputs"]["spectra"]
    audit.publish_table(run, "outputs", [{"manifest": plan.manifest, **output}])
    return outcome.conclude(run, f"Denoised {output['spectra']} spectra: {output['folder']}")
