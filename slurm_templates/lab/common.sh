# Shared by the slurm-*.sh scripts: where the test cluster lives. Source it; it starts nothing.
#
#   SLURM_ROOT   its folder                       (default: slurm-<user id> under TMPDIR or /tmp)
#   SLURM_PORT   first of 20 TCP ports it uses    (default: from a hash of the folder, so that clusters do not collide)
#   SLURM_NODES  number of virtual nodes          (default: 2, four typed fake GPUs each)
#   SLURM_DBD    1: with accounting (slurmdbd and MariaDB), 0: without
#   SLURM_EXTRA  further lines for slurm.conf

SLURM_ROOT=${SLURM_ROOT:-${TMPDIR:-/tmp}/slurm-$(id -u)}
digest=$(printf %s "$SLURM_ROOT" | cksum | cut -d' ' -f1)
PORT=${SLURM_PORT:-$((20000 + digest % 630 * 20))}  # below 32768: above it an outgoing connection may hold a port
NODES=${SLURM_NODES:-2}
ACCOUNTING=${SLURM_DBD:-1}

# slurm.conf cannot hold a space: behind such a folder the daemons see a link without one
HOME_DIR=$SLURM_ROOT
case $HOME_DIR in *[[:space:]]*) HOME_DIR=${TMPDIR:-/tmp}/slurm-link-$(id -u)-$digest ;; esac
DB_DIR=${SLURM_DB_DIR:-$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/slurm-db-$(id -u)-$digest}
export SLURM_CONF=$HOME_DIR/slurm.conf

running() {  # running NAME: is the process of run/NAME.pid alive?
  local pid
  pid=$(cat "$HOME_DIR/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

until_true() {  # until_true SECONDS WHAT COMMAND...: poll a command
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until timeout 5 "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "slurm: $what did not come up; see $HOME_DIR/log" >&2
      return 1
    fi
    sleep 0.05
  done
}

with_id() {  # with_id JOB: pids of this cluster's processes that belong to Slurm job JOB ("": of any, and step managers)
  local environ pid
  for environ in /proc/[0-9]*/environ; do
    pid=${environ#/proc/}
    pid=${pid%/environ}
    [ "$pid" = $$ ] && continue
    grep -zqxF "SLURM_CONF=$SLURM_CONF" "$environ" 2>/dev/null || continue
    if grep -zq "^SLURM_JOB_ID=${1:-[0-9]}" "$environ" 2>/dev/null; then
      echo "$pid"
    elif [ -z "$1" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = slurmstepd ]; then
      echo "$pid"
    fi
  done
}
