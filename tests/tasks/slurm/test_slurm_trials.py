"""What real sites do to jobs, on a real Slurm: a site's own plugin, limits that deny, strange jobs, hands that meddle.

Everything is submitted at once and runs side by side; the tests then read how each job ended.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import LAB

from tasks.slurm.containers import Container
from tasks.slurm.dispatcher import Dispatcher, Job, JobSpec, Outcome
from tasks.slurm.profiles import Profile, load_profile
from tasks.slurm.resources import Resources
from tasks.slurm.waiting import LAUNCH_FAILED

pytestmark = pytest.mark.slurm

LUA = """
function slurm_job_submit(d, p, u)
  if string.find(d.name or "", "^luaerr") then
    slurm.log_user("This site wants --account=PROJECT")
    return slurm.ERROR
  end
  return slurm.SUCCESS
end
function slurm_job_modify(d, r, p, u) return slurm.SUCCESS end
return slurm.SUCCESS
"""
SBATCH = """#!/bin/bash
# a site's wrapper: it accepts the job and loses the answer, or meets a fault once
name=$(sed -n 's/^#SBATCH --job-name=//p' "${{@: -1}}")
case $name in
  lied*|side*) {sbatch} "$@" >/dev/null || exit
    [[ $name = side* ]] && echo "sbatch: error: spank: plugin_x: Invalid argument" >&2
    echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1 ;;
  fatal*) [ -e {once} ] || {{ touch {once}
    echo "sbatch: error: Invalid user for SlurmUser slurm, ignored" >&2
    echo "sbatch: fatal: Unable to process configuration file" >&2; exit 1; }} ;;
esac
exec {sbatch} "$@"
"""
PROLOG = '#!/bin/bash\n[ -e {flag} ] && [ "$SLURM_JOB_PARTITION" = launch ] && exit 1\nexit 0\n'
SPECS = [
    JobSpec("luaerr", "slurm_jobs:echo", {"n": 1}),
    JobSpec("overlong", "slurm_jobs:echo", {"n": 2}, stage="overlong"),
    JobSpec("behind", "slurm_jobs:echo", {"n": 3}),
    JobSpec("lied", "slurm_jobs:echo", {"n": 4}),
    JobSpec("side", "slurm_jobs:echo", {"n": 5}),
    JobSpec("fatal", "slurm_jobs:echo", {"n": 6}),
    JobSpec("surrogate", "slurm_jobs:unprintable", {"how": "surrogate"}),
    JobSpec("nan", "slurm_jobs:nan"),
    JobSpec("renamed", "slurm_jobs:nap", {"seconds": 40}),
    JobSpec("launch", "slurm_jobs:echo", {"n": 7}, stage="launch"),
    JobSpec("waits", "slurm_jobs:echo", {"n": 8}, stage="never"),
    JobSpec("ranks", "slurm_jobs:all_reduce", stage="ranks"),
    JobSpec("rank-fails", "slurm_jobs:all_reduce", {"fails": 1}, stage="ranks"),
]
INSIDE = JobSpec("inside", "slurm_jobs:environment", stage="inside")
ARRAY = [JobSpec(f"member-{n}", "slurm_jobs:nap", {"seconds": 12, "n": n}, stage="array") for n in range(3)]


def _image(folder: Path) -> Container:
    """The smallest image that charliecloud runs: empty mount points, this machine's interpreter bound into them."""
    mounts = ["/usr", sys.prefix, sys.base_prefix]
    for name in ("dev", "etc", "proc", "sys", "tmp", *(mount.strip("/") for mount in mounts)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (folder / name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        (folder / "etc" / name).touch()
    return Container(runtime="charliecloud", image=str(folder), mounts=tuple(mounts))


def _profile(image: Container | None = None) -> Profile:
    profile = load_profile("slurm-dev")
    base = {**profile.section("gpu").model_dump(), "memory": "512MB", "gres": None}
    changes: dict[str, dict[str, Any]] = {
        "gpu": {}, "overlong": {"qos": "brief", "time": "01:00:00"}, "launch": {"partition": "launch"},
        "never": {"partition": "brief", "time": "01:00:00"}, "array": {"array_parallel": 1},
        "ranks": {"nodes": 2, "distributed": "torchrun"}, "inside": {"container": image},
    }  # fmt: skip
    stages = {name: Resources(**{**base, **change}) for name, change in changes.items()}
    return profile.model_copy(update={"stages": stages})


class Trials:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.image = _image(root / "image") if shutil.which("ch-run") else None
        self.outcomes: dict[str, Outcome] = {}
        self.events: list[dict[str, Any]] = []
        self.errors: list[BaseException] = []
        self.jobs: dict[str, Job] = {}

    def door(self) -> Dispatcher:
        return Dispatcher(_profile(self.image), self.root / "jobs", events=self.events.append)

    def wait(self) -> None:
        try:
            for outcome in self.door().wait(list(self.jobs.values())):
                self.outcomes[outcome.spec.name] = outcome
        except BaseException as error:
            self.errors.append(error)

    def told(self, name: str, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event and one["job"] == name]

    def submitted(self, name: str) -> str:
        return str(self.told(name, "submitted")[0]["slurm_id"])


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def _until(condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, f"{what}\n{_run('squeue', '-o', '%i %j %T %r')}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    root = tmp_path_factory.mktemp("trials")
    cluster, poll, flag = root / "cluster", root / "poll", root / "prolog-fails"
    cluster.mkdir()
    (cluster / "job_submit.lua").write_text(LUA)
    for name, text in {"prolog": PROLOG.format(flag=flag), "bin/sbatch": ""}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text or SBATCH.format(sbatch=shutil.which("sbatch"), once=root / "once"))
        (root / name).chmod(0o755)
    extra = (
        f"JobSubmitPlugins=lua\nPrologFlags=Alloc\nProlog={root / 'prolog'}\n"
        "PartitionName=brief Nodes=g1 MaxTime=1 State=UP\nPartitionName=launch Nodes=g3,g4 State=UP"
    )
    environment = {
        "SLURM_ROOT": str(cluster), "SLURM_DBD": "1", "SLURM_NODES": "4", "SLURM_EXTRA": extra,
        "SLURM_CONF": str(cluster / "slurm.conf"), "GATED_POLL_DIR": str(poll), "SQUEUE_PARTITION": "no-such",
        "SACCT_FORMAT": "JobID", "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            up = subprocess.run([str(LAB / "slurm-up.sh")], capture_output=True, text=True, check=False)
            assert up.returncode == 0, up.stderr
            yield _hold(Trials(root), poll, flag)
        finally:
            subprocess.run([str(LAB / "slurm-down.sh"), "--wipe"], capture_output=True, check=False)


def _hold(trials: Trials, poll: Path, flag: Path) -> Trials:
    for words in ("add qos brief", "modify qos brief set MaxWall=00:05:00 Flags=DenyOnLimit"):
        _run("sacctmgr", "-i", "-Q", *words.split())
    _run("sacctmgr", "-i", "-Q", "modify", "user", _run("id", "-un").strip(), "set", "qos+=brief")
    flag.touch()
    strange = ["sbatch", "--mem=50M", "--time=9", "--output=/dev/null", "--wrap", "sleep 300"]
    _run(*strange[:4], "--ntasks=1", ":", "--mem=50M", "--output=/dev/null", *strange[4:])  # heterogeneous
    _run(*strange, "--job-name", "a\nb")
    door = trials.door()
    specs = [*SPECS, *([INSIDE] if trials.image else [])]
    jobs = [*door.submit(ARRAY, array=True), *door.submit(specs)]
    trials.jobs = {job.name: job for job in jobs}
    waiting = threading.Thread(target=trials.wait, daemon=True)
    waiting.start()
    _meddle(trials, poll, flag)
    waiting.join(timeout=240)
    return trials


def _meddle(trials: Trials, poll: Path, flag: Path) -> None:
    """A cleaner removes the poll folder; somebody renames a job and its comment, and cancels a member that waits."""
    _until(lambda: trials.told("renamed", "submitted"), "renamed is there")
    _run("scontrol", "update", f"JobId={trials.submitted('renamed')}", "JobName=something-else", "Comment=project\n7|x")
    member = trials.submitted("member-2")
    time.sleep(6)  # everybody has seen it wait
    _run("scancel", member)
    shutil.rmtree(poll)
    _until(lambda: trials.told("launch", "released"), "the failed launch is released", 120)
    flag.unlink()
    for node in ("g3", "g4"):  # Slurm drains a node whose prolog failed
        _run("scontrol", "update", f"NodeName={node}", "State=resume")
    _until(lambda: trials.told("waits", "stuck"), "the job that waits for ever is told")
    trials.door().cancel([trials.jobs["waits"]])


def test_nothing_beside_the_work_ended_the_flow(trials: Trials) -> None:
    assert not trials.errors
    assert set(trials.outcomes) == set(trials.jobs)
    assert not trials.told("renamed", "cancelling")


@pytest.mark.parametrize(
    ("name", "state", "cause", "says"),
    [
        ("luaerr", "failed", "rejected", "This site wants --account=PROJECT"),
        ("overlong", "failed", "rejected", "QOSMaxWallDurationPerJobLimit"),
        ("behind", "done", "", ""),
        ("lied", "done", "", ""),
        ("side", "done", "", ""),
        ("fatal", "done", "", ""),
        ("surrogate", "failed", "exception", "surrogate"),
        ("nan", "failed", "exception", "result.folds[1].rmse is nan"),
        ("renamed", "done", "", ""),
        ("launch", "done", "", ""),
        ("waits", "cancelled", "cancelled", "cancelled by"),
        ("member-0", "done", "", ""),
        ("member-1", "done", "", ""),
        ("member-2", "cancelled", "cancelled", "outside this dispatcher"),
        ("ranks", "done", "", ""),
        ("rank-fails", "failed", "exception", "a bug in rank 1"),
    ],
)
def test_each_trial_ends_as_it_should_and_at_once(trials: Trials, name: str, state: str, cause: str, says: str) -> None:
    outcome = trials.outcomes[name]
    assert (outcome.state, outcome.cause) == (state, cause), outcome.message
    assert says in outcome.message
    assert outcome.attempts == 1


def test_nothing_was_ordered_twice(trials: Trials) -> None:
    known = {path.name for path in (trials.root / "jobs" / "submissions").iterdir() if "-array-" not in path.name}
    wanted = len(trials.jobs) - len(ARRAY) - 3  # two were refused, one bears another name

    def ordered() -> list[str]:
        names = _run("sacct", "-X", "-n", "-P", "--format=JobName", "-S", "today").split()
        return [name for name in names if name in known]

    _until(lambda: len(ordered()) >= wanted, "the accounting has heard of all", 20)
    assert len(ordered()) == len(set(ordered())) == wanted


def test_a_doubt_is_settled_by_name_beside_strange_jobs(trials: Trials) -> None:
    for name in ("lied", "side"):
        assert trials.told(name, "doubt")
        found = [event["how"] for event in trials.told(name, "submitted")]  # none: its marker was there first
        assert set(found) <= {"queue", "claim", "accounting"}
    assert "Unable to process configuration file" in trials.told("fatal", "held")[0]["text"]


def test_a_failed_launch_and_a_reason_that_never_ends_are_told_in_slurms_words(trials: Trials) -> None:
    assert LAUNCH_FAILED.search(trials.told("launch", "released")[0]["cause"])
    (stuck,) = trials.told("waits", "stuck")  # for its first second Slurm says PartitionConfig: no remedy yet
    assert stuck["cause"] == "PartitionTimeLimit"
    assert "lower time" in stuck["text"]


def test_a_distributed_function_is_one_job_on_two_nodes(trials: Trials) -> None:
    result = trials.outcomes["ranks"].result
    assert result is not None
    assert (result["sum"], result["world"], result["rank"]) == (3.0, 2, 0)
    assert (trials.jobs["ranks"].work / "written").read_text() == "by rank 0"
    assert len(trials.door().journal.starts(trials.jobs["ranks"].key)) == 2  # one start, one stop: of rank 0


def test_a_job_runs_inside_its_container(trials: Trials) -> None:
    if trials.image is None:
        pytest.skip("no charliecloud here")
    outcome = trials.outcomes["inside"]
    assert outcome.state == "done", outcome.message
    assert outcome.result is not None
    assert "CH_RUNNING" in outcome.result["names"]
    assert "SLURM_JOB_ID" in outcome.result["names"]
