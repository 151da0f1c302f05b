"""Asks TensorFlow Serving what instrument is in WAV files; Python alone.

  python serving_client.py http://localhost:8501/v1/models/mic_tf LABELS note.wav ...

LABELS is the export's `labels.txt`. WAV files have 16 bits and 16 kHz, any length and
channels. The server gives silence a family too; that it is silence is told here.
`--print` instead of the address prints the body of the request.
"""

import base64
import json
import pathlib
import struct
import sys
import urllib.error
import urllib.request
import wave

SILENCE, WINDOW = 1e-3, 64_000


def body_of(paths: list[str]) -> bytes:
    """The JSON body that asks `classify_wav` for these files."""
    contents = [pathlib.Path(path).read_bytes() for path in paths]
    instances = [{"wav": {"b64": base64.b64encode(c).decode()}} for c in contents]
    return json.dumps(
        {"signature_name": "classify_wav", "instances": instances}
    ).encode()


def answers_of(response: bytes, labels: list[str]) -> list[tuple[str, float]]:
    """The best family and its probability for each file."""
    answers = []
    for prediction in json.loads(response)["predictions"]:
        named = zip(prediction["probabilities"], labels, strict=True)
        probability, family = max(named)
        answers.append((family, probability))
    return answers


def is_silent(path: str) -> bool:
    """Whether each window of 4 s swings around a constant by 0.001 at most."""
    try:
        with wave.open(path, "rb") as file:
            channels = file.getnchannels()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError):  # The server may know more kinds of WAV.
        return False
    samples = struct.unpack(f"<{len(content) // 2}h", content)
    sums = [sum(samples[i : i + channels]) for i in range(0, len(samples), channels)]
    most = 2 * SILENCE * 32768 * channels
    starts = [*range(0, len(sums) - WINDOW, WINDOW), max(0, len(sums) - WINDOW)]
    windows = (sums[start : start + WINDOW] for start in starts)
    return all(max(window) - min(window) <= most for window in windows)


def main(address: str, labels_path: str, paths: list[str]) -> None:
    """Sends one request and prints one line for each file."""
    body = body_of(paths)
    if address == "--print":
        print(body.decode())
        return
    labels = pathlib.Path(labels_path).read_text().split("\n")[:-1]
    request = urllib.request.Request(f"{address}:predict", body)
    try:
        with urllib.request.urlopen(request) as response:
            content = response.read()
    except urllib.error.HTTPError as error:
        sys.exit(f"{address}: {json.loads(error.read())['error']}")
    except urllib.error.URLError as error:
        sys.exit(f"{address}: {error.reason}")
    for path, answer in zip(paths, answers_of(content, labels), strict=True):
        family, probability = ("silence", 1.0) if is_silent(path) else answer
        print(f"{path}: {family} {probability:.4f}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
