#!/usr/bin/env bash
# A Slurm of two nodes that runs on this machine alone: see two_nodes.py and one_job.py (alone: ONE_JOB=1).
# Skipped, with a message, where it cannot run: without root, or without Debian's packages.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
if [ "$(id -u)" != 0 ]; then echo "skipped: namespaces and Slurm need root"; exit 0; fi
folder=$(mktemp -d "${TMPDIR:-/tmp}/two_nodes.XXXX")
trap 'rm -rf "$folder"' EXIT
code=0
run() { # a program on a cluster with so many GPUs, pretended, at each node
  PYTHONPATH=$here/../..${PYTHONPATH:+:$PYTHONPATH} timeout -k 10 1500 \
    env GPUS="$1" "$here/cluster.sh" "$folder/slurm" "${PYTHON:-python}" "$here/$2" "$folder"
}
{ [ -n "${ONE_JOB:-}" ] || run 1 two_nodes.py; } && run 0 one_job.py || code=$?
if [ "$code" = 77 ]; then exit 0; fi # cluster.sh has said why
exit "$code"
