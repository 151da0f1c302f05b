"""Large downloads that go on where they were interrupted."""

import os
import time
import urllib.error
import urllib.request
from typing import NamedTuple

from absl import logging
from tqdm.auto import tqdm

from mic_tf import files
from mic_tf.errors import UserError

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_ATTEMPTS_WITHOUT_PROGRESS = 3
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416


class Download(NamedTuple):
    """A file to fetch.

    Attributes:
      url: where from.
      path: where to; until it is whole it is called `<path>.part`.
      size: bytes of the whole file.
    """

    url: str
    path: str
    size: int

    @property
    def part(self) -> str:
        return f"{self.path}.part"

    def missing_bytes(self) -> int:
        """What is still to be fetched."""
        if os.path.isfile(self.path):
            return 0
        return max(0, self.size - _size(self.part))


def fetch(download: Download, pause_seconds: float = 5.0) -> None:
    """Fetches what is missing of a file; a broken connection is taken up again.

    Args:
      download: the file.
      pause_seconds: wait before the next attempt.

    Raises:
      UserError: refused, or broken off again and again; says which file to put where.
        Or the folder cannot be made or written to.
    """
    if not os.path.isfile(download.path):
        files.check_writable(os.path.dirname(download.path))
    attempts = 0
    while download.missing_bytes():
        before = _size(download.part)
        try:
            _fetch_once(download, before)
        except urllib.error.HTTPError as error:
            if error.code != _RANGE_NOT_SATISFIABLE:
                raise _refused(download, f"{error.code} {error.reason}") from error
            os.remove(download.part)
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            attempts = 0 if _size(download.part) > before else attempts + 1
            if attempts >= _ATTEMPTS_WITHOUT_PROGRESS:
                raise _refused(download, str(reason)) from error
            logging.info("%s: %s; trying again", download.url, reason)
            time.sleep(pause_seconds)
    if not os.path.isfile(download.path):
        os.replace(download.part, download.path)


def _fetch_once(download: Download, start: int) -> None:
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(download.url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        goes_on = response.status == _PARTIAL_CONTENT
        with (
            open(download.part, "ab" if goes_on else "wb") as file,
            tqdm(
                total=download.size,
                initial=file.tell(),
                desc=os.path.basename(download.path),
                unit="B",
                unit_scale=True,
            ) as bar,
        ):
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
    found = _size(download.part)
    if found > download.size:
        os.remove(download.part)
        raise _refused(download, f"{found:,} bytes came, {download.size:,} expected")
    if found < download.size:
        raise ConnectionError(f"broken off at {found:,} of {download.size:,} bytes")


def _refused(download: Download, reason: str) -> UserError:
    return UserError(
        f"{download.url}: download refused ({reason}); get the file "
        f"{os.path.basename(download.path)} ({download.size:,} bytes) another way, put "
        f"it into {os.path.dirname(download.path)} and run the same command again"
    )


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.isfile(path) else 0
