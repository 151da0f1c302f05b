#!/usr/bin/env bash
# From nothing to a trained, measured and exported classifier, in minutes on two cores:
#   bash tools/quickstart.sh [FOLDER]
#
# Everything goes into FOLDER (quickstart). Run again, it reuses what is done; after an
# interruption it goes on. NOTES=6000 renders another number of training notes.
set -euo pipefail
# shellcheck source=tools/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=tools/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

folder=$(mkdir -p "${1:-$project/quickstart}" && cd "${1:-$project/quickstart}" && pwd)
folder=${folder#"$project"/}
notes=${NOTES:-3000}
config=mic_tf/configs/quickstart.cfg
data=$folder/data
run=$folder/run
examples=$folder/examples
metrics=$run/eval/soundfont_notes-test/metrics.json
contract=$run/export/contract.json
answers=$folder/answers.txt

prepare() {
  "$python" -m mic_tf.prepare --dataset=soundfont_notes --data_dir="$data" \
    --max_notes="$notes"
  say "$notes" >"$data/notes"
}

train() {
  "$python" -m mic_tf.train --flagfile="$config" --workdir="$run" --data_dir="$data"
}

evaluate() {
  "$python" -m mic_tf.evaluate --workdir="$run" --data_dir="$data" --split=test
}

export_model() {
  "$python" -m mic_tf.export --workdir="$run"
}

predict() {
  "$python" tools/write_notes.py --workdir="$run" --out="$examples"
  "$python" -m mic_tf.predict --model="$run" "$examples" |
    tee "$answers.part"
  mv "$answers.part" "$answers"
}

summary() {
  say "" "== result"
  "$python" tools/print_figures.py "$metrics"
  printf '%s\n' "" "${report[@]}" ""
  printf '%-9s %s\n' "data" "$data" "run" "$run" "figures" "$metrics" \
    "model" "$run/export" "answers" "$answers"
  say "" "Classify your own files:" \
    "  ${python#"$project"/} -m mic_tf.predict --model=$run FILES"
}

use_environment
cd "$project"
if [ -s "$data/notes" ] && [ "$(cat "$data/notes")" != "$notes" ]; then
  fail "$folder was made with NOTES=$(cat "$data/notes"); name another folder"
fi
step prepare "$data/notes" -- prepare
step train "$run/calibration.json" "$config" "$data/notes" -- train
step evaluate "$metrics" "$run/calibration.json" -- evaluate
step export "$contract" "$metrics" -- export_model
step predict "$answers" "$contract" -- predict
summary
