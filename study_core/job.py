"""What travels between a flow and a job: small typed records, never tensors.

What decides a result and what only says where stand in the *types* of a request's fields:

- a plain field is part of the job's identity;
- a `Content` is part of it by its hash, its path only says where the bytes lie;
- a `Where[...]` field (a device, a folder) is no part of it: moving it renames nothing.

>>> class Count(Request):
...     minimum: int
...     table: Content
...     device: Where[str] = "auto"
>>> Count(minimum=3, table=Content(path="/a/t.csv", sha256="ab"), device="cuda").identity()
{'minimum': 3, 'table': 'ab'}
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel

from study_core.files import sha256_of
from study_core.plan import Frozen

T = TypeVar("T")


class _Where:
    """The mark of a field that says where, not what."""


Where = Annotated[T, _Where()]


class Content(Frozen):
    """Bytes on a disk that the nodes see: `sha256` names them (of a file, of a folder's tree, or a core's own hash of
    what counts in them), `path` says where they lie."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Content:
        """A file or a folder as it is now, its path made absolute."""
        return cls(path=Path(path).absolute(), sha256=sha256_of(Path(path)))

    def checked(self) -> Path:
        """The path, after its bytes were hashed again; only for contents made by `of`.

        Raises:
            BadInput: missing, or no longer what was named.
        """
        from study_core.errors import BadInput

        if not self.path.exists():
            raise BadInput("is missing", file=self.path, remedy="run with fresh=true to make it again")
        found = sha256_of(self.path)
        if found != self.sha256:
            what = f"sha256 is {found[:12]}, recorded was {self.sha256[:12]}"
            raise BadInput(what, file=self.path, remedy="run with fresh=true to make it again")
        return self.path


class Request(Frozen):
    """What a job is asked to do. Subclass it with the fields that the job needs."""

    def identity(self) -> dict[str, Any]:
        """The fields that decide the result, JSON-ready; contents by hash, places left out."""
        decisive = _decisive(self)
        assert isinstance(decisive, dict)
        return decisive

    def inputs(self) -> dict[str, str]:
        """Hash of every content by the dotted name of its field."""
        return {name: content.sha256 for name, content in contents(self)}


class Receipt(Frozen):
    """What a job delivers: figures, and contents that must still be there, unchanged, when it is used again."""

    def files(self) -> dict[str, str]:
        """Path → sha256 of every content."""
        return {str(content.path): content.sha256 for _, content in contents(self)}


R = TypeVar("R", bound=Receipt)


class Context(Protocol):
    """What a job may use of the place it runs in; nothing here knows who provides it."""

    @property
    def folder(self) -> Path:
        """The job's own folder; it persists over attempts."""

    @property
    def adjustments(self) -> Mapping[str, Any]:
        """What remedies changed: `batch_halvings`, `lr_factor`, `grad_clip` …; empty at first."""

    def should_stop(self) -> bool:
        """Whether the job was asked to save its state and end."""

    def progress(self, **fields: Any) -> None:
        """Tell how far it is: `done` of `total`, or `epoch` of `epochs`, `stage`, and figures."""


def contents(value: object, name: str = "") -> Iterator[tuple[str, Content]]:
    """Every content inside a record, with the dotted name of its field."""
    if isinstance(value, Content):
        yield name, value
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from contents(getattr(value, field), f"{name}.{field}" if name else field)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from contents(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from contents(inner, f"{name}.{number}")


def _decisive(value: object) -> object:
    if isinstance(value, Content):
        return value.sha256
    if isinstance(value, BaseModel):
        return {
            name: _decisive(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if not any(isinstance(mark, _Where) for mark in field.metadata)
        }
    if isinstance(value, Mapping):
        return {str(key): _decisive(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_decisive(inner) for inner in value]
    if isinstance(value, Path):
        raise TypeError(
            f"{value}: a bare path in a request; say Content (its bytes decide) or Where[Path] (they do not)"
        )
    return value


Job = Callable[[Any, Context], Receipt]


def request_type(function: Callable[..., Any]) -> type[Request] | None:
    """The request that a job function takes, None for one that takes a dictionary."""
    kinds = [kind for name, kind in typing.get_type_hints(function).items() if name != "return"]
    first = kinds[0] if kinds else None
    return first if isinstance(first, type) and issubclass(first, Request) else None


def receipt_type(function: Callable[..., Any]) -> type[Receipt]:
    """The receipt that a job function returns. Raises TypeError where it says none."""
    kind = typing.get_type_hints(function).get("return")
    if not (isinstance(kind, type) and issubclass(kind, Receipt)):
        raise TypeError(f"{function.__module__}:{function.__qualname__} does not say which Receipt it returns")
    return kind


def perform(function: Callable[..., Any], call: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """On the node: JSON in, the typed call, JSON out with the receipt's `files`."""
    kind = request_type(function)
    if kind is None:
        raw: dict[str, Any] = function(dict(call), context)
        return raw
    receipt = function(kind.model_validate(call["request"]), context)
    return {**receipt.model_dump(mode="json"), "files": receipt.files()}


def received(kind: type[R], result: Mapping[str, Any]) -> R:
    """In the flow: a job's result as its receipt."""
    return kind.model_validate({name: value for name, value in result.items() if name != "files"})
