"""Asks TensorFlow Serving what instrument is in WAV files; Python alone.

  python serving_client.py http://localhost:8501/v1/models/mic_tf LABELS note.wav ...

LABELS is the export's `labels.txt`. WAV files have 16 bits and 16 kHz, any length and
channels. The server gives silence a family too; that it is silence is told here.
`--print` instead of the address prints the body of the request.
"""

import base64
import http.client
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


def silence_of(path: str) -> str:
    """What is to be said of a file whose mean over the channels is silent, else "".

    Silent is what swings around a constant by 0.001 at most in each window of 4 s.

    Raises:
      ValueError: a channel alone is not.
    """
    try:
        with wave.open(path, "rb") as file:
            channels = file.getnchannels()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError):  # The server may know more kinds of WAV.
        return ""
    count = len(content) // 2 // channels
    samples = struct.unpack_from(f"<{count * channels}h", content)
    sums = [sum(samples[i : i + channels]) for i in range(0, len(samples), channels)]
    most = 2 * SILENCE * 32768 * channels
    starts = [*range(0, count - WINDOW, WINDOW), max(0, count - WINDOW)]
    windows = (sums[start : start + WINDOW] for start in starts)
    if not count or any(max(window) - min(window) > most for window in windows):
        return ""
    each = (samples[channel::channels] for channel in range(channels))
    if any(max(channel) - min(channel) > most for channel in each):
        raise ValueError(f"its {channels} channels cancel each other out")
    return "silence 1.0000"


def reason_of(error: urllib.error.HTTPError) -> str:
    """Why a server refused; one in front of it may say so in other words than JSON."""
    content = error.read().decode(errors="replace").strip()
    try:
        return json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def main(address: str, labels_path: str, paths: list[str]) -> int:
    """Sends one request and prints one line for each file.

    Returns:
      The exit status: 1 where a file has no answer.
    """
    body = body_of(paths)
    if address == "--print":
        print(body.decode())
        return 0
    labels = pathlib.Path(labels_path).read_text("utf-8").split("\n")[:-1]
    request = urllib.request.Request(f"{address}:predict", body)
    try:
        with urllib.request.urlopen(request) as response:
            answers = answers_of(response.read(), labels)
    except urllib.error.HTTPError as error:
        sys.exit(f"{address}: {reason_of(error)}")
    except urllib.error.URLError as error:
        sys.exit(f"{address}: {error.reason}")
    except http.client.HTTPException as error:
        sys.exit(f"{address}: no HTTP server that answers: {error!r}")
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"{address}: no answer to {labels_path}'s labels: {error}")
    status = 0
    for path, (family, probability) in zip(paths, answers, strict=True):
        try:
            print(f"{path}: {silence_of(path) or f'{family} {probability:.4f}'}")
        except ValueError as error:
            print(f"{path}: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
    except OSError as fault:
        sys.exit(f"{fault.filename or sys.argv[1]}: {fault.strerror or fault}")
