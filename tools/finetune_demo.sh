#!/usr/bin/env bash
# Fine-tunes a model on 20 notes of each of five classes that it does not know (banjo,
# bagpipe, kalimba, koto, sitar), 4 of which the temperature is fitted on, and measures it
# on 20 others of each:
#   bash tools/finetune_demo.sh
#
# --init_from=DIR       the weights: a run, an export with weights (pretrained: the
#                       bundled model)
# --folder=DIR          where everything goes (quickstart/finetune)
# --soundfont=FILE      renders the training notes (default: TimGM6mb)
# --test_soundfont=FILE renders the test notes (default: the same, other pitches)
set -euo pipefail
# shellcheck source=tools/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=tools/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

weights=pretrained
folder=quickstart/finetune
soundfonts=()
for argument in "$@"; do
  case $argument in
    --init_from=*) weights=$(absolute "${argument#*=}") ;;
    --folder=*) folder=$(absolute "${argument#*=}") ;;
    --soundfont=* | --test_soundfont=*)
      soundfonts+=("${argument%%=*}=$(absolute "${argument#*=}")")
      ;;
    *) fail "$argument: --init_from, --folder, --soundfont or --test_soundfont expected" ;;
  esac
done

notes=$folder/notes
data=$folder/data
run=$folder/run
config=mic_tf/configs/finetune.cfg
prepared=$data/sample_folder/demo/1.0.0/dataset_info.json
metrics=$run/eval/sample_folder_demo-test/metrics.json

render() {
  "$python" tools/write_new_classes.py --out="$notes" ${soundfonts[@]+"${soundfonts[@]}"}
}

prepare() {
  "$python" -m mic_tf.prepare --dataset=sample_folder/demo --source="$notes" \
    --data_dir="$data"
}

train() {
  "$python" -m mic_tf.train --flagfile="$config" --dataset=sample_folder/demo \
    --data_dir="$data" --init_from="$weights" --workdir="$run"
}

evaluate() {
  "$python" -m mic_tf.evaluate --workdir="$run" --data_dir="$data" --split=test
}

use_environment
cd "$project"
made_with "$folder" "$weights" ${soundfonts[@]+"${soundfonts[@]}"}
step render "$notes/written.txt" -- render
step prepare "$prepared" "$notes/written.txt" -- prepare
step train "$run/calibration.json" "$config" "$prepared" -- train
step evaluate "$metrics" "$run/calibration.json" -- evaluate
say "" "== result"
cat "$notes/written.txt"
"$python" tools/print_figures.py "$metrics"
printf '%s\n' "" "${report[@]}"
