"""Whether more sound follows where a decoder of compressed audio ended.

libsndfile decodes as many samples as the beginning of a file claims. Files put one
behind the other, chained Ogg streams and MP3 of a varying bit rate without a Xing
header hold more, and the decoder passes over it without a word.
"""

import itertools
import os
import re
from collections.abc import Iterator

_MOST_BYTES = 1 << 22
"""So far is looked: a picture in a tag stands in front of the sound at most."""
_FRAMES_IN_A_ROW = 3
_MOST_CANDIDATES = 2000
"""Places that look like a frame; more are not tried, whoever put them there."""

_MPEG_FRAME = re.compile(rb"(?=\xff([\xe2\xe3\xf2\xf3\xfa\xfb])([\x10-\xef]))")
_FLAC_FRAME = re.compile(rb"(?=\xff[\xf8\xf9][\x10-\xff][\x00-\xaf])")

_MPEG1_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBITS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1_RATES = (44_100, 48_000, 32_000)


def unread_sound(descriptor: int, container: str) -> int:
    """How many bytes follow the place where a decoder ended, if they hold sound.

    Args:
      descriptor: of the file, at the place where the decoder ended.
      container: as libsndfile names it; only MP3, OGG and FLAC can have such an end.

    Returns:
      0 where nothing follows but tags, padding or a piece of a page.
    """
    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    rest = os.fstat(descriptor).st_size - place
    holds_sound = _HOLDS_SOUND.get(container)
    if rest <= 0 or holds_sound is None:
        return 0
    return rest if holds_sound(os.pread(descriptor, _MOST_BYTES, place)) else 0


def _has_ogg_page(data: bytes) -> bool:
    """Whether a page is there to its end: RFC 3533, 6."""
    for found in re.finditer(rb"OggS\0.{21}(.)", data, re.DOTALL):
        lacing = data[found.end() : found.end() + found[1][0]]
        if found.end() + found[1][0] + sum(lacing) <= len(data):
            return True
    return False


def _has_mpeg_frames(data: bytes) -> bool:
    """Whether frames of MPEG layer III stand one behind the other."""
    for found in _candidates(_MPEG_FRAME, data):
        place = found.start()
        for _ in range(_FRAMES_IN_A_ROW):
            length = _mpeg_frame_bytes(data[place : place + 3])
            if not length:
                break
            place += length
        else:
            return True
    return False


def _candidates(pattern: re.Pattern, data: bytes) -> Iterator[re.Match]:
    return itertools.islice(pattern.finditer(data), _MOST_CANDIDATES)


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


def _has_flac_frames(data: bytes) -> bool:
    """Whether a stream begins, or frames go on."""
    return b"fLaC" in data or len(list(itertools.islice(_flac_headers(data), 2))) == 2


def _flac_headers(data: bytes) -> Iterator[int]:
    """Where frame headers with the right checksum stand: RFC 9639, 9.1."""
    for found in _candidates(_FLAC_FRAME, data):
        start = found.start()
        lengths = range(6, min(17, len(data) - start + 1))
        if any(_crc8(data[start : start + length]) == 0 for length in lengths):
            yield start


def _crc8(data: bytes) -> int:
    """The checksum of a FLAC frame header; 0 of one with its own checksum behind."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
    return value


_HOLDS_SOUND = {
    "MP3": _has_mpeg_frames,
    "OGG": _has_ogg_page,
    "FLAC": _has_flac_frames,
}
