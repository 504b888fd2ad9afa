"""A main job of several runs: what the last one's form refuses is refused before the first one starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.utilities.callables import parameter_schema

from deployments import following
from deployments.asking import job_for, planned
from deployments.server import Address
from deployments.telling import Terminal
from flows.denoise.act_of_god import act_of_god
from flows.denoise.cross_validation import cross_validation

CREATED = "a run was created"
FORMS = {"act-of-god/warm-start": act_of_god, "cross-validation/five-fold": cross_validation}


class Server:
    """Prefect's client as far as it is asked: real forms, and no run is to be created."""

    def read_deployment_by_name(self, name: str) -> Any:
        schema = parameter_schema(FORMS[name]).model_dump_for_openapi()
        return SimpleNamespace(id=uuid4(), parameters={}, parameter_openapi_schema=schema)

    def create_flow_run_from_deployment(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError(CREATED)


@pytest.mark.parametrize(
    ("change", "named"),
    [("gates=1x", "plan.gates"), ("gates.psnr_mean_mim=1", "psnr_mean_mim"), ("training.recipe=huge", "plan.training")],
)
def test_nothing_starts_before_every_form_takes_its_plan(
    change: str, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextmanager
    def client(*_: Any, **__: Any) -> Iterator[Server]:
        yield Server()

    monkeypatch.setattr(following, "SyncPrefectClient", client)
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path))
    job = job_for("denoise", "", planned("{}", [change]))
    assert [step.deployment for step in job.steps()] == ["cross-validation/five-fold", "act-of-god/warm-start"]
    with pytest.raises(ValueError, match=f"act-of-god/warm-start: .*{named}.*the deployment's form"):
        following.main_job(job, Address("http://127.0.0.1:1/api", "key"), Terminal(), lambda: None, [])
    with pytest.raises(RuntimeError, match=CREATED):
        following.main_job(
            job_for("denoise", "", {}), Address("http://127.0.0.1:1/api", "key"), Terminal(), lambda: None, []
        )
