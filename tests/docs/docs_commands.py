"""The commands that the guide tells people to type, and which test runs each of them.

Commands are the lines of README.md's and docs/*.md's code blocks without a language (or with a shell's), and spans of
inline code that begin with a program and say more than its name.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")))
PROGRAMS = re.compile(
    "make|prefect|gated|python3?|pip|git|cp|mv|rm|ln|mkdir|source|export|cd|createdb|psql|sbatch|srun|squeue|sinfo|scancel|"
    "sacct|scontrol|ssh|curl|apt-get|sudo|pytest|ruff|mypy"
)


class Elsewhere(NamedTuple):
    """Who runs a command that takes minutes or a cluster: a file, and what stands in it."""

    file: str
    text: str


# By hand: seconds each, run in document order in a copy of the project.
BY_HAND = (
    r"make help",
    r"\.venv/bin/python -m denoise_core (corpus|folds|train|denoise|evaluate) .*",
    r"cp slurm_templates/example\.yaml .*",
    r"\.venv/bin/gated (dry-run .*|try --help)",
    r"\.venv/bin/gated --help",
)
# With a house: `make up` in a copy of the project, and what is typed while it is up.
IN_A_HOUSE = (
    r"make up",
    r"createdb prefect",
    r"export PREFECT_SERVER_DATABASE_CONNECTION_URL=.*",
    r"source \.prefect/env\.sh",
    r"\.venv/bin/prefect deployment run .*",
    r"\.venv/bin/gated (runs|compare|replay|bundle|history|rollback|jobs|cancel|sweep|prune|webhook).*",
    r"make verify",
)
ELSEWHERE = {
    r"make run": Elsewhere(".ci/run", '"make run"'),
    r"\.venv/bin/gated run": Elsewhere("Makefile", "$(bin)/gated run --corpus"),
    r"make run CORPUS=\S+": Elsewhere("tests/flows/test_flow_run.py", '"run", "act-of-god/warm-start", *corpus'),
    r"make up CORPUS=\S+": Elsewhere("tests/flows/flow_lab.py", '"tasks.cli", "up", "--corpus", str(corpus)'),
    r"make test": Elsewhere(".ci/run", '"make test"'),
    r"make test-real": Elsewhere(".ci/run", "make test-real ||"),
    r"make test-slow": Elsewhere(".ci/run", '"make test-slow ONLY=tests/denoise_core"'),
    r"make ptycho": Elsewhere(".ci/run", '"make ptycho"'),
    r"make concept": Elsewhere(".ci/run", '"make concept"'),
    r"make slurm-up": Elsewhere("tests/flows/test_flow_slurm.py", 'SCRIPTS / "slurm-up.sh"'),
    r"make slurm-down": Elsewhere("tests/flows/test_flow_slurm.py", '[str(SCRIPTS / "slurm-down.sh"), "--wipe"]'),
    r"source /tmp/slurm-\$\(id -u\)/env\.sh": Elsewhere("slurm_templates/lab/slurm-up.sh", 'HOME_DIR/env.sh"'),
    r"sbatch slurm_templates/worker\.sbatch": Elsewhere("tests/tasks/slurm/test_slurm_real.py", '"worker.sbatch"'),
    # typed in their order into a house with one run
    r"\.venv/bin/gated (key|verify|export) .*": Elsewhere("tests/docs/test_docs_verdicts.py", 'docs" / "verdicts.md'),
    r"python3 -(m zipfile -e|c) .*": Elsewhere("tests/docs/test_docs_verdicts.py", 'docs" / "verdicts.md'),
    r"openssl pkeyutl .*": Elsewhere("tests/docs/test_docs_verdicts.py", 'docs" / "verdicts.md'),
    # needs nvcc and a GPU: only the name of the extra is held here
    r"\.venv/bin/pip install --no-build-isolation -e '\.\[gpu\]'": Elsewhere("pyproject.toml", "\ngpu = ["),
}


def commands(text: str) -> list[str]:
    """Every command of a Markdown text, in order: no comment, no line continuation, each once."""
    found: list[str] = []
    for number, part in enumerate(re.split(r"^```(.*)$", text, flags=re.MULTILINE)):
        kind = number % 4  # text, an opening fence's language, a block, a closing fence
        if kind == 1:
            language = part.strip()
        elif kind == 2 and language in ("", "sh", "bash", "shell", "console"):
            lines = re.sub(r"\s*\\\n\s*", " ", part).splitlines()
            found += [re.sub(r"(^|\s+)#\s.*$", "", line).strip() for line in lines]
        elif kind == 0:
            found += [span for span in re.findall(r"`([^`\n]+)`", part) if _is_command(span)]
    return list(dict.fromkeys(command for command in found if command))


def _is_command(span: str) -> bool:
    words = [word for word in span.split() if not re.match(r"[A-Z_]+=", word)]
    if not words or span.startswith("-"):
        return False
    program = bool(PROGRAMS.fullmatch(words[0]) or shutil.which(words[0]))
    return words[0].startswith((".venv/bin/", "./")) or (program and (len(words) > 1 or len(words) < len(span.split())))


def guide() -> list[str]:
    """Every command of the guide."""
    return list(dict.fromkeys(command for page in PAGES for command in commands(page.read_text(encoding="utf-8"))))


def runners(command: str) -> list[str]:
    """Names of the runners that take a command: one for each command of the guide, else it is untested."""
    tables = {"by hand": BY_HAND, "in a house": IN_A_HOUSE, "elsewhere": ELSEWHERE}
    return [name for name, table in tables.items() for pattern in table if re.fullmatch(pattern, command)]


def of(runner: str) -> list[str]:
    """The guide's commands of one runner, in order."""
    return [command for command in guide() if runners(command) == [runner]]


def copy_of_the_project(folder: Path) -> Path:
    """What a clone holds, uncommitted work included; the virtual environment is the one that runs this test."""
    left_out = shutil.ignore_patterns(
        ".git", ".venv", ".prefect", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".benchmarks", "build"
    )

    def ignore(path: str, names: list[str]) -> set[str]:
        generated = Path(path) in (ROOT / "data", ROOT / "artifacts")
        return set(left_out(path, names)) | ({name for name in names if name != "README.md"} if generated else set())

    copy = Path(shutil.copytree(ROOT, folder / "the project", ignore=ignore))
    environment = copy / ".venv"
    environment.mkdir()
    for part in (ROOT / ".venv").iterdir():
        if part.name != ".ready":
            (environment / part.name).symlink_to(part)
    (environment / ".ready").touch()  # newer than the lock file: make has nothing to install
    return copy
