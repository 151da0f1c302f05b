# shellcheck shell=bash
# Steps that are run unless their result is there already, as `make` would; sourced
# after environment.sh by the scripts beside this file. `report` has a line for each.

report=()

# Whether a file is there and no older than the others.
is_current() {
  local made=$1 source
  [ -s "$made" ] || return 1
  shift
  for source in "$@"; do
    [ ! "$source" -nt "$made" ] || return 1
  done
}

# made_with FOLDER ARGUMENTS...: ends where the folder was begun with other arguments,
# whose results would be taken for those of these.
made_with() {
  local folder=$1 arguments
  shift
  arguments=$(printf '%s\n' "$@")
  if [ -f "$folder/arguments" ] && [ "$(cat "$folder/arguments")" != "$arguments" ]; then
    fail "$folder was begun with $(paste -sd ' ' "$folder/arguments"); name another" \
      "--folder, or take $folder/arguments away if that was never right"
  fi
  mkdir -p "$folder"
  say "$arguments" >"$folder/arguments"
}

# step NAME RESULT SOURCE... -- COMMAND...: runs the command unless RESULT is current.
step() {
  local name=$1 sources=() started=$SECONDS
  shift
  while [ "$1" != -- ]; do
    sources+=("$1")
    shift
  done
  shift
  if is_current "${sources[@]}"; then
    say "" "== $name: done before, reused"
    report+=("$(printf '%-10s  reused' "$name")")
    return
  fi
  say "" "== $name"
  "$@"
  report+=("$(printf '%-10s %6d s' "$name" $((SECONDS - started)))")
}
