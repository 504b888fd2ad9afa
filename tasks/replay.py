"""`gated replay`: a verdict recomputed from a bundle by the core that gave it. Knows files, nothing of a science."""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks.terminal import Json, existing

VERDICT = "verdict.json"
FIRST_JUDGE = "denoise_core.report.replay:replay"  # of bundles from before a verdict named its judge
_JUDGE = re.compile(r"\w+_core(\.\w+)*:\w+")  # a bundle may come from anywhere: it names a core's function, or nothing


def replay(
    bundle: Annotated[Path, typer.Option(help="Auditor's bundle (zip), or a run's folder.")],
    corpus: Annotated[Path, typer.Option(help="The data that it was judged on.")],
    controls: Annotated[bool, typer.Option("--controls", help="Refit the controls as well.")] = False,
    as_json: Json = False,
) -> int:
    """Recompute a verdict from its archived predictions: exit code 0 and `equal`, or 1 and what differs."""
    existing(bundle, "a run's own bundle lies in artifacts/FLOW/RUN/")
    existing(corpus, "name the folder of the data by --corpus")
    judge = _judge(bundle)
    result = judge(corpus, bundle, **({"controls": True} if controls else {}))
    print(json.dumps({"equal": result.equal, "lines": result.lines()}) if as_json else "\n".join(result.lines()))
    return 0 if result.equal else 1


def _judge(bundle: Path) -> Any:
    """The function that the bundle's verdict names."""
    named = str(_verdict(bundle).get("judge") or FIRST_JUDGE)
    if not _JUDGE.fullmatch(named):
        raise ValueError(
            f"{bundle}: {VERDICT} names no judge of a core ({named}); take the bundle from its run's folder"
        )
    module, _, function = named.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{bundle}: its judge {named} is not here ({error}); replay it with the code that made it"
        ) from (error)


def _verdict(bundle: Path) -> dict[str, Any]:
    try:
        if bundle.is_dir():
            text = (bundle / VERDICT).read_bytes()
        else:
            with zipfile.ZipFile(bundle) as archive:
                text = archive.read(VERDICT)
        found = json.loads(text)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{bundle}: no readable {VERDICT} in it ({error}); check it: gated bundle {bundle}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{bundle}: {VERDICT} is no verdict; check it: gated bundle {bundle}")
    return found
