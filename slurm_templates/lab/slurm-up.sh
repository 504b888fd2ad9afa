#!/usr/bin/env bash
# Bring up a real Slurm on this machine: one controller, virtual nodes with fake typed GPUs, optionally accounting.
# Everything lives in $SLURM_ROOT (see common.sh); /etc is not touched, no systemd is needed, and root only for apt.
# Safe to run again: what runs is left alone. Then:  source "$SLURM_ROOT/env.sh"
set -eEuo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
begun=$(date +%s%N)
# daemons speak into their logs: whoever started this sees their last words when a step fails
trap 'echo "slurm: line $LINENO of slurm-up.sh failed" >&2; tail -n 5 "$HOME_DIR"/log/*.log >&2 2>/dev/null || true' ERR
user=$(id -un)

install_packages() {
  local wanted=(slurmctld slurmd slurm-client munge) missing=() package
  [ "$ACCOUNTING" = 1 ] && wanted+=(slurmdbd mariadb-server)
  for package in "${wanted[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  [ "$(id -u)" = 0 ] || { echo "slurm: as root, run: apt-get install ${missing[*]}" >&2; exit 1; }
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
}

make_folders() {
  mkdir -p "$SLURM_ROOT"
  [ "$HOME_DIR" = "$SLURM_ROOT" ] || ln -sfn "$SLURM_ROOT" "$HOME_DIR"
  mkdir -p "$HOME_DIR"/{run,log,state,munge,gpu}
  chmod 755 "$SLURM_ROOT" "$HOME_DIR/munge"
  local gpu
  for gpu in 0 1 2 3; do ln -sfn /dev/null "$HOME_DIR/gpu/nvidia$gpu"; done  # gres wants character devices
  printf 'export SLURM_CONF=%q SLURM_ROOT=%q\n' "$SLURM_CONF" "$SLURM_ROOT" >"$HOME_DIR/env.sh"
}

start_munge() {
  running munged && return
  local key=$HOME_DIR/munge/key
  [ -s "$key" ] || (umask 077 && head -c 256 /dev/urandom >"$key")
  rm -f "$HOME_DIR"/munge/socket*
  munged --force --num-threads=2 --key-file="$key" --socket="$HOME_DIR/munge/socket" \
    --seed-file="$HOME_DIR/munge/seed" --pid-file="$HOME_DIR/run/munged.pid" --log-file="$HOME_DIR/log/munged.log" \
    2>>"$HOME_DIR/log/munged.log"
  until_true 10 munge bash -c "munge -S '$HOME_DIR/munge/socket' -n | unmunge -S '$HOME_DIR/munge/socket'"
}

start_database() {
  running mariadb && return
  local owner=$user
  [ "$(id -u)" = 0 ] && owner=mysql
  [ -s "$HOME_DIR/run/db.secret" ] || (umask 077 && head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$HOME_DIR/run/db.secret")
  if [ ! -d "$DB_DIR/mysql" ]; then
    mkdir -p "$DB_DIR" && chown "$owner" "$DB_DIR"
    mariadb-install-db --no-defaults --user="$owner" --datadir="$DB_DIR" --skip-test-db --skip-name-resolve \
      --auth-root-authentication-method=socket >"$HOME_DIR/log/mariadb-install.log" 2>&1
    rm -rf "$HOME_DIR"/state/{accounts,clustername}  # an empty database knows no accounts of an older life
  fi
  {  # one statement a line: several on one do not all run
    echo "CREATE DATABASE IF NOT EXISTS slurm;"
    echo "CREATE OR REPLACE USER slurm@127.0.0.1 IDENTIFIED BY '$(cat "$HOME_DIR/run/db.secret")';"
    echo "GRANT ALL ON slurm.* TO slurm@127.0.0.1;"
  } >"$DB_DIR/init.sql"
  chown "$owner" "$DB_DIR/init.sql" && chmod 600 "$DB_DIR/init.sql"
  # accounting of a test may be lost with the machine: no flush, no double write
  setsid mariadbd --no-defaults --user="$owner" --datadir="$DB_DIR" --socket="$DB_DIR/socket" \
    --bind-address=127.0.0.1 --port=$((PORT + 1)) --init-file="$DB_DIR/init.sql" --skip-name-resolve \
    --performance-schema=OFF --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 --sync-binlog=0 \
    >"$HOME_DIR/log/mariadb.log" 2>&1 </dev/null &
  echo $! >"$HOME_DIR/run/mariadb.pid"
  until_true 60 MariaDB bash -c "echo >/dev/tcp/127.0.0.1/$((PORT + 1))"
}

start_accounting() {
  (umask 077 && cat >"$HOME_DIR/slurmdbd.conf") <<EOF
AuthType=auth/munge
AuthInfo=socket=$HOME_DIR/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT + 2))
SlurmUser=$user
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 1))
StorageUser=slurm
StoragePass=$(cat "$HOME_DIR/run/db.secret")
StorageLoc=slurm
PidFile=$HOME_DIR/run/slurmdbd.pid
LogFile=$HOME_DIR/log/slurmdbd.log
EOF
  running slurmdbd || slurmdbd  # it finds its file next to $SLURM_CONF
  until_true 60 slurmdbd sacctmgr -n list cluster
  [ -e "$HOME_DIR/state/accounts" ] && return
  local manage=(sacctmgr -i -Q)
  {
    "${manage[@]}" add cluster lab
    "${manage[@]}" add qos low,high
    "${manage[@]}" modify qos high set preempt=low priority=100
    "${manage[@]}" add account lab cluster=lab
    "${manage[@]}" add user "$user" account=lab cluster=lab qos=normal,low,high defaultqos=normal
    "${manage[@]}" modify user "$user" set defaultaccount=lab  # root has an account of its own otherwise
  } >"$HOME_DIR/log/accounts.log" 2>&1 || true  # re-run after a half-finished first time: "nothing new added"
  touch "$HOME_DIR/state/accounts"
}

write_configuration() {
  local host node
  host=$(hostname -s)
  {
    cat <<EOF
# -- who and where
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
SlurmctldPort=$((PORT + 3))
SlurmdPort=$((PORT + 4))
AuthType=auth/munge
# a requeued job is held until its credential expires: below 5 s Slurm takes its default of two minutes
AuthInfo=socket=$HOME_DIR/munge/socket,cred_expire=5
StateSaveLocation=$HOME_DIR/state
SlurmdSpoolDir=$HOME_DIR/run/spool-%n
SlurmctldPidFile=$HOME_DIR/run/slurmctld.pid
SlurmdPidFile=$HOME_DIR/run/slurmd-%n.pid
SlurmctldLogFile=$HOME_DIR/log/slurmctld.log
SlurmdLogFile=$HOME_DIR/log/slurmd-%n.log
# -- an unprivileged single machine
MpiDefault=none
SwitchType=switch/none
TaskPlugin=task/none
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
GresTypes=gpu
# -- jobs share virtual nodes; memory is watched every second
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=512
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
# -- everything happens soon
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,bf_resolution=1
PriorityType=priority/basic
SlurmctldTimeout=10
SlurmdTimeout=6
MessageTimeout=10
KillWait=4
MinJobAge=300
InactiveLimit=0
ReturnToService=2
# -- what tests need to happen
JobRequeue=1
PreemptType=preempt/qos
PreemptMode=REQUEUE
EOF
    if [ "$ACCOUNTING" = 1 ]; then
      cat <<EOF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 2))
AccountingStoragePass=$HOME_DIR/munge/socket
AccountingStorageTRES=gres/gpu,gres/gpu:a100
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment
EOF
    else
      echo "AccountingStorageType=accounting_storage/none"
    fi
    for node in $(seq "$NODES"); do
      echo "NodeName=g$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((PORT + 4 + node)) CPUs=32 CoresPerSocket=32" \
        "RealMemory=240000 Gres=gpu:a100:4 Feature=a100,a100-80g"
    done
    echo "PartitionName=gpu Nodes=g[1-$NODES] Default=YES State=UP MaxTime=INFINITE"
    [ -z "${SLURM_EXTRA:-}" ] || printf '%s\n' "$SLURM_EXTRA"
  } >"$HOME_DIR/slurm.conf"
  # devices must be named: with a bare count the nodes come up invalid
  echo "NodeName=g[1-$NODES] Name=gpu Type=a100 File=$HOME_DIR/gpu/nvidia[0-3]" >"$HOME_DIR/gres.conf"
}

start_slurm() {
  local node
  running slurmctld || slurmctld
  for node in $(seq "$NODES"); do
    mkdir -p "$HOME_DIR/run/spool-g$node"
    running "slurmd-g$node" || slurmd -N "g$node"
  done
  until_true 30 slurmctld bash -c 'scontrol ping | grep -q UP'
  until_true 30 "a node" bash -c "[ \$(sinfo -h -N -t idle,mix,alloc -o %N | sort -u | wc -l) = $NODES ]"
}

install_packages
make_folders
start_munge
write_configuration
if [ "$ACCOUNTING" = 1 ]; then
  start_database
  start_accounting
fi
start_slurm
echo "slurm: $NODES nodes up in $((($(date +%s%N) - begun) / 1000000)) ms; source $HOME_DIR/env.sh"
