#!/usr/bin/env bash
# The measurements behind results/: what one GPU's sensor is, and what its GEMMs cost, in about half an hour of its time.
#
#   bench/recipes/campaign.sh FOLDER [ROW…]      rows: sensor inputs peak repeat models calibration tune pages
#
# Each row has a budget and a limit of its own and writes its own run file, so that whatever ends one costs no other;
# a row whose file is there already goes on where it ended. `account.txt` says what became of each command.
#   FLOPWATT="python3 -m flopwatt"     how to call flopwatt, where it is not installed
#   SIMULATE=h100                      rehearse on a simulated GPU
#   BASE=FILE                          row pages: peak.jsonl of the GPU to compare with
set -uo pipefail

folder=${1:?usage: campaign.sh FOLDER [ROW…]}
shift
rows=("${@:-}")
[ -n "${rows[0]}" ] || rows=(sensor inputs peak repeat models calibration tune pages)
read -r -a flopwatt <<<"${FLOPWATT:-flopwatt}"
where=()
[ -z "${SIMULATE:-}" ] || where=(--simulate "$SIMULATE")
mkdir -p "$folder"

# attempt SECONDS NAME WORD…: one command under a limit, its output kept, its end noted.
attempt() {
    local limit_s=$1 name=$2 begun=$SECONDS code
    shift 2
    timeout --signal=INT --kill-after=20 "$limit_s" "$@" >"$folder/$name.txt" 2>"$folder/$name.log"
    code=$?
    printf '%-24s exit %3d  %4d s  %s\n' "$name" "$code" $((SECONDS - begun)) "${*//$folder\//}" | tee -a "$folder/account.txt"
}

# measure BUDGET_S NAME WORD…: a run file, begun or continued.
measure() {
    local budget_s=$1 name=$2 file=$folder/$2.jsonl
    shift 2
    if [ -e "$file" ]; then
        attempt $((budget_s + 60)) "$name" "${flopwatt[@]}" run --resume "$file" --budget "${budget_s}s" "${where[@]}"
    else
        attempt $((budget_s + 60)) "$name" "${flopwatt[@]}" run "$@" --budget "${budget_s}s" "${where[@]}" -o "$file"
    fi
    attempt 60 "$name.check" "${flopwatt[@]}" check "$file"
}

triton=(--backend triton-persistent --backend gluon-persistent)

for row in "${rows[@]}"; do
    case $row in
        sensor)
            attempt 150 sensor "${flopwatt[@]}" doctor --sensor "${where[@]}"
            ;;
        inputs)
            measure 150 inputs --shape 8192x8192x8192 --dtype bf16 --effort fast --backend torch \
                --regime burst --regime sustained --inputs normal --inputs uniform --inputs zeros
            ;;
        peak)
            measure 120 peak --suite peak --dtype bf16 --effort fast --backend torch "${triton[@]}"
            measure 60 peak-fp16 --suite peak --dtype fp16 --effort fast --backend torch
            measure 60 peak-tf32 --suite peak --dtype tf32 --effort fast --backend torch
            measure 90 peak-fp8 --suite peak --dtype fp8_e4m3 --effort fast --backend torch-fp8 --backend torch-fp8-fast \
                --backend triton-persistent-fast
            ;;
        repeat)
            measure 150 repeat --shape 8192x8192x8192 --dtype bf16 --effort fast --processes 5 --backend torch
            ;;
        models)
            for model in llama-3.1-8b llama-3.1-70b gpt-3-175b llama-3.1-405b; do
                measure 120 "$model" --model "$model" --effort fast --backend torch --backend triton-persistent
            done
            ;;
        calibration)
            measure 400 calibration --suite calibration
            measure 180 calibration-check --suite calibration-check
            attempt 120 calibrate "${flopwatt[@]}" calibrate "$folder/calibration.jsonl" -o "$folder/calibration.json"
            ;;
        tune)
            for objective in time energy; do
                attempt 200 "tune-$objective" "${flopwatt[@]}" tune --shape 8192x28672x4096 --shape 8192x4096x14336 \
                    --dtype bf16 --layout nt --backend triton-persistent --objective "$objective" --candidates 6 \
                    --budget 170s "${where[@]}" -o "$folder/tuning.json"
            done
            ;;
        pages)
            attempt 120 report "${flopwatt[@]}" report "$folder"/*.jsonl -o "$folder/report.html"
            [ -z "${BASE:-}" ] || attempt 120 compare "${flopwatt[@]}" compare "$BASE" "$folder/peak.jsonl"
            ;;
        *)
            echo "campaign.sh: no row '$row'" >&2
            exit 2
            ;;
    esac
done
