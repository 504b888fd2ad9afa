"""What the forms of the web page are made of: every field titled and helped, and a choice where it is one."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deployments.tenancy import served
from tasks.slurm.profiles import profile_names


def fields(plan: type[BaseModel], inside: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in plan.model_fields.items():
        yield f"{inside}{name}", field
        if _is_section(field):
            yield from fields(field.annotation, f"{inside}{name}.")


def plan_of(flow: str) -> type[BaseModel]:
    module, _, name = flow.partition(":")
    found: type[BaseModel] = typing.get_type_hints(getattr(importlib.import_module(module), name).fn)["plan"]
    return found


@pytest.mark.parametrize("flow", [one.flow for _, one in served()])
def test_every_field_has_a_title_and_a_help(flow: str) -> None:
    known = list(fields(plan_of(flow)))
    assert len(known) > 5
    assert [name for name, field in known if not field.title or not field.description] == []
    assert [field.title for _, field in known if "_" in str(field.title)] == [], "words, no Python names"


@pytest.mark.parametrize("flow", [one.flow for _, one in served()])
def test_the_long_tail_stands_last(flow: str) -> None:
    """Prefect's forms fold nothing away: a section of many fields comes after everything that a person may fill in."""
    sections = [field.annotation for field in plan_of(flow).model_fields.values() if _is_section(field)]
    sizes = [len(list(fields(section))) for section in sections]  # type: ignore[arg-type]
    assert all(size < 12 for size in sizes[:-1]), sizes


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


@pytest.mark.parametrize("flow", [one.flow for _, one in served()])
def test_where_it_runs_is_chosen_not_typed(flow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATED_PROFILE", "elsewhere")
    where = plan_of(flow).model_json_schema()["$defs"]["Where"]["properties"]
    assert where["profile"]["enum"] == sorted([*profile_names(), "elsewhere"])
    assert where["device"]["enum"][:3] == ["auto", "cpu", "cuda"]


@pytest.mark.parametrize(("profile", "size"), [("local", "mini"), ("slurm-dev", "mini"), ("a100", "full")])
def test_a_form_says_which_recipe_will_run(profile: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATED_PROFILE", profile)
    schema = plan_of("flows.denoise.act_of_god:act_of_god").model_json_schema()
    told = schema["$defs"]["Training"]["properties"]["recipe"]["description"]
    assert f"With profile {profile}: the {size} size" in told
