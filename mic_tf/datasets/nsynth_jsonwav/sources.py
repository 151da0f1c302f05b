"""Where a split of NSynth lies: a jsonwav archive, or the folder it unpacks to.

Archives are streamed from their first byte to their last and never unpacked. The
whole stream is read, so that gzip's checksum at the end is always compared.
"""

import dataclasses
import gzip
import hashlib
import os
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator

from tqdm.auto import tqdm

from mic_tf.datasets.problems import Problems
from mic_tf.errors import UserError
from mic_tf.taxonomy import SPLITS

_BUFFER_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Archive:
    """A split as `nsynth-<split>.jsonwav.tar.gz`."""

    split: str
    path: str

    def signature(self) -> dict[str, int | str]:
        return {"file": os.path.basename(self.path), "bytes": _size(self.path)}

    def origin(self, member: str) -> str:
        return f"{self.path}: {member}"

    def examples_json(self) -> bytes:
        """The archive's examples.json; reads no further than that member.

        Raises:
          UserError: there is none, or the archive is damaged.
        """
        name = f"nsynth-{self.split}/examples.json"
        for _, content in self._members(lambda member: member == name, "looking for"):
            return content
        raise UserError(f"{self.path}: there is no {name} in it")

    def waves(self, problems: Problems) -> Iterator[tuple[str, bytes]]:
        """Yields name and content of each WAV file in the archive's order.

        Raises:
          UserError: the archive is damaged and `problems` are not skipped.
        """
        try:
            for member, content in self._members(_is_wave, ""):
                yield _note_name(member), content
        except UserError as error:
            problems.report(self.path, str(error).removeprefix(f"{self.path}: "))

    def _members(
        self, wanted: Callable[[str], bool], purpose: str
    ) -> Iterator[tuple[str, bytes]]:
        before = "its first member"
        try:
            with (
                open(self.path, "rb", buffering=_BUFFER_BYTES) as packed,
                gzip.GzipFile(fileobj=packed) as stream,
                tarfile.open(fileobj=stream, mode="r|") as archive,
                _progress(self.path, purpose) as bar,
            ):
                while (member := archive.next()) is not None:
                    # tarfile keeps every member's header: gigabytes in the long run.
                    archive.members.clear()
                    bar.update(packed.tell() - bar.n)
                    before = member.name
                    name = posixpath.normpath(member.name)
                    if member.isfile() and wanted(name):
                        yield name, archive.extractfile(member).read()
                while stream.read(_BUFFER_BYTES):
                    pass
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise UserError(
                f"{self.path}: damaged at or after {before}: {error}; "
                "download the archive again"
            ) from error


@dataclasses.dataclass(frozen=True)
class Folder:
    """A split as the folder `nsynth-<split>` with examples.json and audio/."""

    split: str
    path: str

    def signature(self) -> dict[str, int | str]:
        listing = hashlib.sha256(self.examples_json())
        audio = os.path.join(self.path, "audio")
        names = os.listdir(audio) if os.path.isdir(audio) else []
        for name in sorted(filter(_is_wave, (f"audio/{name}" for name in names))):
            path = os.path.join(self.path, name)
            size = os.path.getsize(path) if os.path.exists(path) else -1
            listing.update(repr((name, size)).encode())
        name = os.path.basename(self.path)
        return {"file": name, "listing": listing.hexdigest()[:16]}

    def origin(self, member: str) -> str:
        return os.path.join(os.path.dirname(self.path), *member.split("/"))

    def examples_json(self) -> bytes:
        """The folder's examples.json.

        Raises:
          UserError: there is none.
        """
        path = os.path.join(self.path, "examples.json")
        _size(path)
        with open(path, "rb") as file:
            return file.read()

    def waves(self, problems: Problems) -> Iterator[tuple[str, bytes]]:
        """Yields name and content of each WAV file, sorted by name."""
        audio = os.path.join(self.path, "audio")
        if not os.path.isdir(audio):
            raise UserError(f"{audio}: no such folder")
        for file_name in sorted(os.listdir(audio)):
            if not _is_wave(f"audio/{file_name}"):
                continue
            path = os.path.join(audio, file_name)
            try:
                with open(path, "rb") as file:
                    content = file.read()
            except OSError as error:
                problems.report(path, f"cannot be read: {error.strerror}")
                continue
            yield _note_name(file_name), content


Source = Archive | Folder


def find(source: str) -> list[Source]:
    """The splits of NSynth below a folder; of each the archive where there is one.

    Raises:
      UserError: the folder is missing or has none of them.
    """
    if not os.path.isdir(source):
        raise UserError(f"--source={source}: no such folder")
    found: list[Source] = []
    for split in SPLITS:
        archive = os.path.join(source, f"nsynth-{split}.jsonwav.tar.gz")
        folder = os.path.join(source, f"nsynth-{split}")
        if os.path.isfile(archive):
            found.append(Archive(split, archive))
        elif os.path.isdir(folder):
            found.append(Folder(split, folder))
    if not found:
        raise UserError(
            f"--source={source}: has none of nsynth-<split>.jsonwav.tar.gz or folders "
            f"nsynth-<split>, <split> being {', '.join(SPLITS)}"
        )
    return found


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _is_wave(member: str) -> bool:
    folder, name = posixpath.split(member)
    return (
        posixpath.basename(folder) == "audio"
        and name.endswith(".wav")
        and not name.startswith(".")
    )


def _note_name(member: str) -> str:
    return posixpath.basename(member).removesuffix(".wav")


def _progress(path: str, purpose: str) -> tqdm:
    name = os.path.basename(path)
    return tqdm(
        total=os.path.getsize(path),
        desc=f"{name}: {purpose} examples.json",
        unit="B",
        unit_scale=True,
        leave=False,
        delay=1.0,
        disable=not purpose,
    )
