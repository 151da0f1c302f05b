"""Damaged files of every kind: an answer or a reason, never anything else.

`MIC_TF_FUZZ_CASES=10000 pytest -s tests/audio/test_fuzz.py 2>/dev/null` is the long
run; `-s` shows the counts, and standard error is full of what the MP3 decoder says.
"""

import io
import os
import time

import numpy as np
import pytest
import soundfile

from mic_tf.audio import reading
from mic_tf.errors import UserError

CASES = int(os.environ.get("MIC_TF_FUZZ_CASES", "300"))
LONGEST_SECONDS = 5.0
FORMATS = (
    *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_24")),
    *(("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("CAF", "PCM_16"), ("AU", "ULAW")),
    *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("W64", "FLOAT")),
)
EXTREMES = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    """A third of a second in every format."""
    random = np.random.default_rng(0)
    rate = 16_000
    sound = 0.3 * np.sin(np.arange(rate // 3) / 8) + 0.01 * random.normal(
        size=rate // 3
    )
    contents = []
    for container, encoding in FORMATS:
        file = io.BytesIO()
        samples = np.stack([sound, sound[::-1]], axis=1)
        soundfile.write(file, samples, rate, format=container, subtype=encoding)
        contents.append(file.getvalue())
    return contents


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """One to four faults: flips, extremes in the header, cuts, holes, repeats."""
    data = bytearray(content)
    for _ in range(random.integers(1, 5)):
        place = int(random.integers(0, max(1, len(data) - 4)))
        near_start = int(random.integers(0, min(100, max(1, len(data) - 4))))
        fault = random.integers(0, 6)
        if fault == 0:
            data[place : place + 1] = bytes([random.integers(0, 256)])
        elif fault == 1:
            data[near_start : near_start + 4] = EXTREMES[random.integers(0, 4)]
        elif fault == 2:
            del data[place:]
        elif fault == 3:
            del data[place : place + int(random.integers(1, 500))]
        elif fault == 4:
            data[place:place] = data[: int(random.integers(1, 2000))]
        else:
            noise = random.bytes(int(random.integers(1, 64)))
            data[near_start : near_start + len(noise)] = noise
    return bytes(data)


def test_every_damaged_file_gets_windows_or_a_reason(seeds, tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.wav"
    outcomes = {"windows": 0, "reason": 0}
    for case in range(CASES):
        path.write_bytes(damaged(seeds[case % len(seeds)], random))
        start = time.perf_counter()
        try:
            for number, (_, waveform) in enumerate(reading.windows(path)):
                assert waveform.dtype == np.float32
                assert 800 <= waveform.size <= 64_000
                assert np.isfinite(waveform).all()
                # A lying header can make a rate wrong, not a file long.
                assert number < 100
            outcomes["windows"] += 1
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
            outcomes["reason"] += 1
        assert time.perf_counter() - start < LONGEST_SECONDS
    print(f"{CASES} files: {outcomes}")
    assert min(outcomes.values()) > CASES / 20, outcomes


@pytest.mark.parametrize("change", ["vanishes", "grows", "shrinks", "is replaced"])
@pytest.mark.parametrize("content_of", range(len(FORMATS)), ids=map("-".join, FORMATS))
def test_a_file_that_changes_while_it_is_read(
    seeds, tmp_path, monkeypatch, change, content_of
):
    """Blocks are small here, so that the change falls between two of them."""
    monkeypatch.setattr(reading, "_BLOCK_SAMPLES", 1000)
    path = tmp_path / "changing.wav"
    content = seeds[content_of]
    path.write_bytes(content)
    blocks = reading.waveform_blocks(path)
    samples = next(blocks).size
    if change == "vanishes":
        path.unlink()
    elif change == "grows":
        with path.open("ab") as file:
            file.write(content)
    elif change == "shrinks":
        os.truncate(path, len(content) // 2)
    else:
        other = tmp_path / "other"
        other.write_bytes(b"text")
        other.replace(path)
    try:
        samples += sum(block.size for block in blocks)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    # What was opened is read on, so only a file cut short may have less or more.
    third_of_a_second = 16_000 // 3
    assert samples <= 2.2 * third_of_a_second + 4000
    if change in ("vanishes", "is replaced"):
        assert samples >= third_of_a_second
