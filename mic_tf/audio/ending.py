"""Whether more sound follows where a decoder of compressed audio ended.

libsndfile decodes as many samples as the beginning of an MP3, Ogg or FLAC file claims.
Files put one behind the other, chained Ogg streams and MP3 of a varying bit rate
without a Xing header hold more, and the decoder passes over it without a word.
"""

import itertools
import os
import re
from collections.abc import Iterator

_MOST_BYTES = 1 << 22
"""So far is looked: a picture in a tag stands in front of the sound at most."""
_READ_AHEAD = 1 << 17
"""A decoder has read so much behind the last sound it gave, at most."""
_FRAMES_IN_A_ROW = 3
_FRAMES_LEFT = 8
"""An MP3 decoder leaves some at the end of a file whose length it had to estimate."""
_MOST_CANDIDATES = 2000
"""Places that look like a frame; more are not tried, whoever put them there."""

_OGG_PAGE = re.compile(rb"OggS\0(.).{20}(.)", re.DOTALL)
_FIRST_PAGE = 2
_MPEG_FRAME = re.compile(rb"(?=\xff([\xe2\xe3\xf2\xf3\xfa\xfb])([\x10-\xef]))")
_FLAC_STREAM = re.compile(rb"fLaC[\0\x80]\0\0\x22.{34}", re.DOTALL)

_MPEG1_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBITS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1_RATES = (44_100, 48_000, 32_000)


def unread_sound(descriptor: int, container: str) -> int:
    """How many bytes of sound a decoder left, at least about so many.

    Args:
      descriptor: of the file, at the place up to which the decoder has read.
      container: as libsndfile names it; only MP3, OGG and FLAC can have such an end.

    Returns:
      0 where nothing follows but tags, padding or a piece of a page.
    """
    find = _FIND.get(container)
    if find is None:
        return 0
    begin = find(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
    return 0 if begin is None else os.fstat(descriptor).st_size - begin


def _second_ogg_stream(descriptor: int, place: int) -> int | None:
    """Where a stream begins behind pages of another, or whole pages were left."""
    start = max(0, place - _READ_AHEAD)
    data = os.pread(descriptor, place - start + _MOST_BYTES, start)
    within = start > 0
    for found in _OGG_PAGE.finditer(data):
        body = found.end() + found[2][0]
        length = sum(data[found.end() : body])
        if not length or body + length > len(data):
            continue
        is_first = found[1][0] & _FIRST_PAGE
        if (is_first and within) or start + found.start() >= place:
            return start + found.start()
        within = within or not is_first
    return None


def _mpeg_frames(descriptor: int, place: int) -> int | None:
    """Where frames of layer III go on, if they are more than an estimate is wrong by.

    Without a Xing header a length is the file's over that of the first frame, which
    may have a byte of padding that others have not.
    """
    data = os.pread(descriptor, _MOST_BYTES, place)
    for found in itertools.islice(_MPEG_FRAME.finditer(data), _MOST_CANDIDATES):
        frames = _frames_at(data, found.start())
        lengths = list(itertools.islice(frames, _FRAMES_IN_A_ROW))
        if len(lengths) == _FRAMES_IN_A_ROW:
            begin, shortest = place + found.start(), min(lengths)
            size = os.fstat(descriptor).st_size
            tolerated = size / shortest + _FRAMES_LEFT * shortest
            is_estimate = not _says_frames(descriptor)
            return None if is_estimate and size - begin <= tolerated else begin
    return None


def _says_frames(descriptor: int) -> bool:
    """Whether an MP3 file says in its first frame how many it has."""
    start = _behind_id3(os.pread(descriptor, 10, 0))
    first = os.pread(descriptor, 1 << 12, start)
    return any(name in first for name in (b"Xing", b"Info", b"VBRI"))


def _frames_at(data: bytes, place: int) -> Iterator[int]:
    """The lengths of MPEG frames of layer III that stand one behind the other."""
    while length := _mpeg_frame_bytes(data[place : place + 3]):
        yield length
        place += length


def _mpeg_frame_bytes(header: bytes) -> int:
    """The length of a frame; 0 where there is none.

    Source: ISO/IEC 11172-3 and 13818-3, 2.4.1.3 and 2.4.2.3.
    """
    if not _MPEG_FRAME.match(header):
        return 0
    version, rate_index = header[1] >> 3 & 3, header[2] >> 2 & 3
    if rate_index == 3:
        return 0
    kbits = (_MPEG1_KBITS if version == 3 else _MPEG2_KBITS)[(header[2] >> 4) - 1]
    rate = _MPEG1_RATES[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    bytes_of_a_kbit = 144_000 if version == 3 else 72_000
    return bytes_of_a_kbit * kbits // rate + (header[2] >> 1 & 1)


def _second_flac_stream(descriptor: int, place: int) -> int | None:
    """Where another stream begins with its STREAMINFO."""
    own = _behind_id3(os.pread(descriptor, 10, 0))
    start = max(own + 1, place - _READ_AHEAD)
    data = os.pread(descriptor, max(0, place - start) + _MOST_BYTES, start)
    found = _FLAC_STREAM.search(data)
    return start + found.start() if found else None


def _behind_id3(header: bytes) -> int:
    """The length of the ID3v2 tag that a file begins with."""
    if len(header) < 10 or not header.startswith(b"ID3"):
        return 0
    size = 0
    for byte in header[6:]:
        size = size << 7 | byte & 0x7F
    return 10 + size


_FIND = {
    "MP3": _mpeg_frames,
    "OGG": _second_ogg_stream,
    "FLAC": _second_flac_stream,
}
