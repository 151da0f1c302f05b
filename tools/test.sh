#!/usr/bin/env bash
# Makes or reuses the environment and runs the tests, three at a time, each file in one
# process, files with slow tests first; arguments go to pytest:
#   bash tools/test.sh
#   PYTHON=python3.13 bash tools/test.sh tests/model -x
set -euo pipefail
# shellcheck source=tools/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

use_environment dev beam
cd "$project"
# Three workers on two cores, as tests wait for other processes a quarter of their time:
# more threads in each would wait for the others'.
export TF_NUM_INTRAOP_THREADS="${TF_NUM_INTRAOP_THREADS:-1}"
exec "$python" -m pytest -n 3 --dist=loadfile --no-loadscope-reorder "$@"
