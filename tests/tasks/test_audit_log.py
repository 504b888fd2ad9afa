"""The audit log finds whatever was done to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.audit_log import AuditLog, verify
from tasks.verification import main


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path)
    for number in range(6):
        log.append("event", f"line {number}", number=number)
    return log


def rewrite(log: AuditLog, change: object) -> None:
    lines = log.path.read_text().splitlines()
    assert callable(change)
    log.path.write_text("\n".join(change(lines)) + "\n")


def test_untouched_log_verifies(log: AuditLog) -> None:
    assert verify(log.path) == []
    assert main([str(log.folder)]) == 0


def test_seed_lines_stand_beside_the_chain(log: AuditLog) -> None:
    lines = (log.folder / "auditing_manifest.log").read_text().splitlines()
    assert len(lines) == 6
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d \| line \d", line) for line in lines)


@pytest.mark.parametrize("line", range(6))
def test_changed_line_is_named(log: AuditLog, line: int) -> None:
    def change(lines: list[str]) -> list[str]:
        record = json.loads(lines[line])
        record["data"]["number"] = 99
        return [*lines[:line], json.dumps(record, sort_keys=True), *lines[line + 1 :]]

    rewrite(log, change)
    assert any(problem.startswith(f"line {line + 1}: the record was changed") for problem in verify(log.path))
    assert main([str(log.folder)]) == 1


@pytest.mark.parametrize("line", range(6))
def test_dropped_line_is_noticed(log: AuditLog, line: int) -> None:
    rewrite(log, lambda lines: lines[:line] + lines[line + 1 :])
    problems = verify(log.path)
    assert problems
    if line < 5:
        assert problems[0].startswith(f"line {line + 1}: does not follow")
        assert f"record {line} belongs here, record {line + 1} was found" in problems[0]
        assert len(problems) == 2, "the gap, and that the log was longer: not one finding for each line after it"


def test_reordered_lines_are_noticed(log: AuditLog) -> None:
    rewrite(log, lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]])
    assert verify(log.path)[0].startswith("line 3: does not follow")


def test_rewritten_tail_does_not_match_the_head(log: AuditLog, tmp_path: Path) -> None:
    """A whole chain made anew is consistent in itself; the head kept elsewhere still names the old one."""
    head = (log.folder / "audit.head").read_text()
    forged = AuditLog(tmp_path / "forged")
    for number in range(6):
        forged.append("event", f"line {number}", number=number + 1)
    (forged.folder / "audit.head").write_text(head)
    assert any("is not the record that audit.head names" in problem for problem in verify(forged.path))


def test_missing_head_is_a_finding(log: AuditLog) -> None:
    (log.folder / "audit.head").unlink()
    assert verify(log.path) == ["audit.head is missing: a cut tail could not be noticed"]


def test_writer_killed_in_mid_line_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """kill -9 a process that appends as fast as it can, several times; the chain goes on whole."""
    code = (
        "import sys; from pathlib import Path; from tasks.audit_log import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "while True: print(log.append('x', 'y' * 2000)['seq'], flush=True)\n"
    )
    acknowledged = -1
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        time.sleep(0.1)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.15)
        os.kill(process.pid, signal.SIGKILL)
        seen = [first, *process.stdout.readlines()]
        acknowledged = max(acknowledged, *(int(line) for line in seen if line.endswith("\n")))
        process.wait()
    AuditLog(tmp_path).append("last", "after the kills")
    assert verify(tmp_path / "audit.jsonl") == []
    assert len(AuditLog(tmp_path).records()) >= acknowledged + 2


def test_nan_is_refused_not_written(log: AuditLog) -> None:
    with pytest.raises(ValueError):
        log.append("event", "bad", value=float("nan"))
    assert verify(log.path) == []
    assert len(log.records()) == 6
