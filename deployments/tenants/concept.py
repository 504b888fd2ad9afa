"""Protein concepts: two deployments; the main job asks the house model for its zinc fingers."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.tenancy import Asked, MainJob, Served, Step, Tenant


def steps(asked: Asked) -> Iterator[Step]:
    """One study; its rows are named by its own file."""
    yield Step("concept/probe", dict(asked.plan))


TENANT = Tenant(
    name="concept",
    served=(Served("flows.concept.probe:probe", "probe"), Served("flows.concept.scan:scan", "scan")),
    main=MainJob(steps, corpus=""),
    files=("report.html", "auditors_bundle.zip", "candidate", "hits.tsv", "audit.jsonl"),
)
