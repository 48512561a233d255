#!/usr/bin/env bash
# Pretraining on two nodes of a Slurm that runs on this machine alone: see two_nodes.py.
# Skipped, with a message, where it cannot run: without root, or without Debian's packages.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
if [ "$(id -u)" != 0 ]; then echo "skipped: namespaces and Slurm need root"; exit 0; fi
folder=$(mktemp -d "${TMPDIR:-/tmp}/two_nodes.XXXX")
trap 'rm -rf "$folder"' EXIT
code=0
PYTHONPATH=$here/../..${PYTHONPATH:+:$PYTHONPATH} timeout -k 10 1500 \
  env GPUS=1 "$here/cluster.sh" "$folder/slurm" "${PYTHON:-python}" "$here/two_nodes.py" "$folder" || code=$?
if [ "$code" = 77 ]; then exit 0; fi # cluster.sh has said why
exit "$code"
