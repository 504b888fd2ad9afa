"""Which code and which packages a run had: what its audit log says about them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from study_core.files import sha256_of
from study_core.revision import git_hash

ROOT = Path(__file__).resolve().parent.parent
FLOW = "flow.py"  # in a run's folder: the source of the flow that opened it
_RECORDED_PACKAGES = ("prefect", "submitit", "torch", "numpy", "scipy", "pandas", "pydantic")


def artifacts_root() -> Path:
    """Everything a run leaves lands below this folder (`GATED_ARTIFACTS`, default `artifacts/`)."""
    return Path(os.environ.get("GATED_ARTIFACTS", ROOT / "artifacts")).resolve()


def provenance() -> dict[str, Any]:
    """Code, lock file, interpreter and package versions of this process."""
    return {
        "git_hash": git_hash(ROOT),
        "code_sha256": code_sha256(),
        "lock_sha256": sha256_of(lock) if (lock := ROOT / "requirements.lock").exists() else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
    }


def code_sha256() -> str:
    """Hash over every source file of the packages, path by path: what the code *is*, committed or not."""
    digest = hashlib.sha256()
    for package in sorted(path.parent for path in ROOT.glob("*/__init__.py") if _ours(path.parent.name)):
        for path in sorted(package.rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _ours(package: str) -> bool:
    """The house, and every core that there is."""
    return package in ("deployments", "flows", "tasks") or package.endswith("_core")
