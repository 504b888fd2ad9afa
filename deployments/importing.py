"""`gated import`: the importer of a tenant. One tenant's options are the command's own; of several, each has a name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from deployments.tenancy import tenants
from tasks.terminal import group


def _opened(where: str) -> Callable[..., object]:
    module, _, function = where.partition(":")
    found: Callable[..., object] = getattr(importlib.import_module(module), function)
    return found


def _command() -> Any:
    """The importer, or a word for each."""
    importers = {tenant.name: _opened(tenant.importer) for tenant in tenants().values() if tenant.importer}
    if not importers:
        raise ValueError("no study here has an importer; see importer in deployments/tenancy.py")
    if len(importers) == 1:
        return next(iter(importers.values()))
    return group("A study's own importer.", importers)


command = _command()
