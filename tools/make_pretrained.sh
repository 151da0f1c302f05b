#!/usr/bin/env bash
# Makes the model in the box, mic_tf/pretrained, from NSynth and two SoundFonts:
#   bash tools/make_pretrained.sh --source=FOLDER_WITH_NSYNTH_ARCHIVES
#
# --folder=DIR     data and runs (pretrained-work); run again, what is done is reused,
#                  and after an interruption it goes on
# --soundfont=A,B  FluidR3_GM.sf2 and MuseScore_General_Full.sf3 (by default where
#                  Debian's fluid-soundfont-gm and musescore-general-soundfont put them)
# --out=DIR        the model (mic_tf/pretrained)
set -euo pipefail
# shellcheck source=tools/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=tools/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

source_folder=
folder=pretrained-work
soundfonts=/usr/share/sounds/sf2/FluidR3_GM.sf2
soundfonts+=,/usr/share/sounds/sf3/MuseScore_General_Full.sf3
out=mic_tf/pretrained
for argument in "$@"; do
  case $argument in
    --source=*) source_folder=${argument#*=} ;;
    --folder=*) folder=${argument#*=} ;;
    --soundfont=*) soundfonts=${argument#*=} ;;
    --out=*) out=${argument#*=} ;;
    *) fail "$argument: --source, --folder, --soundfont or --out expected" ;;
  esac
done
[ -n "$source_folder" ] ||
  fail "--source: missing; give the folder with nsynth-train.jsonwav.tar.gz and" \
    "nsynth-valid.jsonwav.tar.gz"
[ -d "$source_folder" ] || fail "--source=$source_folder: no such folder"
for soundfont in ${soundfonts//,/ }; do
  [ -f "$soundfont" ] || fail "$soundfont: no such file; name it with --soundfont=A,B"
done

data=$folder/data
nsynth=$data/nsynth_jsonwav/1.0.0/dataset_info.json
rendered=$data/soundfont_notes/mit/1.0.0/dataset_info.json
first_config=mic_tf/configs/best.cfg
second_config=mic_tf/configs/best2.cfg
first=$folder/stage1
second=$folder/stage2
metrics=$second/eval/nsynth_jsonwav-valid/metrics.json

prepare_nsynth() {
  "$python" -m mic_tf.prepare --dataset=nsynth_jsonwav --source="$source_folder" \
    --data_dir="$data"
}

prepare_soundfonts() {
  "$python" -m mic_tf.prepare --dataset=soundfont_notes/mit --uniform \
    --max_notes=11000 --soundfont="$soundfonts" --data_dir="$data"
}

train_first() {
  "$python" -m mic_tf.train --flagfile="$first_config" --data_dir="$data" \
    --workdir="$first"
}

train_second() {
  "$python" -m mic_tf.train --flagfile="$second_config" --data_dir="$data" \
    --init_from="$first" --workdir="$second"
}

evaluate() {
  "$python" -m mic_tf.evaluate --workdir="$second" --data_dir="$data" --split=valid \
    --effects
}

export_model() {
  "$python" -m mic_tf.export --workdir="$second" --out="$out" --weights --tflite=
}

write_card() {
  "$python" tools/write_model_card.py --workdir="$second" --data_dir="$data" \
    --model="$out"
}

use_environment dev
cd "$project"
[ -f "$second_config" ] || fail "$second_config: no such file; it is the second stage"
step nsynth "$nsynth" -- prepare_nsynth
step soundfonts "$rendered" -- prepare_soundfonts
step "stage 1" "$first/calibration.json" "$first_config" "$nsynth" "$rendered" -- \
  train_first
step "stage 2" "$second/calibration.json" "$second_config" "$first/calibration.json" -- \
  train_second
step evaluate "$metrics" "$second/calibration.json" -- evaluate
step export "$out/contract.json" "$metrics" -- export_model
step card "$out/MODEL_CARD.md" "$out/contract.json" "$metrics" \
  tools/write_model_card.py -- write_card
say "" "== result"
"$python" tools/print_figures.py "$metrics"
printf '%s\n' "" "${report[@]}"
say "" "model     $out" "card      $out/MODEL_CARD.md"
