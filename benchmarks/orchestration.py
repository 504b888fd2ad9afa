"""What the house costs: an audit event, a task run, an artifact, and how each grows with 1, 10, 100, 1,000 of them.

The rival of an audit event is a bare append with fsync to a file on the same disk.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any


def ledger(counts: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds an event while the log grows to each length, beside a bare durable append."""
    from tasks.ledger import Ledger, verify

    with tempfile.TemporaryDirectory() as name:
        log, bare = Ledger(Path(name)), Path(name) / "bare"
        each, rival = {}, {}
        written = 0
        for count in counts:
            started = time.perf_counter()
            for number in range(count - written):
                log.append("event", "text", number=number)
            each[str(count)] = 1000 * (time.perf_counter() - started) / (count - written)
            started = time.perf_counter()
            for _ in range(count - written):
                with open(bare, "ab") as handle:
                    handle.write(b"x" * 300 + b"\n")
                    handle.flush()
                    os.fsync(handle.fileno())
            rival[str(count)] = 1000 * (time.perf_counter() - started) / (count - written)
            written = count
        started = time.perf_counter()
        assert verify(log.path) == []
        seconds = time.perf_counter() - started
    return {"ms_an_event": each, "ms_a_bare_append": rival, "verify_s": seconds}


def prefect(count: int) -> dict[str, float]:
    """Milliseconds a task run and a table artifact on a temporary server, after a first of each."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    from prefect import flow, task
    from prefect.testing.utilities import prefect_test_harness

    from tasks import audit

    @task
    def nothing() -> None: ...

    @flow
    def busy() -> dict[str, float]:
        run = audit.Run("bench", "bench", "0", Path("."))
        nothing()
        audit.publish_table(run, "warm", [{"a": 1}])
        started = time.perf_counter()
        for _ in range(count):
            nothing()
        tasks_ms = 1000 * (time.perf_counter() - started) / count
        started = time.perf_counter()
        for _ in range(count):
            audit.publish_table(run, "table", [{"a": 1}])
        return {"ms_a_task_run": tasks_ms, "ms_an_artifact": 1000 * (time.perf_counter() - started) / count}

    with prefect_test_harness(server_startup_timeout=120):
        return busy()


def run(*, smoke: bool = False) -> dict[str, Any]:
    counts = (1, 10) if smoke else (1, 10, 100, 1000)
    found = ledger(counts)
    first, last = found["ms_an_event"][str(counts[1])], found["ms_an_event"][str(counts[-1])]
    return {
        "benchmark": "orchestration",
        "ledger": found,
        "ratios": {"event, short log over long log": first / last},
        "prefect": prefect(2 if smoke else 50),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="seconds: few of each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    text = json.dumps(run(smoke=options.smoke), indent=2)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
