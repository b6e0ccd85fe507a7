#!/usr/bin/env bash
# Full-size timing on a GPU, without weights: every method at several ratios and batch sizes, model by model.
#
#   scripts/gpu_bench.sh                    all four models
#   scripts/gpu_bench.sh eagle-x5-7b        one of them
#
# A call ends within BENCH_SECONDS (under nine minutes), whatever happens, for machines that lend themselves for ten. It
# leaves one archive per model in BENCH_OUT and goes on from it when it is given again: what is finished is not timed
# again. The rows that matter most come first. Ends with the exit status of the first part that failed (124: its time
# was up); the others are still timed. For a trial on a CPU:
#
#   MODELS=pocket WEIGHTS= DTYPE=float32 METHODS=fastv FIRST= RATIOS=0.5 BATCHES=1 PASSES=1 BENCH_OUT=trial \
#       scripts/gpu_bench.sh
set -uo pipefail
cd "$(dirname "$0")/.."

BENCH_OUT=${BENCH_OUT:-results/reference/h200}
BENCH_SECONDS=${BENCH_SECONDS:-520}
MODELS=${*:-${MODELS:-eagle-x5-7b llava-video-7b llava-1.5-7b eagle-x4-8b-plus}}
METHODS=${METHODS:-all}
# Timed before all others, at the first batch size and MAIN_RATIO; empty for nothing.
FIRST=${FIRST-meteor,evoprune,fastv}
MAIN_RATIO=${MAIN_RATIO:-0.76}
RATIOS=${RATIOS:-0.76,0.5,0.889,0}
# 64 frames of 169 tokens, of which EvoPrune's paper keeps 64, 32 and 16: 1 - 64/169 and so on.
VIDEO_RATIOS=${VIDEO_RATIOS:-0.6213,0.8107,0.9053,0}
VIDEO_FRAMES=${VIDEO_FRAMES:-64}
BATCHES=${BATCHES:-1,8}
PASSES=${PASSES:-20}
WARMUP=${WARMUP:-3}
SECONDS_PER_CELL=${SECONDS_PER_CELL:-45} # a cell is a ratio and a batch size
DTYPE=${DTYPE:-bfloat16}
WEIGHTS=${WEIGHTS---random-weights}
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ ! -x .venv/bin/python ] || PYTHON=.venv/bin/python
fi

end=$((SECONDS + BENCH_SECONDS))
failed=0
work=$(mktemp -d)
mkdir -p "$BENCH_OUT"
trap 'rm -rf "$work"' EXIT

# keep MODEL: what there is of it, as one archive that is whole at any moment
keep() {
    tar -czf "$BENCH_OUT/.$1.part" -C "$work" "$1" && mv "$BENCH_OUT/.$1.part" "$BENCH_OUT/$1.tar.gz"
}

# bench MODEL FOLDER METHODS RATIOS BATCHES: time what is not there yet, while there is time
bench() {
    local left=$((end - SECONDS - 15)) frames=1 code=0
    case $1 in *video*) frames=$VIDEO_FRAMES ;; esac
    if [ "$left" -le 0 ]; then
        [ "$failed" -ne 0 ] || failed=124
        return
    fi
    # shellcheck disable=SC2086  # WEIGHTS is a flag or nothing
    timeout --kill-after=10 --signal=INT "$left" "$PYTHON" -m meteor_bench latency --model "$1" $WEIGHTS \
        --methods "$3" --ratio "$4" --batch "$5" --frames "$frames" --passes "$PASSES" --warmup "$WARMUP" \
        --seconds "$SECONDS_PER_CELL" --dtype "$DTYPE" --out "$work/$1/$2" || code=$?
    [ "$code" -eq 0 ] || [ "$failed" -ne 0 ] || failed=$code
    [ ! -d "$work/$1" ] || keep "$1"
}

for model in $MODELS; do
    [ ! -f "$BENCH_OUT/$model.tar.gz" ] || tar -xzf "$BENCH_OUT/$model.tar.gz" -C "$work"
done
for model in $MODELS; do
    ratio=$MAIN_RATIO
    case $model in *video*) ratio=${VIDEO_RATIOS%%,*} ;; esac
    [ -z "$FIRST" ] || bench "$model" first "$FIRST" "$ratio" "${BATCHES%%,*}"
done
for model in $MODELS; do
    ratios=$RATIOS
    case $model in *video*) ratios=$VIDEO_RATIOS ;; esac
    bench "$model" all "$METHODS" "$ratios" "$BATCHES"
done
exit "$failed"
