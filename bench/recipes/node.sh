#!/usr/bin/env bash
# One node of a fleet run: node 0 starts Ray, measures every GPU of all nodes and writes the run files; the others join
# it, and end when it does.
#
#   bench/recipes/node.sh RANK NODES HEAD_ADDRESS WORD…      WORD…: of `flopwatt fleet run`
#   PORT=6391                     of Ray on node 0
#   RAY_AUTH_TOKEN=…              the same secret on every node: who can reach Ray's port without it runs what he likes there
#   RAY_WORDS="--num-gpus=1"      more words for `ray start`
set -euo pipefail

rank=${1:?usage: node.sh RANK NODES HEAD_ADDRESS WORD…}
nodes=${2:?how many nodes}
head=${3:?the address of node 0}
shift 3
port=${PORT:-6391}
read -r -a ray_words <<<"${RAY_WORDS:-}"
[ "$nodes" -gt 1 ] || RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:?give all nodes the same secret}
[ ! -d "$PWD/.venv/bin" ] || PATH=$PWD/.venv/bin:$PATH

if [ "$rank" -ne 0 ]; then
    for _ in $(seq 60); do
        # Blocks for as long as node 0 lives; an end by then is no failure.
        ray start --block --address="$head:$port" "${ray_words[@]}" >/dev/null 2>&1 && exit 0
        [ "$SECONDS" -lt 60 ] || exit 0
        sleep 2
    done
    exit 1
fi

log=$(mktemp)
ray start --head --block --port="$port" --node-ip-address="$head" --include-dashboard=false "${ray_words[@]}" >"$log" 2>&1 &
ray=$!
# Only this Ray is ended: `ray stop` would end every other on the machine.
trap 'kill "$ray" 2>/dev/null || true; wait "$ray" 2>/dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 120); do
    (: >"/dev/tcp/$head/$port") 2>/dev/null && break
    kill -0 "$ray" 2>/dev/null || {
        tail -n 2 "$log" >&2
        echo "node.sh: Ray did not start at $head:$port: choose another PORT" >&2
        exit 1
    }
    sleep 0.5
done
flopwatt fleet run --address "$head:$port" --nodes "$nodes" "$@"
