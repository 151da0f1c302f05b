"""Locks of the operating system; they end with the process, however that ends."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator

from absl import logging

from mic_tf.errors import UserError


@contextlib.contextmanager
def held(
    path: str, taken: Callable[[str], UserError], otherwise: str, stays: bool = True
) -> Iterator[None]:
    """Holds a file on a disk of this machine, which says who does.

    Args:
      path: of the file, made where it is not there.
      taken: the error where another process holds it, from that one's name.
      otherwise: what is at risk where the file system has no locks.
      stays: whether the file is left behind.

    Raises:
      UserError: another process holds it, or it cannot be written.
    """
    descriptor = _locked(path, taken, otherwise)
    try:
        with contextlib.suppress(OSError):  # On a full disk it is held without a name.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, owner().encode(), 0)
        yield
    finally:
        if not stays:
            with contextlib.suppress(OSError):
                os.unlink(path)
        os.close(descriptor)


def owner() -> str:
    """This process, for people."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def _locked(path: str, taken: Callable[[str], UserError], otherwise: str) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            name = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise taken(name or "another process") from error
        except OSError as error:
            # Some network file systems have no locks.
            logging.warning(
                "%s: cannot be locked (%s); %s", path, error.strerror, otherwise
            )
            return descriptor
        # Its last holder may have taken it away between the two.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)
