#!/usr/bin/env bash
# The DWSL experiment, run by run; interrupted, the same command goes on. Then its figures and plots.
#
#   IVM_DATA=folder-of-packs runs/dwsl.sh OUT reduced     64 px, 25,600 pictures a run: 42 runs of 2 to 8 minutes on a core
#   IVM_DATA=folder-of-packs runs/dwsl.sh OUT             128 px, 30,000 pictures a run in bf16: about 10 minutes each
#   IVM_DATA=folder-of-packs runs/dwsl.sh OUT --go-on docs/reports/dwsl-full.json      only those that are not there yet
set -euo pipefail
out=${1:?"which folder are the results kept in?"}
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
shift
if [ "${1:-}" = reduced ]; then
  "$python" runs/dwsl.py run "$out" --size 64 --pictures 25600
  "$python" runs/dwsl.py report "$out"
else
  "$python" runs/dwsl.py run "$out" --size 128 --pictures 30000 --precision bf16 "$@"
  "$python" runs/dwsl.py report "$out" --name dwsl-full
fi
