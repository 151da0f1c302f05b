"""One training at a time in a work folder."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator

from absl import logging

from mic_tf import files
from mic_tf.errors import UserError

LOCK = "training.lock"
_BEAT_SECONDS = 20.0
_STALE_SECONDS = 90.0
_held_here: set[str] = set()


@contextlib.contextmanager
def only_one(workdir: str) -> Iterator[None]:
    """Holds a work folder while a training runs in it.

    On a local disk it is a lock of the operating system, which ends with the process
    however that ends. Elsewhere it is a file whose time is renewed every 20 s; one
    that has not been renewed for 90 s was left behind by a process that died.

    Raises:
      UserError: another training holds the folder.
    """
    files.make_folder(workdir)
    path = files.join(workdir, LOCK)
    holding = _beating_file(path) if files.is_remote(workdir) else _system_lock(path)
    with holding:
        yield


@contextlib.contextmanager
def _system_lock(path: str) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
            raise _taken(path, owner) from error
        except OSError as error:
            # Some network file systems have no locks.
            logging.warning(
                "%s: cannot be locked (%s); see to it yourself that no other training "
                "uses this folder",
                path,
                error.strerror,
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _owner().encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _beating_file(path: str) -> Iterator[None]:
    me = _owner()
    other = _last_beat(path)
    fresh = time.time() - other["time"] < _STALE_SECONDS
    # The same owner is this process started again, as containers are.
    if fresh and (other["owner"] != me or path in _held_here):
        raise _taken(path, other["owner"])
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_BEAT_SECONDS):
            with contextlib.suppress(UserError):
                _write_beat(path, me)

    _held_here.add(path)
    _write_beat(path, me)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        files.remove(path)
        _held_here.discard(path)


def _last_beat(path: str) -> dict:
    """Owner and time of a lock file; time 0 where there is none to respect."""
    if files.exists(path):
        with contextlib.suppress(UserError):
            content = files.read_json(path)
            if isinstance(content, dict) and {"owner", "time"} <= set(content):
                return content
    return {"owner": "", "time": 0.0}


def _write_beat(path: str, owner: str) -> None:
    files.write_text(path, json.dumps({"owner": owner, "time": time.time()}))


def _owner() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _taken(path: str, owner: str) -> UserError:
    workdir = path.removesuffix(f"/{LOCK}")
    return UserError(
        f"{workdir}: {owner or 'another process'} is training in it; wait for it to "
        "end, or give another --workdir"
    )
