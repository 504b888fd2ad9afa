#!/usr/bin/env bash
# The power loss of one virtual node: slurm-nodekill.sh g1. Its daemon dies first, then the step managers, then the
# jobs' processes; any other order lets Slurm see an ordinary failure. Bring the node back with slurm-up.sh.
set -uo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
node=${1:?usage: slurm-nodekill.sh NODE}
jobs=$(squeue -h -w "$node" -t running,completing -o %A | sort -u)
running "slurmd-$node" && kill -KILL "$(cat "$HOME_DIR/run/slurmd-$node.pid")"
rm -f "$HOME_DIR/run/slurmd-$node.pid"
for job in $jobs; do
  for line in /proc/[0-9]*/cmdline; do
    pid=${line#/proc/}
    grep -zq "^slurmstepd: \[$job\." "$line" 2>/dev/null && kill -KILL "${pid%/cmdline}" 2>/dev/null
  done
done
for job in $jobs; do
  for pid in $(with_id "$job\$"); do kill -KILL "$pid" 2>/dev/null; done
done
echo "slurm: $node lost, with jobs: ${jobs//$'\n'/ }"
