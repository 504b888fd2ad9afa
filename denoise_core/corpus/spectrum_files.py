"""Spectra as laboratories keep them: text, JCAMP-DX, SPC. Which reader takes a file; nothing is converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from denoise_core.corpus.curves import Curve, NotASpectrum, verify_curve
from denoise_core.corpus.instrument_files import read_jcamp, read_spc
from denoise_core.corpus.text_files import read_text

__all__ = ["CLUTTER", "READERS", "Curve", "NotASpectrum", "read_curves"]

CLUTTER = ("thumbs.db", "desktop.ini", "__macosx")  # and whatever begins with a point or ~$: no data of anybody's
_EXPORT = {
    **dict.fromkeys((".xls", ".xlsx", ".ods"), "a workbook: export its sheet as CSV"),
    **dict.fromkeys((".zip", ".gz", ".7z", ".tar", ".rar"), "an archive: unpack it"),
}


def read_curves(path: Path) -> list[Curve]:
    """Every spectrum of a file. NotASpectrum says why there is none."""
    kind = path.suffix.lower()
    reader = READERS.get(kind)
    if reader is None:
        known = f"{', '.join(READERS)} are read"
        raise NotASpectrum(_EXPORT.get(kind) or f"no reader for {kind or 'a file without a suffix'} ({known})")
    curves = reader(path)
    for curve in curves:
        verify_curve(curve)
    return curves


def _guarded(reader: Callable[[Path], list[Curve]], what: str) -> Callable[[Path], list[Curve]]:
    """A library's own reader: whatever it stumbles over says that the file is none of its kind."""

    def read(path: Path) -> list[Curve]:
        try:
            return reader(path)
        except NotASpectrum:
            raise
        except Exception as error:  # foreign bytes raise anything
            raise NotASpectrum(f"not a {what} file ({type(error).__name__}: {error})"[:160]) from error

    return read


READERS: dict[str, Callable[[Path], list[Curve]]] = {
    **dict.fromkeys(
        (".csv", ".tsv", ".tab", ".txt", ".dat", ".asc", ".prn", ".xy", ".dpt"), _guarded(read_text, "text")
    ),
    **dict.fromkeys((".jdx", ".dx", ".jcm"), _guarded(read_jcamp, "JCAMP-DX")),
    ".spc": _guarded(read_spc, "SPC"),
}
