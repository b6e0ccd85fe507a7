#!/usr/bin/env bash
# Full-size timing on a GPU, without weights: every method at several ratios and batch sizes, model by model.
#
#   scripts/gpu_bench.sh                    all four models
#   scripts/gpu_bench.sh eagle-x5-7b        one of them, for machines that lend themselves for ten minutes a call
#
# What is finished in $OUT is not timed again, so a call that was cut off goes on when it is given again. Ends with the
# exit status of the first model that failed; the others are still timed. For a trial on a CPU:
#
#   MODELS=pocket WEIGHTS= DTYPE=float32 METHODS=fastv RATIOS=0.5 BATCHES=1 PASSES=1 OUT=trial scripts/gpu_bench.sh
set -uo pipefail
cd "$(dirname "$0")/.."

OUT=${OUT:-results/reference/h200}
MODELS=${*:-${MODELS:-eagle-x5-7b eagle-x4-8b-plus llava-1.5-7b llava-video-7b}}
METHODS=${METHODS:-all}
RATIOS=${RATIOS:-0,0.5,0.76,0.889}
# 64 frames of 169 tokens, of which EvoPrune's paper keeps 64, 32 and 16: 1 - 64/169 and so on.
VIDEO_RATIOS=${VIDEO_RATIOS:-0,0.6213,0.8107,0.9053}
VIDEO_FRAMES=${VIDEO_FRAMES:-64}
BATCHES=${BATCHES:-1,8}
PASSES=${PASSES:-20}
WARMUP=${WARMUP:-3}
# Per cell (a ratio and a batch size), so that the eight of a model stay under ten minutes.
SECONDS_PER_CELL=${SECONDS_PER_CELL:-45}
DTYPE=${DTYPE:-bfloat16}
WEIGHTS=${WEIGHTS---random-weights}
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ ! -x .venv/bin/python ] || PYTHON=.venv/bin/python
fi

failed=0
for model in $MODELS; do
    ratios=$RATIOS frames=1
    case $model in *video*) ratios=$VIDEO_RATIOS frames=$VIDEO_FRAMES ;; esac
    # shellcheck disable=SC2086  # WEIGHTS is a flag or nothing
    "$PYTHON" -m meteor_bench latency --model "$model" $WEIGHTS --methods "$METHODS" --ratio "$ratios" \
        --batch "$BATCHES" --frames "$frames" --passes "$PASSES" --warmup "$WARMUP" --seconds "$SECONDS_PER_CELL" \
        --dtype "$DTYPE" --out "$OUT/$model" || { code=$?; [ "$failed" -ne 0 ] || failed=$code; }
done
exit "$failed"
