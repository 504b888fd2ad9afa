"""The guide's commands that need a house, typed as they stand there; on PostgreSQL where it is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docs_commands import copy_of_the_project, of
from docs_house import House, house, postgres_programs

pytestmark = pytest.mark.prefect

# What came of a command: the part that tells it, and what it says by its exit code.
OUTCOMES: dict[str, dict[int, str]] = {
    "cross-validation/five-fold": {0: "Completed"},
    "act-of-god/warm-start --watch -p": {1: "GateFailed"},
    "act-of-god/warm-start --watch": {0: "Completed"},
    "panel-qa/audit": {0: "Completed", 1: "GateFailed"},  # a fold of two epochs: either verdict is one
    "denoise/manifest": {0: "Completed"},
    "gated runs": {0: "GateFailed"},
    "gated compare": {0: "page: "},
    "gated history": {0: "in production"},
    "gated rollback": {2: "replaced nothing"},  # one model was shipped; the way back is in test_promotion.py
    "make verify": {0: "untouched"},
    "gated bundle": {0: "untouched"},
    "gated replay": {0: "equal: "},
    "gated jobs": {0: "slurm_id"},
    "gated cancel": {0: "cancelled"},
    "gated sweep": {0: "cancelled"},
    "gated prune": {0: "removed 0 folders"},
    "gated webhook": {0: "gate failed"},
}
BEFORE = ("make up", "createdb", "export ", "source ")  # typed to bring the house up
TYPED = [command for command in of("in a house") if not command.startswith(BEFORE)]
SHORT = {"changes": {"optimiser": {"epochs": 2}}}  # as in the guide's own shorter training: the second run reuses it


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house into which every command was typed in the guide's order, but the campaign first: runs start from it."""
    with house(copy_of_the_project(tmp_path_factory.mktemp("guide"))) as running:
        running.make_small("act-of-god/warm-start", {"training": SHORT})
        for command in sorted(TYPED, key=lambda command: "five-fold" not in command):
            running.type(command)
            running.cancel_what_runs()  # the Act B of a refused run
        yield running


@pytest.mark.parametrize("command", TYPED)
def test_commands_in_a_house(command: str, up: House) -> None:
    says = next(says for part, says in OUTCOMES.items() if part in command)
    done = up.typed[command]
    told = done.stdout + done.stderr
    assert done.returncode in says, told
    assert says[done.returncode] in told
    assert "Traceback" not in told


def test_make_up_prints_the_line_to_type_next(up: House) -> None:
    (line,) = [command for command in of("in a house") if command.startswith("source ")]
    assert line in up.printed


@pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed (apt-get install postgresql)")
def test_the_runs_are_in_postgresql_and_nowhere_else(up: House) -> None:
    assert up.database
    ended = up.database.query("select distinct state_name from flow_run where state_type <> 'CANCELLED'")
    assert {"Completed", "GateFailed"} <= set(ended)
    assert int(up.database.query("select count(*) from log")[0]) > 0
    assert not list(up.copy.glob(".prefect/*.db"))
    assert "Traceback" not in (up.copy / ".prefect" / "server.log").read_text()
