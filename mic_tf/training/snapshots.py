"""Saved states that are whole or do not count.

A snapshot is a TensorFlow checkpoint and a manifest, written last and renamed into
place, with the size and checksum of each file. What has no manifest, or does not
agree with it, is passed over for the newest one that does.
"""

import dataclasses
import re
import tempfile
import zlib
from typing import Any

import tensorflow as tf
from absl import logging

from mic_tf import files
from mic_tf.errors import UserError

_MANIFEST = ".manifest.json"
_NAME = re.compile(r"state-\d{9,}[._]")
"""What the names of a snapshot's files begin with."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A whole saved state.

    Attributes:
      prefix: of the checkpoint's files.
      number: its place in the order of saving.
      facts: what was stored with it.
      checksum: of its files, 8 hexadecimal digits; a copy has the same.
    """

    prefix: str
    number: int
    facts: dict[str, Any]
    checksum: str


def check_name(folder: str) -> None:
    """Refuses a folder in which no snapshot would be found again.

    Raises:
      UserError: its name is a pattern, too.
    """
    if set("*?[]") & set(folder):
        raise UserError(
            f"{folder}: a name without *, ?, [ and ] expected; TensorFlow takes them "
            "for a pattern"
        )


def save(
    checkpoint: tf.train.Checkpoint,
    folder: str,
    number: int,
    facts: dict[str, Any],
    *,
    keep: int,
    is_chief: bool = True,
) -> None:
    """Saves a state; on workers other than the chief only takes part in it.

    Args:
      checkpoint: what to save.
      folder: where.
      number: grows from one snapshot of a folder to the next.
      facts: JSON values stored with it.
      keep: how many of the newest snapshots stay.
      is_chief: whether this process is the one that writes.

    Raises:
      UserError: the folder cannot be written to; older snapshots are untouched.
    """
    if not is_chief:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint.write(files.join(scratch, "state"))
        return
    files.make_folder(folder)
    prefix = files.join(folder, f"state-{number:09d}")
    files.remove(prefix + _MANIFEST)
    try:
        checkpoint.write(prefix)
        parts = {
            path.rsplit("/", maxsplit=1)[-1]: _fingerprint(path)
            for path in _starting_with(prefix + ".")
        }
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"{prefix}: cannot be written: {files.reason(error)}"
        ) from error
    manifest = {"number": number, "files": parts, "facts": facts}
    files.write_json(prefix + _MANIFEST, manifest)
    _remove_old(folder, keep)


def clear(folder: str) -> bool:
    """Removes every snapshot of a folder and nothing else; whether there was one."""
    paths = paths_of(folder)
    # Without its manifest none counts, if this is interrupted.
    for path in sorted(paths, key=lambda path: not path.endswith(_MANIFEST)):
        _remove(path)
    return bool(paths)


def paths_of(folder: str) -> list[str]:
    """The files of a folder's snapshots, and what a crash left half-written."""
    paths = _starting_with(files.join(folder, "state-"))
    return [path for path in paths if _NAME.match(path.rsplit("/", maxsplit=1)[-1])]


def newest(folder: str, advice: str = "") -> Snapshot | None:
    """The newest whole snapshot of a folder, or None where none was ever saved.

    Args:
      folder: of the snapshots.
      advice: what a person may do where none is whole.

    Raises:
      UserError: there are snapshots, but none of them is whole.
    """
    broken = []
    manifests = _manifests(folder)
    for path in reversed(manifests):
        snapshot = _whole(path)
        if snapshot:
            for name in broken:
                logging.warning("%s: damaged, passed over", name)
            return snapshot
        broken.append(path.removesuffix(_MANIFEST))
    if broken and _manifests(folder) != manifests:
        # A training saved a new one meanwhile and removed those.
        return newest(folder, advice)
    if broken:
        raise UserError(
            f"{folder}: none of its {len(broken)} checkpoint(s) is whole{advice}"
        )
    return None


def _whole(manifest_path: str) -> Snapshot | None:
    try:
        manifest = files.read_json(manifest_path)
        folder = manifest_path.rsplit("/", maxsplit=1)[0]
        for name, fingerprint in manifest["files"].items():
            if _fingerprint(files.join(folder, name)) != fingerprint:
                return None
        prefix = manifest_path.removesuffix(_MANIFEST)
        sums = [manifest["files"][name]["crc32"] for name in sorted(manifest["files"])]
        checksum = f"{zlib.crc32(repr(sums).encode()):08x}"
        return Snapshot(prefix, manifest["number"], manifest["facts"], checksum)
    except (UserError, tf.errors.OpError, KeyError, TypeError):
        return None


def _fingerprint(path: str) -> dict[str, int]:
    content = files.read_bytes(path)
    return {"bytes": len(content), "crc32": zlib.crc32(content)}


def _manifests(folder: str) -> list[str]:
    return sorted(path for path in paths_of(folder) if path.endswith(_MANIFEST))


def _starting_with(prefix: str) -> list[str]:
    """Paths in a folder; unlike a glob, whatever characters are in its name."""
    folder, start = prefix.rsplit("/", maxsplit=1)
    if not files.exists(folder):
        return []
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    return [files.join(folder, name) for name in names if name.startswith(start)]


def _remove_old(folder: str, keep: int) -> None:
    """Removes all but the newest snapshots, and what a crash left half-written."""
    manifests = _manifests(folder)
    kept = {path.removesuffix(_MANIFEST) for path in manifests[-keep:]}
    for path in manifests[:-keep]:
        files.remove(path)
    for path in paths_of(folder):
        name = path.rsplit("/", maxsplit=1)[-1]
        stem = files.join(folder, name.split(".")[0].split("_temp")[0])
        if stem not in kept:
            _remove(path)


def _remove(path: str) -> None:
    if tf.io.gfile.isdir(path):
        tf.io.gfile.rmtree(path)
    else:
        files.remove(path)
