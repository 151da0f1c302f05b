"""The model in the box: an export with its weights inside the package."""

import os

from mic_tf.errors import UserError

NAME = "pretrained"
"""What commands call it, and its folder."""


def resolved(source: str) -> str:
    """The folder of a model: the bundled one's where its name is given.

    Raises:
      UserError: this copy of the package came without one.
    """
    return folder() if source == NAME else source


def folder() -> str:
    """The bundled model's folder.

    Raises:
      UserError: this copy of the package came without one.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), NAME)
    if not os.path.isfile(os.path.join(path, "contract.json")):
        raise UserError(
            "no model is bundled with this copy of mic_tf; give the folder of an "
            "exported model or of a run (predict --model, train --init_from)"
        )
    return path
