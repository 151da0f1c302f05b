"""Runs of the commands whose figures are kept in a file, by the name of the run."""

import pathlib
import subprocess
import sys
from collections.abc import Collection, Mapping
from typing import Any

from mic_tf.errors import UserError
from tools.benchmarks.processes import PROJECT


def call(module: str, *arguments: str) -> None:
    """Runs `python -m module` in the project's folder; its output is shown.

    Raises:
      UserError: it failed.
    """
    finished = subprocess.run([sys.executable, "-m", module, *arguments], cwd=PROJECT)
    if finished.returncode:
        raise UserError(
            f"python -m {module} {' '.join(arguments)}: it failed, see above"
        )


def absolute(folder: str) -> str:
    """A folder as seen from where the person stands; `gs://` and such as they are."""
    from mic_tf import files

    return folder if files.is_remote(folder) else str(pathlib.Path(folder).absolute())


def minutes(workdir: str) -> float:
    """Of all epochs of a training."""
    from mic_tf.training import callbacks

    epochs = callbacks.read_history(workdir)
    return sum(float(epoch["seconds"]) for epoch in epochs) / 60


def read(path: pathlib.Path, keys: Collection[str]) -> dict[str, dict[str, Any]]:
    """Figures by the name of the run; none where there is no such file.

    Args:
      path: of the file.
      keys: what each run has.

    Raises:
      UserError: it is no such file.
    """
    if not path.exists():
        return {}
    if not path.is_file():
        raise UserError(f"{path}: a file expected")
    from mic_tf import files

    content = files.read_json(str(path))
    kept = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(each, dict) and set(keys) <= set(each) for each in kept):
        raise UserError(f"{path}: figures of other runs; another file expected")
    return content


def write(path: pathlib.Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes them, whole or not at all; the folder is made."""
    from mic_tf import files

    files.make_folder(str(path.parent))
    files.write_json(str(path), results)
