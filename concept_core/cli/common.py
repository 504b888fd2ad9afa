"""What every command shares: options and a study's places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study_core.cli import console

if TYPE_CHECKING:
    from concept_core.config import Config
    from concept_core.layout import Layout

ConfigOption = Annotated[Path, typer.Option("--config", help="The study's config.yaml.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Key of the model registry, or a model's folder. Default: the config's.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder of the study's results. Default: the config's.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N.")]
DEFAULT_CONFIG = Path("data/concept/config.yaml")


@dataclass(frozen=True)
class Study:
    """A configuration and the folder of its results."""

    config: Config
    layout: Layout

    def local(self, device: str = "auto") -> Any:
        """Its jobs, one after another in this process (`concept_core.local.Study`)."""
        from concept_core import local

        return local.Study(
            self.config.plan,
            self.layout,
            self.config.paths.model_registry,
            device,
            tell=lambda line: console.print(line),
        )


def study(config: Path, model: str | None = None, out: Path | None = None) -> Study:
    """The study of a configuration. Raises BadInput where it cannot be read."""
    from concept_core.config import read_config
    from concept_core.layout import Layout

    if not config.exists() and config == Path("config.yaml"):
        config = DEFAULT_CONFIG  # the seed's own command lines name `config.yaml`
    read = read_config(config, model=model)
    return Study(read, Layout((out or read.paths.output).absolute()))
