#!/usr/bin/env bash
# Every GPU of one machine that ssh reaches; the run files come home to FOLDER. From a checkout:
#
#   bench/recipes/ssh.sh HOST FOLDER [WORD…]      WORD…: of `flopwatt fleet run`
#
# The committed tree goes over and `make setup-fleet` installs what it needs there: nothing but Python, make and, for
# Triton, a C compiler must be there. Whatever ends the run, what was measured comes home; where the connection itself
# is lost it stays in HOST:flopwatt/out, which the next run moves aside.
set -euo pipefail

host=${1:?usage: ssh.sh HOST FOLDER [WORD…]}
folder=${2:?a folder for the run files}
shift 2
words=("$@" -o out)
# shellcheck disable=SC2016 # for the shell over there
remote='mkdir -p flopwatt && cd flopwatt && { [ ! -e out ] || mv out "out-$(date +%s)"; } && tar -x && make setup-fleet >&2 &&
    { .venv/bin/flopwatt fleet run "$@" >&2; code=$?; tar -c -C out . && exit $code; }'
mkdir -p "$folder"
# shellcheck disable=SC2029 # quoted here, for there
git archive HEAD | ssh "$host" "bash -c $(printf '%q ' "$remote" fleet "${words[@]}")" | tar -x -C "$folder"
