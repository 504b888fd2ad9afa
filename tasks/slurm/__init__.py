"""Jobs on Slurm, or on this machine: submitted once, found again after any crash, repaired by cause.

dispatcher     the door: submit, wait, cancel, sweep, prune, dry run
specs          JobSpec, Job, Outcome
journal        intent before submit, handle after; one job, one key, one folder
placing        sbatch exactly once, and what to do in doubt
tracking       one look at many jobs: markers, then the queue, then the accounting
ending         how an attempt ended, and what follows; remedies and states hold the tables
scheduler      what a scheduler must do: poller and commands for Slurm, local and local_node for this machine
submit         the text for sbatch, by submitit
profiles       slurm_templates/*.yaml
runner         what runs on the node, with usage and snapshot: standard library only
"""
