"""Reading audio: every format, the length rule, every way a file can be wrong."""

import os
import pathlib
import re
import struct

import numpy as np
import pytest
import soundfile

from mic_tf.audio import reading, waveforms
from mic_tf.errors import UserError

RATE = 16_000
FORMATS = [
    *(("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("WAV", s) for s in ("ULAW", "ALAW", "IMA_ADPCM")),
    *(("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AU", "PCM_16")),
    *(("AIFF", s) for s in ("PCM_16", "PCM_24", "FLOAT")),
    *(("FLAC", s) for s in ("PCM_16", "PCM_24")),
    *(("CAF", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
]


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * hertz * time)


def level(waveform: np.ndarray, hertz: float = 440.0) -> float:
    """Amplitude of one frequency in a waveform at 16 kHz."""
    time = np.arange(waveform.size) / RATE
    return 2 * abs(np.mean(waveform * np.exp(-2j * np.pi * hertz * time)))


@pytest.fixture
def wav(tmp_path: pathlib.Path) -> pathlib.Path:
    """One second of a tone as 16-bit wav at 16 kHz; tests damage it."""
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(1.0), RATE)
    return path


def patch(path: pathlib.Path, offset: int, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + len(content)] = content
    path.write_bytes(data)


@pytest.mark.parametrize(("container", "encoding"), FORMATS)
def test_every_format_gives_the_same_tone(tmp_path, container, encoding):
    path = tmp_path / "any.name"
    rate = 48_000 if encoding == "OPUS" else 44_100
    soundfile.write(path, tone(1.0, rate), rate, format=container, subtype=encoding)
    waveform = reading.read(path)
    assert waveform.dtype == np.float32
    # Codecs may add a frame or so of padding.
    assert abs(waveform.size - RATE) < 2500
    assert level(waveform[2000:14_000]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 48_000, 96_000, 192_000])
def test_every_rate_arrives_at_16_khz_with_its_length_and_pitch(tmp_path, rate):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(1.0, rate), rate)
    waveform = reading.read(path)
    assert waveform.size == RATE
    assert level(waveform) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("channels", [2, 3, 6, 8])
def test_channels_are_averaged(tmp_path, channels):
    path = tmp_path / "many.wav"
    samples = np.outer(tone(0.5), np.arange(channels) / channels)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    expected = samples.mean(axis=1)
    np.testing.assert_allclose(reading.read(path), expected, atol=1e-6)


def cancelling(samples: int) -> np.ndarray:
    """Two channels whose mean is nothing, the second half louder than the first."""
    sound = tone(samples / RATE) * np.linspace(0, 1, samples)
    return np.stack([sound, -sound], axis=1)


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_channels_that_cancel_each_other_out_are_no_silence(tmp_path, rate):
    path = tmp_path / "upside.wav"
    soundfile.write(path, cancelling(20_000), rate)
    message = (
        "its 2 channels cancel each other out: their mean is silence, one alone "
        "reaches 0.(50|49).; one channel of them expected"
    )
    with pytest.raises(UserError, match=f"upside.wav: {message}"):
        list(reading.windows(path))
    with pytest.raises(UserError, match=f"waveform: {message}"):
        list(waveforms.windows(cancelling(20_000), rate))


def test_channels_that_cancel_in_a_part_of_a_file_leave_the_rest_of_it(tmp_path):
    path = tmp_path / "part.wav"
    samples = cancelling(400_000)
    samples[390_000:, 1] *= -1
    soundfile.write(path, samples, RATE)
    assert reading.read(path).size == 400_000


def test_silent_channels_are_silence_beside_each_other(tmp_path):
    path = tmp_path / "still.wav"
    still = 0.2 + cancelling(20_000) * 2 * 1.9e-3
    soundfile.write(path, still, RATE, subtype="FLOAT")
    assert waveforms.swing(reading.read(path)) < 1e-6
    soundfile.write(path, still * 1.2, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match="cancel each other out"):
        reading.read(path)


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "AIFF", "FLAC", "CAF"])
def test_16_bit_samples_are_the_floats_of_libsndfile(tmp_path, container):
    path = tmp_path / "extremes.audio"
    steps = np.array([[-32768, 32767], [-1, 1], [0, 12345]], np.int16).repeat(99, 0)
    soundfile.write(path, steps, RATE, format=container, subtype="PCM_16")
    floats, _ = soundfile.read(path, dtype="float32")
    waveform = reading.read(path)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, floats.mean(axis=1))


def test_the_samples_of_a_16_khz_file_are_not_touched(wav):
    integers, _ = soundfile.read(wav, dtype="int16")
    np.testing.assert_array_equal(reading.read(wav) * 32768, integers)


def test_reading_in_blocks_equals_resampling_at_once(tmp_path, monkeypatch):
    path = tmp_path / "noise.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 30_011)
    soundfile.write(path, noise, 44_100)
    whole = reading.read(path)
    monkeypatch.setattr(reading, "_BLOCK_SAMPLES", 1009)
    np.testing.assert_allclose(reading.read(path), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "starts", "last"),
    [
        (800, [0], 800),
        (63_999, [0], 63_999),
        (64_000, [0], 64_000),
        (64_001, [0, 1], 64_000),
        (128_000, [0, 64_000], 64_000),
        (130_000, [0, 64_000, 66_000], 64_000),
    ],
)
def test_windows_follow_the_length_rule(tmp_path, samples, starts, last):
    path = tmp_path / "ramp.wav"
    ramp = np.arange(samples) % 1000 / 1000
    soundfile.write(path, ramp, RATE, subtype="FLOAT")
    found = list(reading.windows(path))
    assert [round(start * RATE) for start, _ in found] == starts
    assert found[-1][1].size == last
    for start, waveform in found:
        first = round(start * RATE)
        expected = ramp[first : first + waveform.size]
        np.testing.assert_array_equal(waveform, expected.astype(np.float32))


def test_a_hop_moves_the_windows_and_keeps_the_last_at_the_end():
    blocks = [np.zeros(50_000, np.float32)] * 2
    starts = [start for start, _ in waveforms.cut(blocks, hop_samples=16_000)]
    assert starts == [0, 16_000, 32_000, 36_000]


def test_a_long_file_is_read_no_further_than_asked(tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(60 * RATE), RATE)
    read = soundfile.SoundFile.read
    sizes = []

    def counted(file, frames, **options):
        sizes.append(frames)
        return read(file, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    next(reading.windows(path))
    assert 64_000 <= sum(sizes) < 20 * RATE


def test_49_milliseconds_are_too_short_and_50_are_not(tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, tone(0.050, 44_100), 44_100)
    assert [w.size for _, w in reading.windows(path)] == [800]
    soundfile.write(path, tone(0.049, 44_100), 44_100)
    with pytest.raises(UserError, match=r"short.wav: 49 ms long .* at least 50 ms"):
        list(reading.windows(path))


def test_the_header_says_what_is_in_the_file(tmp_path):
    path = tmp_path / "stereo.flac"
    soundfile.write(path, np.zeros((22_050, 2)), 44_100)
    assert reading.header(path) == reading.AudioHeader(44_100, 2, 0.5, "FLAC PCM_16")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound_are_refused_with_their_place(tmp_path, value):
    path = tmp_path / "bad.wav"
    samples = tone(1.0)
    samples[123] = value
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"bad.wav: sample 123 is .* between -1 and 1"):
        reading.read(path)


@pytest.mark.parametrize("rate", [1, 7_999, 192_001, 4_000_000])
def test_rates_outside_8_to_192_khz_are_refused(wav, rate):
    patch(wav, 24, struct.pack("<I", rate))
    with pytest.raises(UserError, match=f"sample rate {rate} Hz; 8000 to 192000 Hz"):
        reading.header(wav)


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (24, struct.pack("<I", 0), "not an audio file"),
        (22, struct.pack("<H", 0), "not an audio file"),
        (22, struct.pack("<H", 9), "9 channels; 1 to 8 expected"),
        (22, struct.pack("<H", 65_535), "not an audio file"),
        (40, struct.pack("<I", 0), "no audio in it"),
        (0, b"JUNK", "not an audio file"),
    ],
)
def test_impossible_headers_are_refused(wav, offset, content, message):
    patch(wav, offset, content)
    with pytest.raises(UserError, match=message):
        reading.read(wav)


def test_a_header_that_claims_4_gigabytes_gets_what_is_there(wav):
    patch(wav, 40, struct.pack("<I", 2**32 - 1))
    assert reading.read(wav).size == RATE


def test_a_truncated_file_gets_what_is_there(wav):
    wav.write_bytes(wav.read_bytes()[: 44 + 2 * 5000])
    assert reading.read(wav).size == 5000


def test_flac_without_its_length_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "piped.flac"
    soundfile.write(path, tone(1.0), RATE)
    patch(path, 21, bytes([path.read_bytes()[21] & 0xF0, 0, 0, 0, 0]))
    with pytest.raises(UserError, match="does not say its length"):
        reading.read(path)


def encoded(path: pathlib.Path, container: str, encoding: str, seconds: float) -> bytes:
    """Noise in a container."""
    rate = 48_000 if encoding == "OPUS" else RATE
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate))
    soundfile.write(path, sound, rate, encoding, format=container)
    return path.read_bytes()


COMPRESSED = [
    *(("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")),
    *(("FLAC", "PCM_16"), ("FLAC", "PCM_24")),
]


@pytest.mark.parametrize("seconds", [(3.0, 3.0), (3.0, 0.5), (0.5, 0.3), (20.0, 0.5)])
@pytest.mark.parametrize(("container", "encoding"), COMPRESSED)
def test_more_sound_than_the_beginning_says_is_refused(
    tmp_path, container, encoding, seconds
):
    path = tmp_path / "two.audio"
    second = encoded(path, container, encoding, seconds[1])
    first = encoded(path, container, encoding, seconds[0])
    for tag in (b"", id3_tag(200_000)) if container != "OGG" else (b"",):
        path.write_bytes(tag + first)
        whole = reading.read(path)
        assert whole.size >= seconds[0] * RATE
        path.write_bytes(tag + first + second)
        message = (
            rf"two.audio: its beginning says {seconds[0]:.1f} s, but [\d,]+ of [\d,]+ "
            "bytes follow; one whole recording expected, as `ffmpeg -i FILE whole.flac"
        )
        with pytest.raises(UserError, match=message):
            list(reading.windows(path))


def id3_tag(size: int) -> bytes:
    """A tag with something in it, as a picture is, without the numbers of a frame."""
    lengths = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + lengths + bytes(size)


@pytest.mark.parametrize(("container", "encoding"), COMPRESSED)
def test_tags_padding_and_a_broken_end_are_no_sound(tmp_path, container, encoding):
    path = tmp_path / "one.audio"
    one = encoded(path, container, encoding, 1.0)
    whole = reading.read(path)
    picture = np.random.default_rng(1).bytes(3_000_000)
    for end in (b"TAG" + bytes(125), b"APETAGEX" + picture, bytes(100_000), one[:20]):
        path.write_bytes(one + end)
        np.testing.assert_array_equal(reading.read(path), whole)


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_without_its_length_is_read_whole_or_refused(tmp_path, mode, rate):
    path = tmp_path / "old.mp3"
    soft = 1e-3 * np.random.default_rng(0).uniform(-1, 1, 20 * rate)
    soft[: 2 * rate] *= 500
    soundfile.write(path, soft, rate, bitrate_mode=mode, compression_level=0.5)
    assert reading.read(path).size == 20 * RATE
    data = path.read_bytes()
    place = data.index(b"Xing" if mode == "VARIABLE" else b"Info")
    sync = data[data.rindex(b"\xff", 0, place) :][:2]
    refused = 0
    for _ in range(12):
        place = data.index(sync, place + 2)
        path.write_bytes(data[place:])
        try:
            # Frames with a byte of padding make the estimate of the length too small.
            assert reading.read(path).size >= 19.2 * RATE
        except UserError as error:
            assert re.search("old.mp3: its beginning says .* bytes follow", str(error))
            refused += 1
    assert (refused > 0) == (mode == "VARIABLE")


@pytest.mark.parametrize(("container", "encoding"), COMPRESSED)
def test_a_truncated_stream_gets_what_is_there(tmp_path, container, encoding):
    path = tmp_path / "half.audio"
    one = encoded(path, container, encoding, 3.0)
    path.write_bytes(one[: len(one) * 6 // 10])
    try:
        assert 0 < reading.read(path).size < 3 * RATE
    except UserError as error:
        assert "damaged after" in str(error) or "not an audio file" in str(error)


def test_more_audio_than_a_day_is_refused(wav, monkeypatch):
    monkeypatch.setattr(reading, "MAX_SECONDS", 0.5)
    with pytest.raises(UserError, match="longer than"):
        reading.read(wav)


def test_text_named_wav_and_empty_files_are_not_audio(tmp_path):
    path = tmp_path / "note.wav"
    path.write_text("C major\n" * 100)
    with pytest.raises(
        UserError, match=r"note.wav: not an audio file .*flac.* expected"
    ):
        reading.read(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"note.wav: not an audio file \(0 bytes\)"):
        reading.read(path)


@pytest.mark.parametrize("name", ["noise.gsm", "noise.vox", "noise.raw", "noise.au"])
def test_the_name_of_a_file_does_not_make_it_audio(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(np.random.default_rng(0).bytes(10_000))
    with pytest.raises(UserError, match="not an audio file"):
        reading.read(path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    pipe, folder = tmp_path / "pipe.wav", tmp_path / "folder.wav"
    os.mkfifo(pipe)
    folder.mkdir()
    with pytest.raises(UserError, match=r"pipe.wav: a device or a pipe"):
        reading.read(pipe)
    with pytest.raises(UserError, match=r"folder.wav: a folder"):
        reading.read(folder)
    with pytest.raises(UserError, match=r"gone.wav: cannot be read: No such file"):
        reading.read(tmp_path / "gone.wav")


def test_no_descriptor_stays_open(wav, tmp_path):
    def open_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    text = tmp_path / "text.wav"
    text.write_text("text")
    before = open_descriptors()
    for path in (wav, text, tmp_path):
        try:
            next(iter(reading.windows(path)))
        except UserError:
            continue
    assert open_descriptors() == before
