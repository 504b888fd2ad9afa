"""Golden corpus of what Slurm prints, and the tables that read it."""

from __future__ import annotations

import pytest

from tasks.slurm import remedies
from tasks.slurm.states import (
    STATES,
    Verdict,
    expand_ids,
    meaning,
    parse_duration,
    parse_size,
    read_history,
    read_queue,
    state_name,
)

# every job state and state flag of squeue(1) and sacct(1), 22.05 to 24.11, and the forms they are printed in
GOLDEN = [
    ("PENDING", "PENDING", Verdict.WAITING, ""),
    ("CONFIGURING", "CONFIGURING", Verdict.WAITING, ""),
    ("REQUEUED", "REQUEUED", Verdict.WAITING, ""),
    ("REQUEUE_FED", "REQUEUE_FED", Verdict.WAITING, ""),
    ("REQUEUE_HOLD", "REQUEUE_HOLD", Verdict.WAITING, ""),
    ("RESV_DEL_HOLD", "RESV_DEL_HOLD", Verdict.WAITING, ""),
    ("SPECIAL_EXIT", "SPECIAL_EXIT", Verdict.WAITING, ""),
    ("POWER_UP_NODE", "POWER_UP_NODE", Verdict.WAITING, ""),
    ("RUNNING", "RUNNING", Verdict.RUNNING, ""),
    ("COMPLETING", "COMPLETING", Verdict.RUNNING, ""),
    ("SUSPENDED", "SUSPENDED", Verdict.RUNNING, ""),
    ("STOPPED", "STOPPED", Verdict.RUNNING, ""),
    ("RESIZING", "RESIZING", Verdict.RUNNING, ""),
    ("SIGNALING", "SIGNALING", Verdict.RUNNING, ""),
    ("STAGE_OUT", "STAGE_OUT", Verdict.RUNNING, ""),
    ("UPDATE_DB", "UPDATE_DB", Verdict.RUNNING, ""),
    ("EXPEDITING", "EXPEDITING", Verdict.RUNNING, ""),
    ("NODE_FAIL", "NODE_FAIL", Verdict.SETTLING, "node_fail"),
    ("BOOT_FAIL", "BOOT_FAIL", Verdict.SETTLING, "node_fail"),
    ("RECONFIG_FAIL", "RECONFIG_FAIL", Verdict.SETTLING, "node_fail"),
    ("PREEMPTED", "PREEMPTED", Verdict.SETTLING, "preempted"),
    ("LAUNCH_FAILED", "LAUNCH_FAILED", Verdict.SETTLING, "launch_failed"),
    ("COMPLETED", "COMPLETED", Verdict.ENDED, "lost_result"),
    ("FAILED", "FAILED", Verdict.ENDED, "killed"),
    ("TIMEOUT", "TIMEOUT", Verdict.ENDED, "overran"),
    ("OUT_OF_MEMORY", "OUT_OF_MEMORY", Verdict.ENDED, "oom"),
    ("OUT_OF_ME+", "OUT_OF_MEMORY", Verdict.ENDED, "oom"),
    ("CANCELLED", "CANCELLED", Verdict.ENDED, "cancelled"),
    ("CANCELLED by 1000", "CANCELLED", Verdict.ENDED, "cancelled"),
    ("CANCELLED by 0", "CANCELLED", Verdict.ENDED, "cancelled"),
    ("CANCELLED+", "CANCELLED", Verdict.ENDED, "cancelled"),
    ("DEADLINE", "DEADLINE", Verdict.ENDED, "deadline"),
    ("REVOKED", "REVOKED", Verdict.RUNNING, ""),
    ("", "", Verdict.UNKNOWN, ""),
    ("UNKNOWN", "UNKNOWN", Verdict.UNKNOWN, ""),
    ("A_STATE_OF_SLURM_30", "A_STATE_OF_SLURM_30", Verdict.UNKNOWN, ""),
    ("RE+", "RE+", Verdict.UNKNOWN, ""),  # could be five states: wait
]


@pytest.mark.parametrize(("printed", "name", "verdict", "cause"), GOLDEN)
def test_state(printed: str, name: str, verdict: Verdict, cause: str) -> None:
    assert state_name(printed) == name
    assert (meaning(printed).verdict, meaning(printed).cause) == (verdict, cause)


def test_the_corpus_covers_the_table_and_every_cause_has_a_row() -> None:
    assert {name for _, name, verdict, _ in GOLDEN if verdict is not Verdict.UNKNOWN} == set(STATES)
    causes = {row.cause for row in STATES.values() if row.cause}
    assert causes <= set(remedies.TABLE) | set(remedies.NO_RETRY)


@pytest.mark.parametrize(
    ("printed", "ids"),
    [
        ("7", ["7"]),
        ("4_3", ["4_3"]),
        ("4_[3-7%3]", ["4_3", "4_4", "4_5", "4_6", "4_7"]),
        ("4_[3-4,9]", ["4_3", "4_4", "4_9"]),
        ("12_[0-8:4]", ["12_0", "12_4", "12_8"]),
        ("4_[5]", ["4_5"]),
    ],
)
def test_ids(printed: str, ids: list[str]) -> None:
    assert expand_ids(printed) == ids


@pytest.mark.parametrize("printed", ["", "abc", "4_[0-99,...]", "4.batch", "7_[", "-3"])
def test_what_is_no_id(printed: str) -> None:
    with pytest.raises(ValueError):
        expand_ids(printed)


# recorded from Slurm 22.05.8: a running job, a waiting array, a requeued one, a foreign name with the separator in it
QUEUE = """\
11_1|RUNNING|g1|2026-11-21T04:37:56|2026-11-21T04:37:57|None|c|train-array-6.5b7a18eadbee.e710-1-ed08
11_[2-3%4]|PENDING||2026-11-21T04:37:56|N/A|JobArrayTaskLimit|c|train-array-6.5b7a18eadbee.e710-1-ed08
9|PENDING|(null)|2026-11-21T04:37:56|2026-11-21T04:38:10|BeginTime|(null)|nan.1e423ccd0f00.e710-2-62ac
8|COMPLETED|g2|2026-11-21T04:37:56|2026-11-21T04:37:57|None|(null)|a|b
"""


def test_queue() -> None:
    listing = read_queue(QUEUE)
    assert listing.whole
    assert {key: row.state for key, row in listing.rows.items()} == {
        "11_1": "RUNNING",
        "11_2": "PENDING",
        "11_3": "PENDING",
        "9": "PENDING",
        "8": "COMPLETED",
    }
    assert listing.rows["8"].name == "a|b"
    assert listing.rows["9"].node == ""
    assert listing.rows["11_2"].started is None


@pytest.mark.parametrize("cut", range(1, len(QUEUE), 7))
def test_a_cut_queue_is_known_to_be_cut_or_loses_no_state(cut: int) -> None:
    listing, full = read_queue(QUEUE[:cut]), read_queue(QUEUE)
    lost = set(full.rows) - set(listing.rows)
    ends_on_line = QUEUE[:cut].endswith("\n")
    assert not listing.whole or not lost or ends_on_line
    assert all(row == full.rows[key] for key, row in listing.rows.items())


STRANGE = """\
123+0|RUNNING|g1|N/A|N/A|None|(null)|het
123+1|RUNNING|g1|N/A|N/A|None|(null)|het
9|RUNNING|g1|N/A|N/A|None|a comment
of two lines|a
b
"""


def test_rows_that_are_surely_not_ours_do_not_count() -> None:
    listing = read_queue(STRANGE + QUEUE)
    assert listing.whole
    assert listing.rows == read_queue(QUEUE).rows
    history = "123+0|RUNNING|g1|||||||het\n124|RUNNING|g1|||||||a\nb\n" + HISTORY
    assert read_history(history).whole
    assert set(read_history(history).rows) == {*read_history(HISTORY).rows, "124"}


@pytest.mark.parametrize("comment", ["project|7|x", "project\n7\nx|y"])
def test_a_comment_of_several_lines_or_columns_hides_no_row_of_ours(comment: str) -> None:
    """`scontrol update Comment=…`, or a site's plugin, at any time: the job would be lost, and run a second time."""
    head, _, token = QUEUE.splitlines()[0].rpartition("|c|")
    listing = read_queue(f"{head}|{comment}|{token}\n{STRANGE}")
    assert listing.whole
    assert (listing.rows["11_1"].name, listing.rows["11_1"].comment) == (token, comment)


@pytest.mark.parametrize("id_", ["77+0", "7_[1-9,...]", ""])
def test_a_row_with_a_name_of_ours_that_cannot_be_read_voids_the_listing(id_: str) -> None:
    line = f"{id_}|RUNNING|g1|N/A|N/A|None|c|train-array-6.5b7a18eadbee.e710-1-ed08\n"
    assert not read_queue(QUEUE + line).whole
    assert not read_history(f"{id_}|RUNNING|g1|||||||nan.1e423ccd0f00.e710-2-62ac\n").whole


# recorded from sacct -P of the same cluster: a job with its steps, an array task killed by its memory, a cancelled one
HISTORY = """\
5|FAILED|g2|2026-11-21T04:37:49|2026-11-21T04:37:49|2026-11-21T04:37:50|9:0||00:00.058|die.b25c16361e8f.fe85-1-4be1
5.batch|FAILED|g2|2026-11-21T04:37:49|2026-11-21T04:37:49|2026-11-21T04:37:50|9:0|6100K|00:00.010|batch
5.0|FAILED|g2|2026-11-21T04:37:49|2026-11-21T04:37:49|2026-11-21T04:37:50|0:9|126532K|00:00.047|python
11_4|OUT_OF_MEMORY|g1|2026-11-21T04:37:57|2026-11-21T04:37:57|2026-11-21T04:37:58|0:125||01:02:03|train-array-6
12|CANCELLED by 0|None assigned|2026-11-21T04:37:57|Unknown|2026-11-21T04:37:58|0:0||00:00:00|nap
"""


def test_history() -> None:
    listing = read_history(HISTORY)
    assert listing.whole
    assert listing.rows["5"].max_rss_bytes == 126532 << 10
    assert listing.rows["5"].exit_code == "9:0"
    assert listing.rows["11_4"].state == "OUT_OF_MEMORY"
    assert listing.rows["11_4"].cpu_seconds == 3723
    assert listing.rows["12"].state == "CANCELLED"
    assert listing.rows["12"].node == ""
    assert not read_history(HISTORY[: len(HISTORY) // 2]).whole


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:00.058", 0.058), ("01:02:03", 3723), ("1-00:00:01", 86401), ("12:30", 750), ("", None), ("x", None)],
)
def test_duration(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "size"), [("126532K", 126532 << 10), ("1.5G", 3 << 29), ("0", 0), ("", None), ("1.2.3K", None)]
)
def test_size(text: str, size: int | None) -> None:
    assert parse_size(text) == size
