#!/usr/bin/env bash
# A real Slurm of one machine for tests: munge, slurmctld and two slurmd (nodes cpu1 and gpu1) on
# loopback, GPUs that are links to /dev/null. Debian, root; no systemd, no containers.
#   slurm.sh up       installs what is missing, writes the settings, starts what does not run
#   slurm.sh restart  ends the controller and starts it again
#   slurm.sh down     ends what it started, by its pid files, and removes its settings
set -euo pipefail
unset SLURM_CONF
export PATH=/usr/sbin:/sbin:/usr/bin:/bin:$PATH DEBIAN_FRONTEND=noninteractive
base=${SLURM_TEST_FOLDER:-/tmp/patchwork-slurm}
settings=/etc/slurm # where every command of Slurm looks
socket=$base/run/munge.socket
host=$(hostname -s)
port=6817
gpus=1

say() { echo "slurm.sh: $*" >&2; }
pid() { cat "$base/run/$1.pid" 2>/dev/null || true; }
runs() { # <name of the pid file> <command>
  local process
  process=$(pid "$1")
  [ -n "$process" ] && [ "$(cat "/proc/$process/comm" 2>/dev/null)" = "$2" ] &&
    ! grep -q '^State:.Z' "/proc/$process/status"
}
until_true() { # <seconds> <command>
  local seconds=$1 i
  shift
  for ((i = 0; i < seconds * 10; i++)); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1
  done
  say "still not so after $seconds s: $*"
  tail -n 15 "$base"/log/*.log >&2
  exit 1
}
end() { # <name of the pid file> <command>
  runs "$@" || return 0
  kill "$(pid "$1")"
  until_true 30 not_running "$@"
}
not_running() { ! runs "$@"; }

install_packages() {
  dpkg-query -W -f='${db:Status-Status}\n' slurm-wlm munge 2>/dev/null | grep -c '^installed$' | grep -qx 2 && return
  # The packages would start services of their own: these two do nothing in place of Debian's.
  local stubs one
  stubs=$(mktemp -d)
  chmod 755 "$stubs"
  for one in invoke-rc.d deb-systemd-invoke; do install -m 755 /dev/stdin "$stubs/$one" <<<'#!/bin/sh'; done
  say "installing slurm-wlm and munge"
  { apt-get -qq update && apt-get -qq -y --no-install-recommends \
    -o DPkg::Path="$stubs:/usr/sbin:/usr/bin:/sbin:/bin" install slurm-wlm munge; } >"$base/log/apt.log" 2>&1 ||
    { tail -n 20 "$base/log/apt.log" >&2; exit 1; }
  rm -rf "$stubs"
}

write_settings() {
  if [ -e $settings/slurm.conf ] && ! grep -q 'ClusterName=patchworktest' $settings/slurm.conf; then
    say "$settings/slurm.conf belongs to another Slurm; allowed is a machine without one"
    exit 1
  fi
  mkdir -p $settings
  local i addresses="# the host name is not 127.0.0.1: the daemons listen on all addresses"
  # Bound to anything else than 127.0.0.1, steps of a job may hang.
  if getent ahostsv4 "$host" | grep -q '^127\.0\.0\.1 '; then
    addresses=CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
  fi
  # Slurm reads a GPU's index from the end of its file's name.
  for ((i = 0; i < gpus; i++)); do ln -sfn /dev/null "$base/dev/nvidia$i"; done
  cat >$settings/gres.conf <<EOF
AutoDetect=off
NodeName=gpu1 Name=gpu Type=test File=$base/dev/nvidia[0-$((gpus - 1))]
EOF
  echo CgroupPlugin=cgroup/v1 >$settings/cgroup.conf # loaded, but nothing below uses it
  cat >$settings/slurm.conf <<EOF
ClusterName=patchworktest
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$socket
$addresses
SlurmctldPort=$port
SlurmctldPidFile=$base/run/slurmctld.pid
SlurmdPidFile=$base/run/slurmd-%n.pid
SlurmctldLogFile=$base/log/slurmctld.log
SlurmdLogFile=$base/log/slurmd-%n.log
StateSaveLocation=$base/spool/slurmctld
SlurmdSpoolDir=$base/spool/slurmd-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
GresTypes=gpu
SchedulerParameters=bf_interval=5,sched_interval=5,batch_sched_delay=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc=$base/log/jobs.txt
KillWait=5
MinJobAge=3600
ReturnToService=2
AccountingStorageType=accounting_storage/none
NodeName=cpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=${SLURM_TEST_CPUS:-8} RealMemory=32000 State=UNKNOWN
NodeName=gpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 11)) CPUs=${SLURM_TEST_CPUS:-8} RealMemory=32000 Gres=gpu:test:$gpus State=UNKNOWN
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=gpu Nodes=gpu1 MaxTime=1-00:00:00 State=UP
EOF
}

start_munge() {
  [ -s "$base/run/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$base/run/munge.key")
  runs munged munged || {
    rm -f "$base/run/munged.pid" "$socket"*
    munged --key-file="$base/run/munge.key" --socket="$socket" --pid-file="$base/run/munged.pid" \
      --log-file="$base/log/munged.log" --seed-file="$base/run/munge.seed"
  }
  until_true 10 bash -c "munge -n -S $socket | unmunge -S $socket"
}

start_controller() {
  runs slurmctld slurmctld || {
    rm -f "$base/run/slurmctld.pid"
    slurmctld
  }
  until_true 30 scontrol ping
}

nodes_ready() {
  [ "$(sinfo -h -N -n cpu1,gpu1 -o %T | grep -cE '^(idle|mixed|allocated)$')" = 2 ] || {
    scontrol update nodename=cpu1,gpu1 state=resume
    false
  }
}

up() {
  mkdir -p "$base"/{run,log,dev,spool/slurmctld,spool/slurmd-cpu1,spool/slurmd-gpu1}
  chmod 755 "$base" "$base"/*/
  install_packages
  write_settings
  start_munge
  start_controller
  local node
  for node in cpu1 gpu1; do
    runs "slurmd-$node" slurmd || {
      rm -f "$base/run/slurmd-$node.pid"
      slurmd -N "$node"
    }
  done
  until_true 30 nodes_ready
}

down() {
  # A job outlives its daemon, so jobs end first, through Slurm.
  if runs slurmctld slurmctld && timeout 5 scontrol ping >/dev/null 2>&1; then
    squeue -h -o %A | xargs -r timeout 20 scancel || true
    for _ in {1..40}; do
      [ -z "$(timeout 5 squeue -h -o %A)" ] && break
      sleep 0.5
    done
  fi
  end slurmd-cpu1 slurmd
  end slurmd-gpu1 slurmd
  end slurmctld slurmctld
  end munged munged
  grep -qs 'ClusterName=patchworktest' $settings/slurm.conf && rm -f $settings/{slurm,gres,cgroup}.conf
  rm -rf "$base"
}

case ${1:-} in
up) up ;;
restart)
  end slurmctld slurmctld
  start_controller
  ;;
down) down ;;
*)
  say "'${1:-}' is no command; allowed are up, restart, down"
  exit 2
  ;;
esac
