"""The WAV files of NSynth: 16 kHz, mono, 16 bit, 4 seconds."""

import io
import wave

import numpy as np

from mic_tf.errors import UserError
from mic_tf.taxonomy import NOTE_SAMPLES, SAMPLE_RATE


def decode(content: bytes) -> np.ndarray:
    """Samples of a WAV file as int16 [64000].

    Raises:
      UserError: what the file has in place of 64,000 samples of 16-bit mono PCM at
        16 kHz, without the file's name.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            found = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
            frames = file.getnframes()
            data = file.readframes(frames)
    except (wave.Error, EOFError) as error:
        raise UserError(f"not a PCM WAV file: {error or 'too short'}") from error
    if found != (SAMPLE_RATE, 1, 16):
        raise UserError(
            "{} Hz, {} channel(s), {} bit; 16000 Hz, mono, 16 bit expected".format(
                *found
            )
        )
    samples = np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2")
    if samples.size != NOTE_SAMPLES:
        raise UserError(f"{samples.size} samples; {NOTE_SAMPLES} expected")
    return samples.astype(np.int16, copy=False)
