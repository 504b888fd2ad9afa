"""Spectra in instruments' own formats, by well-kept readers: JCAMP-DX and SPC, files of several spectra included."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from denoise_core.corpus.curves import Curve, NotASpectrum
from denoise_core.corpus.text_files import text_of
from denoise_core.corpus.units import axis_of, values_of

_NOTHING = ("", "xarb", "yarb", "arbitrary units", "a.u.")
_PAIR_OF_COMMAS = re.compile(r"\s*-?\d+(,\d+)?\s*[;\s]\s*-?\d+,\d+\s*$")


def read_jcamp(path: Path) -> list[Curve]:
    """Every block of a JCAMP-DX file that holds a spectrum, whether a LINK block joins them or not."""
    blocks = re.split(r"(?im)^(?=\s*##\s*TITLE\s*=)", text_of(path))
    found = [content for block in blocks if (content := _block(block)) is not None]
    if not found:
        raise NotASpectrum("JCAMP-DX without XYDATA or XYPOINTS")
    return [_curve(content, len(found) > 1) for content in found]


def _block(text: str) -> dict[str, Any] | None:
    """One block as the reader gives it; None for one that only joins others, or for what stands before the first."""
    import jcamp

    if re.search(r"(?im)^##\s*DATA\s*TYPE\s*=\s*LINK", text) or not re.search(r"(?im)^##\s*[^=\s]", text):
        return None
    if re.search(r"(?im)^##\s*(NTUPLES|DATA\s*TABLE)\s*=", text):
        raise NotASpectrum("JCAMP-DX of NTUPLES: export each spectrum as XYDATA or XYPOINTS")
    lines = text.splitlines(keepends=True)
    data = [line for line in lines if line.strip() and not line.lstrip().startswith(("##", "$$"))]
    if data and all(_PAIR_OF_COMMAS.match(line) for line in data):  # decimal commas, which the format does not have
        lines = [line if line.startswith("##") else line.replace(",", ".") for line in lines]
    told = io.StringIO()
    with contextlib.redirect_stdout(told):  # the reader prints what its checks find
        content: dict[str, Any] = jcamp.read(lines)
    if complaint := told.getvalue().strip():
        raise NotASpectrum(f"JCAMP-DX: {complaint.splitlines()[0]}")
    if "x" not in content or not len(content["x"]):
        raise NotASpectrum("JCAMP-DX without XYDATA or XYPOINTS")
    return content


def _curve(content: dict[str, Any], of_several: bool) -> Curve:
    wanted = content.get("npoints")
    if wanted and int(wanted) != len(content["y"]):
        raise NotASpectrum(f"JCAMP-DX: NPOINTS is {wanted}, {len(content['y'])} values stand there")
    return Curve(
        np.asarray(content["x"], float),
        np.asarray(content["y"], float),
        title=str(content.get("title", "")) if of_several else "",
        declared_x=_declared(axis_of, str(content.get("xunits", ""))),
        declared_y=_declared(values_of, str(content.get("yunits", ""))),
    )


def read_spc(path: Path) -> list[Curve]:
    """Every trace of an SPC file."""
    from spc_io import SPC

    logging.getLogger("spc_io").setLevel(logging.CRITICAL)  # a line a file that has no date
    with open(path, "rb") as handle:
        content = SPC.from_bytes_io(handle)
    axis, values = _declared(axis_of, content.xtype), _declared(values_of, content.ytype)
    return [
        Curve(np.asarray(one.xarray, float), np.asarray(one.yarray, float), declared_x=axis, declared_y=values)
        for one in content
    ]


def _declared(known: Any, word: str) -> str:
    """What a file's own word means here; the word itself where it means nothing known."""
    word = word.strip().lower()
    return "" if word in _NOTHING else known(word) or word
