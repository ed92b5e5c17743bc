#!/usr/bin/env bash
# Rents a machine with SkyPilot, measures every GPU of it, brings the run files home to FOLDER and gives it back.
#
#   bench/recipes/sky.sh a100|h100 FOLDER
#   FLEET="--model llama-3.1-8b"     words for `flopwatt fleet run`
set -euo pipefail

gpu=${1:?usage: sky.sh a100|h100 FOLDER}
folder=${2:?a folder for the run files}
cluster=flopwatt-$gpu
here=$(dirname "$0")
# Whatever happens, the machine is given back, and SkyPilot takes it down itself where this script cannot.
trap 'sky down --yes "$cluster"' EXIT
sky launch --yes --idle-minutes-to-autostop 20 --down --cluster "$cluster" \
    --env FLEET="${FLEET:---suite quick}" "$here/sky-$gpu.yaml" || echo "sky.sh: the run failed; fetching what there is" >&2
mkdir -p "$folder"
fetch() { ssh "$cluster" 'tar -c -C sky_workdir/out .' | tar -x -C "$folder"; }
fetch || { sleep 5 && fetch; } # once more, since the machine goes with what is on it
