"""`gated replay`: a verdict recomputed from a bundle by the core that gave it. Knows files, nothing of a science."""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from study_core.bundles import bounded
from study_core.errors import UNREADABLE
from study_core.files import parse_json
from tasks import verification
from tasks.checking import Checked, Reader
from tasks.signing import Believed
from tasks.terminal import Json, existing, printable, single

VERDICT = "verdict.json"
TAKES_MORE = {"allow_extra_args": True, "ignore_unknown_options": True}  # a study's own options, known once it is open
FIRST_JUDGE = "denoise_core.report.replay:replay"  # of bundles from before a verdict named its judge
_JUDGE = re.compile(r"\w+_core(\.\w+)*:\w+")  # a bundle may come from anywhere: it names a core's function, or nothing


def replay(
    typed: typer.Context,
    bundle: Annotated[Path, typer.Option(help="Auditor's bundle (zip), or a run's folder.")],
    corpus: Annotated[
        Path | None, typer.Option(help="The data that it was judged on; none for simulated data.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The judged model, where an option asks for it and the bundle has it not.")
    ] = None,
    keys: Believed = None,
    as_json: Json = False,
) -> int:
    """Recompute a verdict from its archived predictions: exit code 0 and `equal`, or 1 and what differs.

    Log, files and signature are checked too, and thresholds that are not the study's own are named. Further options are
    those of the study's own replay, which names them where it is asked for one that it has not.
    """
    existing(bundle, "a run's own bundle lies in artifacts/FLOW/RUN/")
    verdict = _verdict(bundle)
    judge = _judge(bundle, verdict)
    if corpus is not None:
        existing(corpus, "name the folder of the data by --corpus")
    elif signature(judge).parameters["corpus"].default is Parameter.empty:
        raise ValueError(f"{bundle}: its verdict is of data that are not in it; name their folder by --corpus")
    asked = _asked(judge, typed.args, model)
    checked = verification.one(bundle, Reader.here(keys))
    result = judge(corpus, bundle, **asked)
    changed = [str(line) for line in verdict.get("changed_thresholds") or ()]
    if as_json:
        told = {"equal": result.equal, "lines": result.lines(), "findings": checked.findings}
        print(json.dumps({**told, "changed_thresholds": changed}))
    else:
        print("\n".join(map(printable, [*result.lines(), *_origin(checked, changed)])))
    return 0 if result.equal and not checked.findings else 1


def _origin(checked: Checked, changed: Sequence[str]) -> Iterator[str]:
    """What the numbers do not say: who says so, whether anything was touched, and by which thresholds."""
    head = "log, files and signature"
    yield f"{head}: {len(checked.findings)} found" if checked.findings else f"{head}: untouched"
    yield from (f"  {line}" for line in checked.findings)
    yield from (f"note: {line}" for line in checked.notes)
    yield f"CHANGED thresholds: {', '.join(changed)}" if changed else "thresholds: the study's own"


def _asked(judge: Any, typed: Sequence[str], model: Path | None) -> dict[str, Any]:
    """Further options as the judge's own keywords: its flags, and `model` where it runs one."""
    own = {name: one for name, one in signature(judge).parameters.items() if one.kind is Parameter.KEYWORD_ONLY}
    flags = {f"--{name.replace('_', '-')}": name for name, one in own.items() if one.default is False}
    for word in typed:
        if word not in flags:
            raise ValueError(f"{word}: no option of this study's replay, which takes {', '.join(flags) or 'none'}")
    if model is not None and "model" not in own:
        raise ValueError("--model: this study's replay runs no model")
    named = {} if model is None else {"model": existing(model, "name the file of the judged model")}
    return {**{flags[word]: True for word in typed}, **named}


def _judge(bundle: Path, verdict: Mapping[str, Any]) -> Any:
    """The function that the bundle's verdict names."""
    named = str(verdict.get("judge") or FIRST_JUDGE)
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
                bounded(archive, bundle)
                text = archive.read(VERDICT)
        found = parse_json(text)
    except UNREADABLE as error:
        raise ValueError(f"{bundle}: no readable {VERDICT} in it ({error}); check it: gated bundle {bundle}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{bundle}: {VERDICT} is no verdict; check it: gated bundle {bundle}")
    return found


command = single(replay, settings=TAKES_MORE)
