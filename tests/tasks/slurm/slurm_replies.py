"""What sbatch says: texts of Slurm 22.05.8, most recorded from a real one, with what each means."""

from __future__ import annotations

from tasks.slurm.scheduler import Reply

FAILED = "sbatch: error: Batch job submission failed: "
POLICY = f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
TIMED_OUT = f"{FAILED}Socket timed out on send/recv operation"
LIMIT = f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}"
OVERLONG = f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}"
LUA = f"sbatch: error: This site wants --account=PROJECT\n{FAILED}Unspecified error"
UNWRITABLE = f"{FAILED}I/O error writing script/environment to file"
SIDE_LINE = f"sbatch: error: spank: plugin_x: Invalid argument\n{TIMED_OUT}"
UNREADABLE = (
    "sbatch: error: Invalid user for SlurmUser slurm, ignored\nsbatch: fatal: Unable to process configuration file"
)
_R, _L, _D = Reply.REJECTED, Reply.LATER, Reply.DOUBTFUL

# text, reply, whether it holds for everybody, whether it is sure that no job is there
CORPUS: list[tuple[str, Reply, bool, bool]] = [
    (LUA, _R, False, True),
    (OVERLONG, _R, False, True),
    (f"sbatch: error: AssocMaxCpuPerJobLimit\n{POLICY}", _R, False, True),
    ("sbatch: error: invalid partition specified: gpux", _R, False, True),
    (f"sbatch: error: invalid partition specified: nope\n{FAILED}Invalid partition name specified", _R, False, True),
    (f"{FAILED}Invalid account or account/partition combination specified", _R, False, True),
    (f"{FAILED}Requested node configuration is not available", _R, False, True),
    (f"sbatch: error: Memory specification can not be satisfied\n{FAILED}Requested node configuration is not available",
     _R, False, True),
    (f"{FAILED}Invalid qos specification", _R, False, True),
    (f"{FAILED}Invalid job array specification", _R, False, True),
    (f"{FAILED}Requested reservation is invalid", _R, False, True),
    (f"{FAILED}Invalid node name specified", _R, False, True),
    (f"{FAILED}Invalid license specification", _R, False, True),
    (f"{FAILED}Invalid feature specification", _R, False, True),
    (f"{FAILED}Invalid generic resource (gres) specification", _R, False, True),
    (f"{FAILED}Node count specification invalid", _R, False, True),
    (f"{FAILED}Access/permission denied", _R, False, True),
    ("sbatch: unrecognized option '--nonsense=1'\nTry \"sbatch --help\" for more information", _R, False, True),
    ("Invalid time specification (pos=0): 2000\nsbatch: error: Invalid --begin specification", _R, False, True),
    (f"{FAILED}Requested GRES option unsupported by configured SelectType plugin", _R, False, True),
    (f"{FAILED}Burst Buffer request invalid", _R, False, True),
    ("sbatch: error: cli_filter/lua: say --account\nsbatch: error: cli_filter plugin terminated with error",
     _R, False, True),
    ("Unable to run sbatch: [Errno 2] No such file or directory: 'sbatch'", _R, False, True),
    (LIMIT, _L, True, True),
    (f"sbatch: error: AssocGrpSubmitJobsLimit\n{POLICY}", _L, True, True),
    (POLICY, _L, False, True),
    ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", _L, True, True),
    ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
     f"{FAILED}Resource temporarily unavailable", _L, True, True),
    (f"{FAILED}Required partition not available (inactive or drain)", _L, False, True),
    (f"{FAILED}Required node not available (down, drained or reserved)", _L, False, True),
    (f"{FAILED}Requested operation is presently disabled", _L, False, True),
    ("sbatch: fatal: Unable to establish controller machine", _L, False, True),
    ("sbatch: error: fetch_config: DNS SRV lookup failed\nsbatch: fatal: Could not establish a configuration source",
     _L, False, True),
    (f"{FAILED}Invalid user id", _L, False, True),
    (UNREADABLE, _L, False, True),
    ("sbatch: error: s_p_parse_file: cannot stat file /x: No such file or directory, retrying in 1sec up to 60sec\n"
     "sbatch: error: ClusterName needs to be specified\nsbatch: fatal: Unable to process configuration file",
     _L, False, True),
    ("sbatch could not be started: [Errno 11] Resource temporarily unavailable", _L, False, True),
    (f"{FAILED}System submissions disabled", _L, True, True),
    (f"{FAILED}Unable to create job record, try again", _L, True, True),
    (f"{FAILED}Partition in DOWN state", _L, False, True),
    (f"{FAILED}Requested account has breached requested QOS usage threshold", _L, False, True),
    (f"{FAILED}Access denied to requested reservation", _R, False, True),
    (f"{FAILED}CPU count specification invalid", _R, False, True),
    (f"{FAILED}Invalid --nice value", _R, False, True),
    (TIMED_OUT, _D, False, True),
    (SIDE_LINE, _D, False, True),
    (UNWRITABLE, _D, False, True),
    (f"{FAILED}Invalid argument", _D, False, True),
    (f"{FAILED}A text of Slurm 30", _D, False, True),
    (f"{FAILED}Unable to contact slurm controller (connect failure)", _D, False, True),
    (f"sbatch: error: slurm_receive_msg: Socket timed out on send/recv operation\n{FAILED}Invalid qos specification",
     _R, False, False),
]  # fmt: skip
