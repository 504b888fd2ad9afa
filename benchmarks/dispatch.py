"""What dispatching costs on a real Slurm: calls of the scheduler's programs, overhead of a job, and taking over.

    python -m benchmarks.dispatch [--smoke] [--window 60] [--json FILE]

Brings up a test cluster of its own (two nodes, no accounting unless --accounting) and removes it. Measured:

- overhead: submit to outcome, beside `sbatch --wait` of the same interpreter doing nothing, and beside bare submitit
- noticed: from a job's end on the node to its outcome; for one whose process was killed, from the kill to its remedy
- calls: scheduler programs started within a window by 1 and by 4 waiting processes, with 5 and 500 live jobs, counted
  by wrapper scripts on PATH; beside bare submitit waiting for the same number of jobs
- reattach: a new process that finds 500 live jobs again in the journal

Prints one JSON object; seconds, medians unless a name says otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.profiles import Profile, load_profile

LAB = Path(__file__).resolve().parents[1] / "slurm_templates" / "lab"
PROGRAMS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo")
READING = ("squeue", "sacct", "scontrol", "sinfo")
READ_BUDGET = 20.0  # of a minute, whatever waits
PROBE = "tasks.slurm.probe:probe"


@contextlib.contextmanager
def cluster(folder: Path, accounting: bool) -> Iterator[None]:
    """A test cluster in `folder`, reachable through this process's environment."""
    os.environ.update(SLURM_ROOT=str(folder / "slurm"), SLURM_DBD=str(int(accounting)), SLURM_NODES="2")
    os.environ.update(SLURM_CONF=str(folder / "slurm" / "slurm.conf"), GATED_POLL_DIR=str(folder / "poll"))
    subprocess.run([str(LAB / "slurm-up.sh")], check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run([str(LAB / "slurm-down.sh"), "--wipe"], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def counted(folder: Path) -> Iterator[Callable[[], dict[str, int]]]:
    """Put wrappers before the scheduler's programs; the yielded function says how often each was started."""
    log = folder / "calls"
    wrappers = folder / "wrappers"
    wrappers.mkdir()
    log.touch()
    for program in PROGRAMS:
        path = wrappers / program
        path.write_text(f'#!/bin/sh\necho {program} >>"{log}"\nexec {shutil.which(program)} "$@"\n')
        path.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{wrappers}:{before}"
    try:
        yield lambda: {name: log.read_text().split().count(name) for name in PROGRAMS}
    finally:
        os.environ["PATH"] = before
        shutil.rmtree(wrappers)
        log.unlink()


def profile(**changes: Any) -> Profile:
    """The test cluster's profile, for jobs that need next to nothing."""
    found = load_profile("slurm-dev")
    small = {"gres": None, "memory": "100MB", "array_parallel": 1000, **changes}
    stages = {name: section.model_copy(update=small) for name, section in found.stages.items()}
    return found.model_copy(update={"stages": stages})


def specs(count: int) -> list[JobSpec]:
    """`count` probes."""
    return [JobSpec(f"probe-{n:03d}", PROBE, {"n": n}) for n in range(count)]


def overhead(folder: Path, repeats: int) -> dict[str, Any]:
    """One job at a time, three ways, taking turns."""
    times: dict[str, list[float]] = {"sbatch --wait": [], "dispatcher": [], "submitit": []}
    noticed, slurm = [], []
    door = Dispatcher(profile(), folder / "overhead")
    bare = ["sbatch", "--wait", "--mem=100M", "--output=/dev/null", f"--wrap={sys.executable} -c pass"]
    for turn in range(repeats + 1):
        start = time.time()
        subprocess.run(bare, check=True, stdout=subprocess.DEVNULL)
        plain = time.time() - start
        start = time.time()
        (outcome,) = door.wait(door.submit([JobSpec("probe", PROBE, {"turn": turn})]))
        ours = time.time() - start
        assert outcome.result is not None, outcome.message
        start = time.time()
        submitit_job(folder)
        if turn:  # the first turn warms caches
            for name, seconds in zip(times, (plain, ours, time.time() - start), strict=True):
                times[name].append(seconds)
            noticed.append(start - float(outcome.result["ended"]))
            slurm.append(float(outcome.accounting["queue_wait_s"]) + float(outcome.accounting["elapsed_s"]))
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    return {
        "median_s": medians,
        "over_sbatch_wait_s": round(medians["dispatcher"] - medians["sbatch --wait"], 3),
        "over_slurms_own_time_s": round(medians["dispatcher"] - statistics.median(slurm), 3),
        "noticed_after_end_s": round(statistics.median(noticed), 3),
        "noticed_after_end_worst_s": round(max(noticed), 3),
        "repeats": repeats,
    }


def submitit_job(folder: Path) -> None:
    """One job through bare submitit."""
    import submitit

    submitit.core.logger.get_logger().setLevel("ERROR")  # it complains of missing accounting at every look
    executor = submitit.AutoExecutor(folder=folder / "submitit" / "%j", cluster="slurm")
    executor.update_parameters(timeout_min=5, mem_gb=0.2)
    executor.submit(time.time).result()


def silent_death(folder: Path, repeats: int) -> dict[str, Any]:
    """A job whose process is killed without a word: seconds from the kill to the remedy."""
    delays = []
    for turn in range(repeats):
        remedied: list[float] = []

        def note(event: dict[str, Any], remedied: list[float] = remedied) -> None:
            if event["event"] == "remedy":
                remedied.append(time.time())

        door = Dispatcher(profile(), folder / "deaths", events=note)
        jobs = door.submit([JobSpec("victim", PROBE, {"seconds": 600, "turn": turn})])
        waiter = threading.Thread(target=lambda d=door, j=jobs, r=remedied: list(d.wait(j, stop=lambda: bool(r))))
        waiter.start()
        started = jobs[0].folder / "starts.jsonl"
        while not started.exists():
            time.sleep(0.05)
        time.sleep(1 + turn % 5)  # at another point of the poll's interval each time
        os.kill(json.loads(started.read_text().splitlines()[0])["pid"], 9)
        killed = time.time()
        waiter.join()
        delays.append(remedied[0] - killed)
    return {"median_s": round(statistics.median(delays), 2), "worst_s": round(max(delays), 2), "repeats": repeats}


def waiting(root: Path, count: int, ready: Path, stop: Path) -> None:
    """One flow process: waits for the jobs of a root until the file `stop` appears."""
    door = Dispatcher(profile(extra={"hold": True}), root, detach=True)
    jobs = door.submit(specs(count), array=True)
    ready.touch()
    list(door.wait(jobs, on_progress=lambda *_: None, on_log=lambda *_: None, stop=stop.exists))


def waiting_submitit(folder: Path, count: int, ready: Path, stop: Path) -> None:
    """The same through bare submitit: ask every job whether it is done, every second."""
    import submitit

    submitit.core.logger.get_logger().setLevel("ERROR")
    executor = submitit.AutoExecutor(folder=folder / "submitit-held" / "%j", cluster="slurm")
    executor.update_parameters(
        timeout_min=60, mem_gb=0.1, slurm_array_parallelism=1000, slurm_additional_parameters={"hold": True}
    )
    jobs = executor.map_array(abs, range(count))
    ready.touch()
    while not stop.exists():
        for job in jobs:
            job.done()
        time.sleep(1)


def calls(folder: Path, window: float, cases: list[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """Programs started by waiting processes in `window` seconds, a minute; each case is (who, jobs, processes)."""
    found = []
    for who, count, processes in cases:
        case = folder / f"{who}-{count}-{processes}"
        case.mkdir()
        stop = case / "stop"
        with counted(case) as count_calls:
            command = [sys.executable, "-m", "benchmarks.dispatch", "--waiting", who, str(case), str(count)]
            running = [subprocess.Popen([*command, str(case / f"ready-{n}")]) for n in range(processes)]
            while not all((case / f"ready-{n}").exists() for n in range(processes)):
                time.sleep(0.1)
            submitting = count_calls()
            time.sleep(window)
            after = count_calls()
        stop.touch()
        for process in running:
            process.wait()
        subprocess.run(["scancel", "--me", "--state=PENDING"], check=False)
        read = sum(after[name] - submitting[name] for name in READING)
        found.append(
            {
                "who": who,
                "live_jobs": count,
                "processes": processes,
                "sbatch": after["sbatch"],
                "read_commands_a_minute": round(read * 60 / window, 1),
                "calls": after,
            }
        )
    return found


def reattach(folder: Path, count: int) -> dict[str, Any]:
    """A new process submits the same specs again and looks at all of them once."""
    root = folder / f"dispatcher-{count}-1" / "root"
    script = (
        "import sys, time; start, busy = time.time(), time.process_time()\n"
        "from pathlib import Path\nfrom benchmarks.dispatch import profile, specs\n"
        "from tasks.slurm.dispatcher import Dispatcher\n"
        "door = Dispatcher(profile(), Path(sys.argv[1]), detach=True)\n"
        "jobs = door.submit(specs(int(sys.argv[2])), array=True)\n"
        "list(door.wait(jobs, stop=iter([False, True]).__next__))\n"
        "print(time.time() - start, time.process_time() - busy)\n"
    )
    with counted(folder) as count_calls:
        done = subprocess.run(
            [sys.executable, "-c", script, str(root), str(count)], capture_output=True, text=True, check=True
        )
        submitted = count_calls()["sbatch"]
    seconds, cpu = (round(float(part), 2) for part in done.stdout.split())
    return {"jobs": count, "seconds": seconds, "cpu_s": cpu, "sbatch": submitted}


def run(*, smoke: bool = False, window: float = 60.0, accounting: bool = False) -> dict[str, Any]:
    """The whole benchmark."""
    many, repeats = (40, 2) if smoke else (500, 15)
    window = 10.0 if smoke else window
    cases = [("dispatcher", count, processes) for count in (5, many) for processes in (1, 4)]
    cases.append(("submitit", many, 1))
    with tempfile.TemporaryDirectory(prefix="gated-dispatch-") as name:
        folder = Path(name)
        with cluster(folder, accounting):
            found = {
                "overhead": overhead(folder, repeats),
                "killed_without_a_word": silent_death(folder, max(1, repeats // 3)),
                "calls": calls(folder, window, cases),
                "reattach": reattach(folder, many),
            }
    return {"benchmark": "dispatch", "accounting": accounting, "window_s": window, **found, "ratios": against(found)}


def against(found: dict[str, Any]) -> dict[str, float]:
    """What must not fall: how much longer bare submitit takes for a job, and the budget of reads over what was read."""
    medians = found["overhead"]["median_s"]
    reads = [case["read_commands_a_minute"] for case in found["calls"] if case["who"] == "dispatcher"]
    return {
        "submitit_over_ours": round(medians["submitit"] / medians["dispatcher"], 3),
        "budget_over_reads": round(READ_BUDGET / max(reads), 3),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="few jobs, a short window")
    parser.add_argument("--window", type=float, default=60.0, help="seconds over which calls are counted")
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--waiting", nargs=4, metavar=("WHO", "FOLDER", "JOBS", "READY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.waiting:
        who, folder, count, ready = options.waiting
        wait = waiting if who == "dispatcher" else waiting_submitit
        root = Path(folder) / "root" if who == "dispatcher" else Path(folder)
        wait(root, int(count), Path(ready), Path(folder) / "stop")
        return
    text = json.dumps(run(smoke=options.smoke, window=options.window, accounting=options.accounting), indent=2)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
