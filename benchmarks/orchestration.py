"""What the house costs: an audit event, a task run, an artifact with 1, 10, 100, 1,000 of them; a corpus at 1 x, 10 x.

The rival of an audit event is a bare append with fsync to a file on the same disk.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import parser, report
from tasks.run import Run


def audit_log(counts: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds an event while the log grows to each length, beside a bare durable append."""
    from tasks.audit_log import AuditLog, verify

    with tempfile.TemporaryDirectory() as name:
        log, bare = AuditLog(Path(name)), Path(name) / "bare"
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


def prefect(counts: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds a task run and a table artifact on a temporary server, in a run that holds 1, 10, ... of them."""
    os.environ |= {"PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    from prefect import flow, task
    from prefect.testing.utilities import prefect_test_harness

    from tasks import artifacts

    @task
    def nothing() -> None: ...

    @flow
    def busy() -> dict[str, Any]:
        run = Run("bench", "bench", "0", Path("."))
        ways: dict[str, Callable[[], object]] = {
            "ms_a_task_run": nothing,
            "ms_an_artifact": lambda: artifacts.publish_table(run, "table", [{"a": 1}]),
        }
        return {name: growth(way, counts) for name, way in ways.items()}

    with prefect_test_harness(server_startup_timeout=120):
        found: dict[str, Any] = busy()
        return found


def growth(way: Callable[[], object], counts: tuple[int, ...]) -> dict[str, float]:
    """Milliseconds each while their number grows to each count, after a first one."""
    way()
    found, done = {}, 0
    for count in counts:
        started = time.perf_counter()
        for _ in range(count - done):
            way()
        found[str(count)] = 1000 * (time.perf_counter() - started) / (count - done)
        done = count
    return found


def corpora(smoke: bool) -> dict[str, dict[str, float]]:
    """Seconds of what a flow does with a corpus before it sends anything, at 1 x and 10 x the size."""
    from benchmarks.inference import times
    from denoise_core.corpus.manifest import read_manifest
    from denoise_core.corpus.store import open_corpus
    from denoise_core.corpus.stream import open_stream
    from denoise_core.corpus.synthetic import generate

    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        corpus = open_corpus(generate(Path(name) / "corpus", size="mini" if smoke else "full", seed=1))
        for factor in (1, 10):
            root = times(corpus, factor, Path(name) / str(factor))
            ways: dict[str, Callable[[], object]] = {
                "open_corpus": lambda root=root: open_corpus(root),  # type: ignore[misc]
                "open_stream": lambda root=root: open_stream(root),  # type: ignore[misc]
                "read_manifest": lambda root=root: read_manifest(root / "manifest.csv"),  # type: ignore[misc]
            }
            for what, way in ways.items():
                way()
                started = time.perf_counter()
                way()
                found.setdefault(what, {})[f"{factor} x"] = time.perf_counter() - started
    return found


def run(*, smoke: bool = False) -> dict[str, Any]:
    counts = (1, 10) if smoke else (1, 10, 100, 1000)
    log, house = audit_log(counts), prefect(counts)

    def held(each: dict[str, float]) -> float:
        return each[str(counts[1])] / each[str(counts[-1])]

    return {
        "benchmark": "orchestration",
        "audit_log": log,
        "prefect": house,
        "corpus_s": corpora(smoke),
        "ratios": {
            "event, ten over all": held(log["ms_an_event"]),
            "bare append over event": log["ms_a_bare_append"][str(counts[-1])] / log["ms_an_event"][str(counts[-1])],
            **{f"{what}, ten over all": held(each) for what, each in house.items()},
        },
    }


def main() -> None:
    line = parser(__doc__, "seconds: few of each")
    options = line.parse_args()
    report(run(smoke=options.smoke), options)


if __name__ == "__main__":
    main()
