"""What made a result: without knowing it a stopped run is not gone on with."""

import dataclasses

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.serving import output
from mic_tf.serving.doubt import Doubt

SUFFIX = ".model"
"""`OUT.model` stands beside a result that can be resumed."""

_WORDS = {
    "model": "another model",
    "min_probability": "another --min_probability",
    "min_familiarity": "another --min_familiarity",
}

Origin = dict[str, str | float]


def origin(fingerprint: str, doubt: Doubt) -> Origin:
    """What the answers of a result depend on, besides the files.

    Args:
      fingerprint: of the model, as `models.fingerprint` gives it.
      doubt: which answers are called unsure.
    """
    return {"model": fingerprint, **dataclasses.asdict(doubt)}


def note(out: str, made_by: Origin) -> None:
    """Writes beside a result what it is made by; beside a pipe or a device nothing."""
    if not files.is_stream(out):
        files.write_json(out + SUFFIX, made_by)


def earlier(out: str, made_by: Origin) -> str:
    """What an earlier run of the same origin left of a result; empty: nothing.

    Raises:
      UserError: something else made it, or it is not known what did.
    """
    text = output.written(out)
    if not text:
        return ""
    if not files.exists(out + SUFFIX):
        raise UserError(
            f"{out}: cannot be resumed: {out}{SUFFIX}, which says what made it, is "
            "missing; without --resume it is made anew"
        )
    found = files.read_json(out + SUFFIX)
    for name, expected in made_by.items():
        if not isinstance(found, dict) or found.get(name, 0.0) != expected:
            raise UserError(
                f"{out}: cannot be resumed: made with {_WORDS[name]}; without --resume "
                "it is made anew"
            )
    return text
