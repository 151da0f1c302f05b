"""What instrument is in a WAV file: numpy and a TFLite interpreter, nothing else.

  python tflite_client.py EXPORT/model.tflite note.wav ...

The interpreter is `ai-edge-litert` or `tflite-runtime`, whichever is installed, else
TensorFlow's own. `contract.json` beside the model names the families. WAV files have
16 bits and 16 kHz; others are refused, not answered wrongly. The model gives silence
a family too; that it is silence is told here.
"""

import json
import pathlib
import sys
import wave

import numpy as np

RATE, SHORTEST, WINDOW = 16_000, 800, 64_000
SILENCE, LEAST = 1e-3, 1e-9


def interpreter_class() -> type:
    """The `Interpreter` of the first package that is installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            from tensorflow.lite.python.interpreter import Interpreter
    return Interpreter


def read_wav(path: str) -> np.ndarray:
    """The mean of the channels, float32 [samples] in [-1, 1].

    Raises:
      ValueError: not 16 bits, not 16 kHz, shorter than 50 ms, not whole, or channels
        that cancel each other out.
    """
    with wave.open(path, "rb") as file:
        bits, rate = 8 * file.getsampwidth(), file.getframerate()
        if bits != 16 or rate != RATE:
            raise ValueError(f"{bits} bits, {rate} Hz; 16 bits, {RATE} Hz expected")
        content = file.readframes(file.getnframes())
        channels = file.getnchannels()
    if len(content) % (2 * channels):
        raise ValueError("breaks off within a sample")
    samples = np.frombuffer(content, "<i2").reshape(-1, channels) / np.float32(32768)
    mono = samples.mean(axis=1)
    if mono.size < SHORTEST:
        raise ValueError(f"{mono.size} samples; {SHORTEST} or more expected")
    loudest = np.ptp(samples, axis=0).max() / 2
    if np.ptp(mono) / 2 <= SILENCE and loudest > channels * SILENCE:
        raise ValueError(f"its {channels} channels cancel each other out")
    return mono


def windows(waveform: np.ndarray) -> np.ndarray:
    """Windows of 4 s, float32 [windows, 64000]: zeros after, the last at the end."""
    if waveform.size <= WINDOW:
        return np.pad(waveform, (0, WINDOW - waveform.size))[np.newaxis]
    starts = [*range(0, waveform.size - WINDOW, WINDOW), waveform.size - WINDOW]
    return np.stack([waveform[start : start + WINDOW] for start in starts])


def weight(window: np.ndarray) -> float:
    """How much a window counts: its root mean square, a silent one next to nothing."""
    is_silent = np.ptp(window) / 2 <= SILENCE
    return LEAST if is_silent else float(window.std())


def main(model: str, paths: list[str]) -> int:
    """Prints the family and its probability for each file, or why there is none.

    Returns:
      The exit status: 1 where a file has no answer.
    """
    status = 0
    contract = json.loads(
        (pathlib.Path(model).parent / "contract.json").read_text("utf-8")
    )
    classify = interpreter_class()(model_path=model).get_signature_runner()
    for path in paths:
        try:
            waveform = read_wav(path)
        except (ValueError, OSError, EOFError, wave.Error) as error:
            reason = str(error) or "no whole WAV file"
            print(f"{path}: {reason}", file=sys.stderr)
            status = 1
            continue
        cut = windows(waveform)
        answers = [
            classify(waveform=window[np.newaxis])["probabilities"][0] for window in cut
        ]
        weights = [weight(window) for window in cut]
        if max(weights) <= LEAST:
            print(f"{path}: silence 1.0000")
            continue
        probabilities = np.average(answers, axis=0, weights=weights)
        best = int(np.argmax(probabilities))
        print(f"{path}: {contract['labels'][best]} {probabilities[best]:.4f}")
    return status


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
    except (OSError, ValueError) as fault:
        sys.exit(f"{sys.argv[1]}: {fault}")
