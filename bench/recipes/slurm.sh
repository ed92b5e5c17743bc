#!/usr/bin/env bash
#SBATCH --job-name=flopwatt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=01:00:00
#SBATCH --output=flopwatt-%j.log
# Every GPU of a Slurm allocation, measured in one fleet run. From a checkout on the login node, where `make fleet` or
# `pip install '.[measure,fleet]'` has been done once, to the run files on your own machine:
#
#   ssh LOGIN 'cd flopwatt && sbatch --wait bench/recipes/slurm.sh >&2; tar -c fleet-slurm' | tar -x
#
#   FLEET="--model llama-3.1-8b --together"     words for `flopwatt fleet run`
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
read -r -a words <<<"${FLEET:---suite quick}"
folder=fleet-slurm
if [ -e "$folder/account.json" ]; then
    words=(--resume "$folder") # after a time limit, the same job once more
else
    words+=(-o "$folder")
fi
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN # srun hands it to every node
read -r first <<<"$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
address=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname -I | awk '{print $1}')
# A minute after node 0 is done, whoever has not noticed is ended.
# shellcheck disable=SC2016 # each node's own rank
srun --ntasks-per-node=1 --wait=60 --kill-on-bad-exit=0 \
    bash -c 'exec bash bench/recipes/node.sh "$SLURM_PROCID" "$SLURM_NNODES" "$@"' node "$address" "${words[@]}"
