#!/usr/bin/env bash
# The embedded model, from pictures to the package: train, export, evaluate.
#
#   IVM_DATA=folder-of-packs runs/compact.sh OUT                 from nothing
#   IVM_DATA=folder-of-packs runs/compact.sh OUT --go-on SEED    on from the committed weights, on fresh pictures
#
# FLAT steps at 128 pixels at a constant learning rate, then LAST steps at 192 in which it falls to zero; 32
# pictures a step, three instructions each, and every name in it asked of every picture. Interrupted, the same
# command goes on. On one core of a 2-core AMD EPYC, about 10 pictures a second at 128; twice as long gives better
# weights. docs/development/compact-log.md tells what the shipped weights saw. TEACHER=weights.safetensors, of a
# larger model that runs/train_compact.py trained (--sizes), makes half of the loss that of differing from it.
set -euo pipefail
out=${1:?"which folder is the run kept in?"}
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
flat=${FLAT:-2800} last=${LAST:-900} threads=${THREADS:-2}
start=() seed=0
if [ "${2:-}" = --go-on ]; then
  seed=${3:?"--go-on needs a seed that no earlier run had"}
  start=(--init runs/weights/compact.safetensors --warmup 150)
fi
# Freed memory is kept for the next step instead of being given back: up to a third faster.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
mix=(photos=4 tabletop=4 collage=2 places=1)
how=(--optimizer muon --names-weight 0.15)
[ -z "${TEACHER:-}" ] || how+=(--teacher "$TEACHER")
common=(--threads "$threads" --seed "$seed" --save-every 300 --mix "${mix[@]}" "${how[@]}" "${start[@]}")
total=$((flat + last))

reached=$(ls "$out"/average-*.safetensors 2>/dev/null | sed 's/.*average-\(.*\)\.safetensors/\1/' | sort -n | tail -1)
if [ "${reached:-0}" -lt "$flat" ]; then
  "$python" runs/train_compact.py "$out" --size 128 --steps "$flat" --decay 1 "${common[@]}"
fi
"$python" runs/train_compact.py "$out" --size 192 --steps "$total" --decay "$last" "${common[@]}"
"$python" runs/train_found.py "$out/average-$total.safetensors" "$out/final.safetensors" --photos 900 --scenes 1000
"$python" runs/export_compact.py "$out/final.safetensors" --image-size "${IMAGE_SIZE:-192}"
"$python" runs/evaluate_compact.py --scenes 200 --out docs/reports/compact.json
"$python" runs/compact_checks.py
"$python" runs/model_card.py
