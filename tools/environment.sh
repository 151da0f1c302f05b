# shellcheck shell=bash
# The virtual environment of the scripts beside this file, which source it.
#
#   use_environment [SET...]   makes or reuses the environment with requirements.txt and
#                              requirements-SET.txt of each SET, and sets `python`.
#
# The environment is .venv, or .venv-3.x where .venv belongs to another Python. PYTHON
# names the interpreter; without it an existing .venv is taken, else a Python that fits.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=
compiles_all=yes # Of what is installed; empty: left to who imports it, then and later.

say() { printf '%s\n' "$@"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# Prints a path as it is seen from anywhere; `pretrained` and URLs are no paths.
absolute() {
  case $1 in
    "" | pretrained | /* | *://*) say "$1" ;;
    "~" | "~/"*) say "$HOME${1#"~"}" ;;
    *) say "$PWD/$1" ;;
  esac
}

# Prints 3.x of an interpreter; fails where it does not run.
minor_version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

is_supported() {
  case $(minor_version "$1") in
    3.10 | 3.11 | 3.12 | 3.13) ;;
    *) return 1 ;;
  esac
}

# Prints how to call a Python: by its name, or by its path where only pyenv has it.
find_python() {
  local version
  if minor_version "$1" >/dev/null; then
    say "$1"
  else
    version=$(pyenv whence "$1" 2>/dev/null | tail -n 1)
    [ -n "$version" ] && say "$(pyenv prefix "$version")/bin/$1"
  fi
}

choose_python() {
  local name found version names=(python3 python3.12 python3.11 python3.10 python3.13)
  [ -z "${PYTHON:-}" ] || names=("$PYTHON")
  for name in "${names[@]}"; do
    found=$(find_python "$name") || continue
    if is_supported "$found"; then
      say "$found"
      return
    fi
  done
  version=$(minor_version "${names[0]}") || version="not to be found"
  fail "Python 3.10, 3.11, 3.12 or 3.13 is needed, and ${names[0]} is $version;" \
    "name another with PYTHON=..."
}

# Prints the folder of the environment for an interpreter.
environment_folder() {
  local there
  there=$(minor_version "$project/.venv/bin/python") || there=
  if [ -z "$there" ] || [ "$there" = "$(minor_version "$1")" ]; then
    say "$project/.venv"
  else
    say "$project/.venv-$(minor_version "$1")"
  fi
}

make_environment() {
  local interpreter=$1 folder=$2
  if has_foreign_packages "$folder"; then
    fail "$folder has packages, and its Python or pip does not work; repair it, or" \
      "take it away"
  fi
  say "making ${folder#"$project"/} with Python $(minor_version "$interpreter")"
  "$interpreter" -m venv --clear "$folder" ||
    fail "$interpreter cannot make a virtual environment (Debian and Ubuntu:" \
      "the package python3-venv)"
}

# Whether somebody else installed something there.
has_foreign_packages() {
  local path
  [ ! -f "$1/installed" ] || return 1
  for path in "$1"/lib/python*/site-packages/*; do
    case ${path##*/} in
      '*' | pip* | setuptools* | wheel* | pkg_resources | _distutils_hack) ;;
      distutils-precedence.pth | __pycache__) ;;
      *) return 0 ;;
    esac
  done
  return 1
}

# Changes whenever what a set asks for changes.
fingerprint() {
  (cd "$project" && cat constraints.txt requirements.txt requirements-nodeps.txt \
    "requirements${1:+-$1}.txt" | cksum)
}

# Of pip's output: the large downloads and the long steps.
summarize_pip() {
  awk '/(Downloading|Using cached).* MB\)/ {
         sub(/Using cached/, "Cached"); sub(/-(cp|py)[0-9][^ ]*/, "");
         print "  " $2 " " $3 " " $4; fflush() }
       /Building wheel for .*: started/ { print "  building " $4; fflush() }
       /^Installing collected/ { print "  unpacking"; fflush() }'
}

install() {
  local folder=$1 set stamp wanted=()
  shift
  for set in "" "$@"; do
    stamp=$folder/installed${set:+-$set}
    [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint "$set")" ] || wanted+=("$set")
  done
  if [ ${#wanted[@]} -eq 0 ]; then
    say "${folder#"$project"/} has all that is required; using it"
    return
  fi
  say "installing what is required (the first time a few minutes and 3 GB of disk)"
  local requirements=(-c constraints.txt)
  for set in "${wanted[@]}"; do
    requirements+=(-r "requirements${set:+-$set}.txt")
  done
  cd "$project" || return
  # Python compiles what was installed afterwards, with all cores; pip uses one.
  local pip=("$folder/bin/python" -m pip install --disable-pip-version-check --no-input
    --no-compile)
  "${pip[@]}" --progress-bar off "${requirements[@]}" | summarize_pip ||
    fail "pip could not install the requirements; run this again to go on"
  "${pip[@]}" --quiet --no-deps -r requirements-nodeps.txt ||
    fail "requirements-nodeps.txt could not be installed; on Python 3.13 it is built" \
      "from source and needs a C++ compiler (Python 3.10 to 3.12 do not)"
  # Some packages have files that are of no Python 3; what fails is compiled at need.
  [ -z "$compiles_all" ] ||
    "$folder/bin/python" -m compileall -q -j 0 "$folder/lib" >/dev/null 2>&1 || true
  for set in "${wanted[@]}"; do
    fingerprint "$set" >"$folder/installed${set:+-$set}"
  done
}

# Makes or reuses the environment, with nothing in it yet, and sets `python`.
choose_environment() {
  local interpreter folder
  interpreter=$project/.venv/bin/python
  if [ -n "${PYTHON:-}" ] || ! is_supported "$interpreter"; then
    interpreter=$(choose_python)
  fi
  folder=$(environment_folder "$interpreter")
  python=$folder/bin/python
  "$python" -m pip --version >/dev/null 2>&1 ||
    { "$python" -m ensurepip && "$python" -m pip --version; } >/dev/null 2>&1 ||
    make_environment "$interpreter" "$folder"
}

use_environment() {
  choose_environment
  install "${python%/bin/python}" "$@"
}
