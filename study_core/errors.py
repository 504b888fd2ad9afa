"""Errors that a user can act on: what is wrong, where, and the next step."""

from __future__ import annotations

import pickle
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

UNREADABLE = (
    OSError, ValueError, LookupError, EOFError, TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError,
    SyntaxError, tokenize.TokenError, struct.error, zlib.error, zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip
"""What a reader of arrays or archives raises on a file that is damaged or lies about itself: a header that claims an
exabyte is a MemoryError, one of nested brackets a RecursionError. Around the one call that reads, nothing else."""


class BadInput(ValueError):
    """Input that cannot be used. One line: file, row, what was found, and what to do next.

    >>> str(BadInput("value 1.7 outside [0, 1]", file="a.npy", row=3, remedy="rescale it"))
    'a.npy, row 3: value 1.7 outside [0, 1]; rescale it'
    """

    def __init__(
        self,
        what: str,
        *,
        file: str | Path | None = None,
        row: int | str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.file, self.row, self.remedy = what, file, row, remedy
        place = ", ".join(part for part in (str(file) if file else "", f"row {row}" if row is not None else "") if part)
        super().__init__((f"{place}: " if place else "") + what + (f"; {remedy}" if remedy else ""))


class TrainingInterrupted(RuntimeError):
    """Training was asked to stop; its state is on disk and the same call goes on from there."""

    job_cause = "interrupted"


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite. Carries the cause that a dispatcher's remedy table knows."""

    job_cause = "nan_loss"
