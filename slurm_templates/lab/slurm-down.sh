#!/usr/bin/env bash
# Stop the test cluster of slurm-up.sh, its jobs included. --wipe also removes its folder and database.
set -uo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
[ -e "$SLURM_CONF" ] || { echo "slurm: nothing at $SLURM_ROOT"; exit 0; }
force=TERM
[ "${1:-}" = --wipe ] && force=KILL  # nothing of it is needed any more

timeout 5 scancel --full --me >/dev/null 2>&1
daemons=()
for file in "$HOME_DIR"/run/{slurmctld,slurmd-*,slurmdbd,mariadb,munged}.pid; do
  name=$(basename "$file" .pid)
  running "$name" && daemons+=("$(cat "$file")")
done
[ ${#daemons[@]} = 0 ] || kill -"$force" "${daemons[@]}" 2>/dev/null
for _ in $(seq 150); do
  alive=()
  for pid in "${daemons[@]}"; do kill -0 "$pid" 2>/dev/null && alive+=("$pid"); done
  [ ${#alive[@]} = 0 ] && break
  sleep 0.1
done
[ ${#alive[@]} = 0 ] || kill -KILL "${alive[@]}" 2>/dev/null
for pid in $(with_id ""); do kill -KILL "$pid" 2>/dev/null; done  # jobs outlive a killed node daemon
rm -f "$HOME_DIR"/run/*.pid
if [ "$force" = KILL ]; then
  rm -rf "$DB_DIR" "$SLURM_ROOT"
  [ "$HOME_DIR" = "$SLURM_ROOT" ] || rm -f "$HOME_DIR"
fi
echo "slurm: down"
