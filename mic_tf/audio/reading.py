"""Audio files from people as 16 kHz mono waveforms, whole or window by window.

Whatever libsndfile decodes (wav of all widths, aiff, flac, mp3, ogg Vorbis and Opus,
caf and more) goes through one stream of blocks: decoded, averaged over the channels,
resampled by soxr. Memory does not grow with the length of the file, nothing that a
header claims is believed before it is checked, and every fault of a file is a
`UserError` that names the file, the value and what would be right.
"""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Callable, Iterator

import numpy as np
import soundfile

from mic_tf.audio import ending, waveforms
from mic_tf.errors import UserError
from mic_tf.taxonomy import NOTE_SAMPLES

MAX_SECONDS = 24 * 3600
"""A file that decodes to more is refused: a few bytes of FLAC can hold days."""

_BLOCK_SAMPLES = 1 << 17
_MOST_FRAMES = 1 << 48


@dataclasses.dataclass(frozen=True)
class AudioHeader:
    """What the header of an audio file says.

    Attributes:
      sample_rate: in Hz, before resampling.
      channels: before averaging.
      seconds: claimed duration; a damaged file may hold less.
      format: container and encoding as libsndfile names them, as `WAV PCM_16`.
    """

    sample_rate: int
    channels: int
    seconds: float
    format: str


OnHeader = Callable[[AudioHeader], None]


def header(path: str | os.PathLike) -> AudioHeader:
    """The checked header of an audio file.

    Raises:
      UserError: not a readable audio file, or a rate or a number of channels that is
        not accepted.
    """
    with _opened(path) as (file, _):
        return _header_of(file)


def read(path: str | os.PathLike) -> np.ndarray:
    """A whole file as float32 mono waveform [samples] at 16 kHz, of any length.

    Raises:
      UserError: not a readable audio file, no sample in it, a sample that is not
        finite, more sound in it than its beginning says, channels that cancel each
        other out.
    """
    return np.concatenate([np.empty(0, np.float32), *waveform_blocks(path)])


def windows(
    path: str | os.PathLike,
    hop_samples: int = NOTE_SAMPLES,
    on_header: OnHeader | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
    """The windows of a file by the length rule, as they are decoded.

    Args:
      path: an audio file.
      hop_samples: distance between windows at 16 kHz, at most a window's length.
      on_header: is given the header before the first window is read.

    Yields:
      Start in seconds and the float32 mono waveform at 16 kHz: one of 800 to 64,000
      samples (not padded) for a file of up to 4 s, else waveforms of 64,000 samples,
      the last one aligned to the end of the file.

    Raises:
      UserError: as `read`, or the file is shorter than 50 ms. A fault in the middle
        of a file is met after the windows in front of it.
    """
    blocks = waveform_blocks(path, on_header)
    return waveforms.timed(str(path), waveforms.cut(blocks, hop_samples))


def waveform_blocks(
    path: str | os.PathLike, on_header: OnHeader | None = None
) -> Iterator[np.ndarray]:
    """A file as consecutive float32 mono blocks at 16 kHz, none of them empty.

    Args:
      path: an audio file.
      on_header: is given the header before the first block is read.

    Raises:
      UserError: as `read`.
    """
    with _opened(path) as (file, descriptor):
        if on_header:
            on_header(_header_of(file))
        yield from waveforms.resampled(_mono_blocks(file, path), file.samplerate)
        _check_end(file, descriptor, path)


def _header_of(file: soundfile.SoundFile) -> AudioHeader:
    return AudioHeader(
        sample_rate=file.samplerate,
        channels=file.channels,
        seconds=file.frames / file.samplerate,
        format=f"{file.format} {file.subtype}",
    )


def _mono_blocks(
    file: soundfile.SoundFile, path: str | os.PathLike
) -> Iterator[np.ndarray]:
    done = 0
    mean = waveforms.ChannelMean(str(path), file.channels)
    while True:
        try:
            block = _decoded(file)
        except (soundfile.SoundFileError, OSError) as error:
            raise UserError(
                f"{path}: damaged after {done / file.samplerate:.3f} s: {_cause(error)}"
            ) from error
        if not block.size:
            break
        waveforms.check_samples(str(path), block, done)
        done += len(block)
        if done > MAX_SECONDS * file.samplerate:
            raise UserError(
                f"{path}: longer than {MAX_SECONDS // 3600} hours; cut it into parts"
            )
        yield mean.of(block)
    if not done:
        raise UserError(f"{path}: no audio in it (0 samples)")
    mean.check()


def _check_end(
    file: soundfile.SoundFile, descriptor: int, path: str | os.PathLike
) -> None:
    """Refuses a file that holds more sound than its decoder gave."""
    unread = ending.unread_sound(descriptor, file.format)
    if unread:
        size = os.fstat(descriptor).st_size
        raise UserError(
            f"{path}: its beginning says {file.frames / file.samplerate:.1f} s, but "
            f"{unread:,} of {size:,} bytes follow; one whole recording expected, as "
            "`ffmpeg -i FILE whole.flac` makes of it"
        )


def _decoded(file: soundfile.SoundFile) -> np.ndarray:
    """The next samples, float32 [samples, channels]; none at the end."""
    if file.subtype == "PCM_16":
        # The same numbers: libsndfile takes three times as long to make floats of them.
        block = file.read(_BLOCK_SAMPLES, dtype="int16", always_2d=True)
        return waveforms.as_float(block)
    return file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[soundfile.SoundFile, int]]:
    """A file to decode, and its descriptor, which stands where the decoder does."""
    descriptor = _regular_file(path)
    try:
        # By descriptor: libsndfile then trusts the content, never the file's name.
        file = soundfile.SoundFile(descriptor, closefd=False)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        size = os.fstat(descriptor).st_size
        os.close(descriptor)
        cause = _cause(error) if size else "0 bytes"
        raise UserError(
            f"{path}: not an audio file ({cause}); wav, aiff, flac, mp3, ogg, opus or "
            "caf expected"
        ) from error
    try:
        waveforms.check_rate(str(path), file.samplerate)
        most = waveforms.MAX_CHANNELS
        if not 1 <= file.channels <= most:
            raise UserError(f"{path}: {file.channels} channels; 1 to {most} expected")
        if file.frames > _MOST_FRAMES:
            raise UserError(
                f"{path}: {file.format} that does not say its length; one that does "
                "(written to a file, not to a pipe) expected"
            )
        yield file, descriptor
    finally:
        file.close()
        os.close(descriptor)


def _regular_file(path: str | os.PathLike) -> int:
    # Without O_NONBLOCK opening a named pipe waits for a writer that may never come.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {_cause(error)}") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise UserError(
            f"{path}: a folder; an audio file, or a folder with audio files, expected"
        )
    raise UserError(f"{path}: a device or a pipe; an audio file expected")


def _cause(error: BaseException) -> str:
    text = (
        getattr(error, "error_string", None)
        or getattr(error, "strerror", None)
        or str(error)
    )
    return text.strip().rstrip(".").split("\n")[0]
