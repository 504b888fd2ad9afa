"""What `gated run` was asked for: a study's main job or one deployment, its data and its plan, checked first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deployments.server import ROOT
from deployments.tenancy import Asked, Step, Tenant, tenants


@dataclass(frozen=True)
class Job:
    """A tenant, what was asked of it, and the one deployment that was named instead of its main job."""

    tenant: Tenant
    asked: Asked
    deployment: str = ""

    def steps(self) -> Iterator[Step]:
        """The runs, one after the other."""
        if self.deployment:
            yield Step(self.deployment, self.asked.plan)
        elif self.tenant.main is not None:
            yield from self.tenant.main.steps(self.asked)


def planned(plan: str, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A plan of JSON with single fields set; ValueError names what cannot be read."""
    import yaml

    try:
        made = json.loads(plan)
    except json.JSONDecodeError as error:
        raise ValueError(f'--plan: no JSON ({error}); as in --plan \'{{"label": "first"}}\'') from error
    if not isinstance(made, dict):
        raise ValueError('--plan: not an object; as in --plan \'{"label": "first"}\'')
    for change in changes:
        path, equals, value = change.partition("=")
        if not equals or not all(path.split(".")):
            raise ValueError(f"--set {change}: no FIELD=VALUE; as in --set gates.psnr_mean_min=60")
        place = made
        *sections, name = path.split(".")
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ValueError(f"--set {change}: {section} is no section of the plan; see the deployment's form")
        place[name] = yaml.safe_load(value)
    return made


def shortened(job: Job, epochs: int) -> Job:
    """A main job whose trainings end after so many epochs. ValueError where it has no such thing."""
    if job.deployment or not job.tenant.epochs:
        known = ", ".join(name for name, tenant in tenants().items() if tenant.epochs)
        raise ValueError(f"--epochs: only for the main jobs of {known}; name the field by --set FIELD=VALUE")
    plan = planned(json.dumps(job.asked.plan), [f"{job.tenant.epochs}={epochs}"])
    return replace(job, asked=replace(job.asked, plan=plan, epochs=epochs))


def job_for(what: str, corpus: str, plan: Mapping[str, Any]) -> Job:
    """What was named, its data checked; ValueError with the next step before anything is started."""
    known = tenants()
    artifacts = Path(os.environ.get("GATED_ARTIFACTS", ROOT / "artifacts"))
    if what in known:
        tenant = known[what]
        if tenant.main is None:
            raise ValueError(f"{what}: has no main job; name one of its deployments: gated run FLOW/NAME")
        _there(tenant, corpus)
        return Job(tenant, Asked(corpus or tenant.main.corpus, artifacts, ROOT, plan))
    name = what.partition("/")[2]
    owners = [tenant for tenant in known.values() if name in [one.name for one in tenant.served]]
    if not owners:
        raise ValueError(
            f"{what}: neither a study ({', '.join(known)}) nor a deployment FLOW/NAME; see gated run --help"
        )
    plan = {**({"corpus": corpus} if corpus else {}), **plan}
    _there(owners[0], str(plan.get("corpus", "")))
    made = owners[0].main.corpus if owners[0].main is not None else ""
    return Job(owners[0], Asked(corpus or made, artifacts, ROOT, plan), what)


def check(job: Job) -> str:
    """What a main job's data is taken for, in a line; ValueError where it cannot be used. Empty: it is made later."""
    main = job.tenant.main
    if main is not None and main.check is not None and not job.deployment and (ROOT / job.asked.corpus).exists():
        return main.check(job.asked)
    return ""


def _there(tenant: Tenant, corpus: str) -> None:
    """Any data but the study's own must be there."""
    own = tenant.main.corpus if tenant.main is not None else ""
    if corpus and corpus != own and not (ROOT / corpus).is_dir():
        raise ValueError(f"{ROOT / corpus}: no such corpus; CORPUS=<a folder as data/README.md describes it>")


def make_corpus(job: Job, say: Callable[[str], None]) -> None:
    """The study's own data is made where it is missing."""
    main = job.tenant.main
    if main is None or not main.make or job.asked.corpus != main.corpus or (ROOT / main.corpus).exists():
        return
    say(f"Generating {main.corpus} …")
    command = [sys.executable, *(word.format(corpus=main.corpus) for word in main.make)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
