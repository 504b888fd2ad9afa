"""Where a concept stands in the proteins of a FASTA file: shards as one array, then one table."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import orphans, outcome
from tasks.concept import inputs, show, steps
from tasks.concept.parameters import ScanPlan
from tasks.dispatch import on_cluster
from tasks.run import open_run


@flow(
    name="concept", flow_run_name=outcome.run_name("scan"), log_prints=True,
    on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw],
)  # fmt: skip
@outcome.routed
def scan(plan: ScanPlan = ScanPlan()) -> State[Any]:
    """Scan every protein of a FASTA file with the probe in production, or with a folder's; judges nothing.

    Leaves predictions.json, hits.tsv, detection_summary.json and the tracks of the best proteins in the run's folder.
    """
    where = plan.where
    run = open_run("concept-scan", plan, label=plan.label)
    wanted = inputs.scan_of(plan)
    run.event("probe", f"Scanning {wanted.proteins} proteins with {wanted.probe.path}", **wanted.facts)
    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        shards = steps.detections(cluster, wanted)
    summary = show.publish_scan(run, wanted, shards).summary
    said = f"{summary['positive']} of {summary['proteins']} proteins, {summary['hits']} hits: {run.folder / 'hits.tsv'}"
    return outcome.conclude(run, said)
