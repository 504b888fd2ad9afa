"""Conditions over the toy's job and this machine's own executor: what is sent when, and what one loss costs."""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from study_core.errors import BadInput
from study_core.job import Content
from tasks import dispatch
from tasks.conditions import Condition, Skipped, ended, receipts
from tasks.dispatch import Ask, Cluster, JobLost
from tasks.run import Run
from tasks.slurm.dispatcher import Job
from tasks.slurm.profiles import load_profile

TOY = Path(__file__).resolve().parents[1] / "toy"


class Threads(Cluster):
    """Jobs are waited for in threads of this process, without a server to show them."""

    def begin(self, sent: Job) -> Any:
        return ThreadPoolExecutor(1).submit(self._wait, sent)

    def _wait(self, sent: Job) -> dict[str, Any]:
        (outcome,) = self.dispatcher().wait([sent])
        return dispatch._conclude(self, outcome)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.syspath_prepend(str(TOY))
    profile = load_profile("local")
    stage = profile.stages["denoise/evaluate"]
    run = Run("toy", "a run", "1234", tmp_path / "artifacts" / "toy" / "a-run-1234")
    return Threads(run, profile.model_copy(update={"stages": {**profile.stages, "toy/count": stage}}))


def ask(text: Content, name: str) -> Ask[Any]:
    counting = importlib.import_module("toy_core.jobs.count")
    return Ask(counting.count, counting.Count(text=text), name, "count")


def text(folder: Path, name: str, *, spoilt: bool = False) -> Content:
    path = folder / f"{name}.txt"
    path.write_text(f"words of {name}")
    return Content(path=path, sha256="0" * 64) if spoilt else Content.of(path)


def counts(one: Condition[Any]) -> Content:
    return Content.of(one.receipt.model.path / "counts.json")


def sent(cluster: Cluster) -> list[tuple[str, str]]:
    """Name and submission of every job, in the order in which they were sent."""
    journal = cluster.dispatcher().journal
    entries = [journal.read(job.key) for job in cluster.sent]
    return [(entry.spec["name"], entry.attempt.token) for entry in entries if entry is not None]


def test_a_follow_up_is_sent_as_its_own_input_ends_and_one_loss_costs_those_that_need_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    def unwanted(done: Any) -> None:
        raise BadInput("nobody wants this", file=done.model.path)

    a, lost = Condition(ask(text(tmp_path, "a"), "a")), Condition(ask(text(tmp_path, "b", spoilt=True), "b"))
    spurned = Condition(ask(text(tmp_path, "c"), "c"), keep=unwanted)
    unasked = Condition(ask(text(tmp_path, "d"), "d"), error=Skipped("nobody asks for it"))
    after_a = Condition(lambda: ask(counts(a), "after-a"), "a's", needs=[a], inside=a)
    others = [Condition(lambda one=one: ask(counts(one), "x"), f"{one.name}'s", needs=[one]) for one in (lost, spurned)]
    last = Condition(lambda: ask(text(tmp_path, "e"), "last"), after=[a, lost, spurned, unasked])
    skipped = Condition(lambda: ask(counts(unasked), "x"), "d's", needs=[unasked])
    every = [skipped, last, after_a, *others, a, lost, spurned, unasked]

    ends = list(ended(cluster, every))
    assert sorted(one.name for one in ends) == ["a", "after-a", "b", "b's", "c", "c's", "d", "d's", "last"]
    assert {one.name: one.state for one in every} == {
        "a": "done", "after-a": "done", "last": "done", "b": "lost", "c": "lost", "d": "skipped", "b's": "skipped",
        "c's": "skipped", "d's": "skipped",
    }  # fmt: skip
    assert isinstance(lost.error, JobLost)
    assert "b.txt" in lost.reason
    assert spurned.reason.endswith("nobody wants this")
    assert [one.reason for one in (*others, skipped)] == [
        "it needs b, which was lost", "it needs c, which was lost", "it needs d, which was skipped",
    ]  # fmt: skip
    order = [one.name for one in ends]
    assert order.index("d's") > order.index("d")
    assert order.index("last") > max(order.index(name) for name in "abcd")
    placed = sent(cluster)
    assert sorted(name for name, _ in placed) == ["a", "after-a", "b", "c", "last"]
    assert len({token for name, token in placed if name in "abc"}) == 1, "what is ready together is one array"
    told = [record for record in cluster.run.log.records() if record["kind"] in ("skip", "lost")]
    assert len(told) == 6
    assert "d skipped: nobody asks for it" in [record["text"] for record in told]
    with pytest.raises(JobLost, match="b"):
        receipts([skipped, a, lost])
    assert receipts([a, after_a]) == (a.found, after_a.found)


def test_what_the_caller_does_with_one_is_done_before_its_follow_up_is_asked(cluster: Cluster, tmp_path: Path) -> None:
    """Also for one that never was a job."""
    told: list[str] = []

    def follow_up() -> Ask[Any]:
        assert told == ["first"]
        return ask(text(tmp_path, "b"), "second")

    first = Condition(ask(text(tmp_path, "a"), "first"), error=Skipped("not today"))
    for one in ended(cluster, [Condition(follow_up, after=[first]), first]):
        told.append(one.name)
    assert told == ["first", "second"]


def test_waiting_for_a_stranger_or_for_oneself_is_an_error_not_a_hang(cluster: Cluster, tmp_path: Path) -> None:
    stranger = Condition(ask(text(tmp_path, "a"), "a"))
    with pytest.raises(ValueError, match="never ends: b"):
        list(ended(cluster, [Condition(ask(text(tmp_path, "b"), "b"), needs=[stranger])]))


def test_a_bug_stays_loud(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        list(ended(cluster, [Condition(ask(text(tmp_path, "a"), "a"), keep=lambda done: done.model())]))
