"""One training at a time in a work folder."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator

from mic_tf import files, locking
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
    if files.is_remote(workdir):
        holding = _beating_file(path)
    else:
        holding = locking.held(
            path,
            lambda other: _taken(path, other),
            "see to it yourself that no other training uses this folder",
        )
    with holding:
        yield


@contextlib.contextmanager
def _beating_file(path: str) -> Iterator[None]:
    me = locking.owner()
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


def _taken(path: str, owner: str) -> UserError:
    workdir = path.removesuffix(f"/{LOCK}")
    return UserError(
        f"{workdir}: {owner} is training in it; wait for it to end, or give another "
        "--workdir"
    )
