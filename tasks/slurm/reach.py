"""What a job's result depends on: the source that its function can reach, and the installed packages that it imports.

Read from the imports of the code itself (grimp), function-level ones included. Two jobs share a key only when all of
this is equal. A module that the function cannot reach, such as the style of a report, is no part of it: editing it
re-runs nothing. So is nothing that merely comes along on the disk.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import grimp

from tasks.slurm import files
from tasks.slurm.snapshot import SHARED, files_of, locate, source_hash


@dataclass(frozen=True)
class Reach:
    """`sources`: file by name → sha256; `distributions`: name → version."""

    sources: dict[str, str]
    distributions: dict[str, str]

    @property
    def identity(self) -> str:
        """One hash over both."""
        return hashlib.sha256(files.encode([self.sources, self.distributions])).hexdigest()


def reach(function: str) -> Reach:
    """What `package.module:function` can reach now, on this disk and in this environment.

    Raises:
        ModuleNotFoundError: no such module.
    """
    module = function.partition(":")[0]
    top = module.partition(".")[0]
    place = locate(top)
    if place.is_file():  # a single module: itself
        return Reach({place.name: source_hash(place)}, _versions(_imported(place)))
    roots = {top: place.parent, SHARED: locate(SHARED).parent}
    hashes = {relative: source_hash(path) for name in roots for relative, path in files_of(roots[name] / name)}
    names, foreign = _reached(module, top, hashlib.sha256(files.encode(hashes)).hexdigest())
    return Reach({name: hashes[name] for name in names}, _versions(foreign))


@functools.lru_cache(maxsize=64)
def _reached(module: str, top: str, _content: str) -> tuple[list[str], Set[str]]:
    """Files that a module of `top` reaches, and modules elsewhere; worked out (50 ms) once for each `_content`."""
    graph = grimp.build_graph(*sorted({top, SHARED}), include_external_packages=True, cache_dir=None)
    roots = {top: locate(top).parent, SHARED: locate(SHARED).parent}
    if module not in graph.modules:
        raise ModuleNotFoundError(f"no module {module!r} in {roots[top] / top}", name=module)
    found = {module, *graph.find_upstream_modules(module)}
    found |= {ancestor for name in set(found) for ancestor in _ancestors(name)}
    found |= {name for ancestor in set(found) & graph.modules for name in graph.find_upstream_modules(ancestor)}
    own = sorted(name for name in found if name.partition(".")[0] in roots)
    paths = [(path, roots[name.partition(".")[0]]) for name in own for path in _files_of(name, roots)]
    return [path.relative_to(base).as_posix() for path, base in paths], found - set(own)


def _ancestors(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _files_of(name: str, roots: Mapping[str, Path]) -> Iterator[Path]:
    """A module's source; for a package also the files beside it that are no Python (a kernel in C++, a template)."""
    stem = roots[name.partition(".")[0]].joinpath(*name.split("."))
    if not stem.is_dir():
        yield stem.with_suffix(".py")
        return
    yield stem / "__init__.py"
    for path in sorted(stem.iterdir()):
        if path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith("."):
            yield path


def _imported(path: Path) -> set[str]:
    """Top-level names that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _versions(imported: Set[str]) -> dict[str, str]:
    known = _distributions()
    named = {owner for name in imported - set(sys.stdlib_module_names) for owner in known.get(name, ())}
    return {name: importlib.metadata.version(name) for name in sorted(named)}


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return {name: sorted(set(owners)) for name, owners in importlib.metadata.packages_distributions().items()}
