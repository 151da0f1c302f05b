"""`contract.json`: what goes into an exported model, what comes out, what it knows.

Version 2 is one JSON object:

| key | value |
| --- | --- |
| `contract_version` | 2 |
| `input` | name, dtype, shape, `sample_rate` in Hz, range, `channels` |
| `windowing` | `min_samples`, `window_samples`, `hop_samples`, and the rule in words |
| `outputs` | `probabilities` and `embedding`: dtype and shape |
| `labels` | family names in the order of the probabilities |
| `temperature` | what logits are divided by, inside the graph |
| `versions` | mic_tf, python, tensorflow, tf_keras that wrote the model |
| `training` | what the run says of itself: data set, protocol, notes, validation |
| `results` | one object for each evaluation: data set, split, protocol, n, figures |
| `settings` | all settings of the run |
| `weights` | folder of the trained weights for `train --init_from`; empty: none |
| `min_familiarity` | what 95 % of validation notes reach; null: it does not tell |

Where `min_familiarity` is a number, `familiar.npy` has embeddings of training notes,
float16 [notes, d], each of length 1. A window's familiarity is the cosine of its
embedding with the fifth nearest of them; a sound's is the mean over its windows, silent
ones left out, weighted as the probabilities are.

It is written last, so a folder that has it has all of the model, and it is checked
before a model is used: another version, rate or windowing is refused. In version 1 all
windows counted alike; such an export is exported again.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.taxonomy import MIN_SAMPLES, NOTE_SAMPLES, SAMPLE_RATE

FILE_NAME = "contract.json"
VERSION = 2

_INPUT = {
    "name": "waveform",
    "dtype": "float32",
    "shape": ["batch", "samples"],
    "sample_rate": SAMPLE_RATE,
    "minimum": -1.0,
    "maximum": 1.0,
    "channels": 1,
}
_WINDOWING = {
    "min_samples": MIN_SAMPLES,
    "window_samples": NOTE_SAMPLES,
    "hop_samples": NOTE_SAMPLES,
    "short": "zeros after the sound",
    "long": "windows in a row, the last one aligned to the end",
    "combine": "mean of the windows' probabilities, each weighted by its root mean "
    "square around its mean; windows within 0.001 of a constant count nothing",
}
_WINDOWING_OF = {
    1: _WINDOWING | {"combine": "mean of the windows' probabilities"},
    VERSION: _WINDOWING,
}


KNOWN = tuple(_WINDOWING_OF)
"""Versions of exports that can at least be exported again."""


@dataclasses.dataclass(frozen=True)
class Contract:
    """What one exported model promises.

    Attributes:
      labels: family names in the order of the probabilities.
      embedding_width: size of the embedding.
      temperature: what logits are divided by, inside the graph.
      versions: of the programs that wrote the model.
      training: what the run says of itself.
      results: measured figures, one object for each evaluation.
      settings: all settings of the run.
      weights: folder of the trained weights beside the model; empty: there is none.
      min_familiarity: what 95 % of validation notes reach; None: the export has no
        embeddings of training notes.
    """

    labels: tuple[str, ...]
    embedding_width: int
    temperature: float = 1.0
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: str = ""
    min_familiarity: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The whole content of `contract.json`."""
        return {
            "contract_version": VERSION,
            "input": _INPUT,
            "windowing": _WINDOWING,
            "outputs": self._outputs(),
            "labels": list(self.labels),
            "temperature": self.temperature,
            "versions": self.versions,
            "training": self.training,
            "results": self.results,
            "settings": self.settings,
            "weights": self.weights,
            "min_familiarity": self.min_familiarity,
        }

    def _outputs(self) -> dict[str, Any]:
        widths = {
            "probabilities": len(self.labels),
            "embedding": self.embedding_width,
        }
        return {
            name: {"dtype": "float32", "shape": ["batch", width]}
            for name, width in widths.items()
        }


def read(folder: str, versions: Collection[int] = (VERSION,)) -> Contract:
    """The checked contract of an exported model.

    Args:
      folder: that holds `contract.json`.
      versions: that are accepted, of `KNOWN`.

    Raises:
      UserError: it is missing, damaged, of another version, or asks for what this
        program does not do.
    """
    path = files.join(folder, FILE_NAME)
    if not files.exists(path):
        raise UserError(
            f"{path}: no such file; a folder made by `python -m mic_tf.export` expected"
        )
    content = files.read_json(path)
    try:
        return _from_dict(content, versions)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _from_dict(content: Any, versions: Collection[int]) -> Contract:
    if not isinstance(content, dict):
        raise UserError("not a JSON object")
    version = content.get("contract_version")
    if version not in versions:
        raise UserError(
            f"contract_version {version}; {VERSION} expected: export the model again"
        )
    _require(content, "input", _INPUT)
    _require(content, "windowing", _WINDOWING_OF[version])
    labels = content.get("labels")
    distinct = isinstance(labels, list) and len(set(map(str, labels))) == len(labels)
    if not distinct or not labels or not all(isinstance(n, str) for n in labels):
        raise UserError(f"labels {labels!r}; a list of different names expected")
    contract = Contract(
        labels=tuple(labels),
        embedding_width=_embedding_width(content.get("outputs")),
        temperature=_number(content, "temperature"),
        versions=_section(content, "versions", dict),
        training=_section(content, "training", dict),
        results=_section(content, "results", list),
        settings=_section(content, "settings", dict),
        weights=str(content.get("weights", "")),
        min_familiarity=_min_familiarity(content),
    )
    _require(content, "outputs", contract.to_dict()["outputs"])
    return contract


def _embedding_width(outputs: Any) -> int:
    try:
        width = outputs["embedding"]["shape"][1]
    except (TypeError, KeyError, IndexError):
        width = None
    if not isinstance(width, int) or width < 1:
        raise UserError(f"outputs {outputs!r}; the embedding's shape expected in it")
    return width


def _min_familiarity(content: dict) -> float | None:
    if content.get("min_familiarity") is None:
        return None
    value = _number(content, "min_familiarity")
    if value > 1:
        raise UserError(f"min_familiarity is {value!r}; at most 1 expected")
    return value


def _require(content: dict, key: str, expected: dict[str, Any]) -> None:
    """Refuses a section that does not say exactly what this program does."""
    found = _section(content, key, dict)
    for name in expected:
        if found.get(name) != expected[name]:
            raise UserError(
                f"{key}.{name} is {found.get(name)!r}; {expected[name]!r} expected"
            )


def _section(content: dict, key: str, kind: type) -> Any:
    if not isinstance(content.get(key), kind):
        words = {dict: "an object", list: "a list"}[kind]
        raise UserError(f"{key} is {content.get(key)!r}; {words} expected")
    return content[key]


def _number(content: dict, key: str) -> float:
    value = content.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise UserError(f"{key} is {value!r}; a number above 0 expected")
    return float(value)
