#!/usr/bin/env bash
# A Slurm of two nodes on this machine, for one command:  cluster.sh FOLDER COMMAND...
# Controller and nodes are namespaces with hostnames and a network of their own, which nobody else
# sees. They end with the command, whatever happens. Needs root and Debian's Slurm.
#   FOLDER  for configuration, spool and logs; COMMAND runs beside the controller
#   CPUS    of each node (default 2); GPUS  of each, pretended (default 0)
set -euo pipefail

if [ -z "${IN_CLUSTER:-}" ]; then
  missing=""
  for program in slurmctld slurmd srun munged ip; do command -v "$program" > /dev/null || missing="$missing $program"; done
  if [ -n "$missing" ]; then
    echo "installing Debian's Slurm: no$missing here" >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends slurmctld slurmd slurm-client munge iproute2; } \
      > /dev/null 2>&1 || { echo "skipped: no$missing here, and apt-get cannot install them" >&2; exit 77; }
  fi
  mkdir -p "$1"
  # A pid namespace of its own: when its first process ends, the kernel ends all others.
  IN_CLUSTER=1 exec unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc "$0" "$@"
fi

S=$(realpath "$1"); shift
rm -rf "$S"/{log,state,spool} # of a cluster that was here before
mkdir -p "$S"/{etc,log,state,spool,gpu,munge} /etc/slurm /run/munge
hostname ctl
printf '127.0.0.1 localhost\n10.99.0.1 ctl\n10.99.0.11 node1\n10.99.0.12 node2\n' > "$S/hosts"
mount --bind "$S/hosts" /etc/hosts
mount --bind "$S/etc" /etc/slurm # seen in here alone; Snakemake's jobs forget SLURM_CONF
mount -t tmpfs none /run/munge

ip link set lo up
ip link add br0 type bridge
ip address add 10.99.0.1/24 dev br0
ip link set br0 up
declare -A holder
for n in 1 2; do # a process holds the namespaces of each node
  unshare --net --uts sleep infinity & holder[$n]=$!
done
inside() { nsenter --target "${holder[$1]}" --net --uts "${@:2}"; }
for n in 1 2; do
  until [ "$(readlink /proc/self/ns/net)" != "$(readlink "/proc/${holder[$n]}/ns/net")" ]; do sleep 0.05; done
  ip link add "to$n" type veth peer name eth0 netns "${holder[$n]}"
  ip link set "to$n" master br0 up
  inside "$n" sh -c "hostname node$n; ip link set lo up; ip address add 10.99.0.1$n/24 dev eth0; ip link set eth0 up"
done

gres=""
: > /etc/slurm/gres.conf
if [ "${GPUS:-0}" -gt 0 ]; then # copies of /dev/null: they are scheduled, and compute nothing
  for i in $(seq 0 $((GPUS - 1))); do [ -e "$S/gpu/nvidia$i" ] || mknod "$S/gpu/nvidia$i" c 1 3; done
  gres="Gres=gpu:$GPUS"
  files=$([ "$GPUS" = 1 ] && echo "nvidia0" || echo "nvidia[0-$((GPUS - 1))]")
  echo "NodeName=node[1-2] Name=gpu File=$S/gpu/$files" > /etc/slurm/gres.conf
fi
echo "CgroupPlugin=cgroup/v1" > /etc/slurm/cgroup.conf
cat > /etc/slurm/slurm.conf << CONF
ClusterName=toy
SlurmctldHost=ctl(10.99.0.1)
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket=/run/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$S/state
SlurmdSpoolDir=$S/spool/%n
SlurmctldPidFile=$S/slurmctld.pid
SlurmdPidFile=$S/slurmd.%n.pid
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdLogFile=$S/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,defer_batch=no
MinJobAge=900
KillWait=20
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
NodeName=node1 NodeAddr=10.99.0.11 CPUs=${CPUS:-2} RealMemory=8000 $gres State=UNKNOWN
NodeName=node2 NodeAddr=10.99.0.12 CPUs=${CPUS:-2} RealMemory=8000 $gres State=UNKNOWN
PartitionName=cpu Nodes=node[1-2] Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes=node[1-2] MaxTime=60 State=UP
PartitionName=long Nodes=node[1-2] MaxTime=600 State=UP
PartitionName=urgent Nodes=node[1-2] MaxTime=60 PriorityTier=10 State=UP
CONF
[ -s "$S/munge/key" ] || head -c 1024 /dev/urandom > "$S/munge/key"
chmod 700 "$S/munge"; chmod 400 "$S/munge/key"
munged --force --socket=/run/munge/socket --key-file="$S/munge/key" --pid-file="$S/munge/pid" \
  --log-file="$S/munge/log" --seed-file="$S/munge/seed"
slurmctld
start_node() { inside "$1" slurmd -N "node$1"; }
for n in 1 2; do start_node "$n"; done
for _ in $(seq 150); do
  [ "$(sinfo -h -N -o %T 2> /dev/null | grep -c '^idle$')" -ge 2 ] && ready=1 && break
  sleep 0.2
done
if [ -z "${ready:-}" ]; then
  echo "the two nodes are not ready after 30 s:" >&2; sinfo -N >&2 || true; tail -n 20 "$S"/log/* >&2; exit 1
fi
export NODE1=${holder[1]} NODE2=${holder[2]} # whose namespaces are those of the nodes
"$@"
