"""A protein concept in a language model: embed → CAVs and controls → gates → ship the CAV, or say what it lost to."""

from dataclasses import replace
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from concept_core.layout import Layout
from concept_core.prepare import expected_on_cpu, windows_in_words
from study_core.job import Content
from tasks import blessings, channels, comparison, orphans, outcome
from tasks.concept import inputs, show, steps
from tasks.concept.parameters import ProbePlan
from tasks.dispatch import on_cluster
from tasks.run import open_run


@flow(
    name="concept", flow_run_name=outcome.run_name("probe"), log_prints=True,
    on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw],
)  # fmt: skip
@outcome.routed
def probe(plan: ProbePlan = ProbePlan()) -> State[Any]:
    """Ask whether a protein language model knows a concept, and ship the direction that says so.

    Windows, embeddings of the model and of its untrained and concept-free twins as one array, a CAV a layer and control
    as arrays, whole proteins, then gates 0 to 7. *Completes* when every gate passes and the CAV's folder shipped;
    *fails* as `GateFailed`, naming the stratum or control that it lost to. Running it again with the same plan embeds
    and trains nothing twice.
    """
    where = plan.where
    run = open_run("concept-probe", plan, label=plan.label)
    study = inputs.study_of(plan)
    run = replace(run, tenant=study.registry)
    layout = Layout(run.folder)
    facts = inputs.windows(study, layout)
    run = channels.settled(run, inputs.line_of(study, facts))
    slow = expected_on_cpu([one.name for one in study.networks], layout.windows)
    on_cpu = f"; without a GPU {slow}" if slow else ""
    run.event("windows", f"{windows_in_words(facts['windows']).capitalize()}{on_cpu}", **facts)
    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        found = steps.measure(cluster, study, Content.of(layout.windows), facts["dropped_share"])
    now = blessings.production(run.registry, run.channel)
    incumbent = now.verdict if now else None
    verdict = show.publish(run, study, found, incumbent)
    if not comparison.own_gates_passed(verdict):
        return outcome.refused(run, verdict)
    return outcome.ship(run, verdict, incumbent, plan.production, plan.approval)
