"""The model in the box: an export with its weights inside the package."""

import os

from mic_tf.errors import UserError

NAME = "pretrained"
"""What commands call it, and its folder."""

_CONTRACT = "contract.json"
_RUN = "config.json"


def resolved(source: str) -> str:
    """The folder of a model: the bundled one's where its name is given.

    Raises:
      UserError: this copy of the package came without one, or a model of one's own
        lies under its name here, so that either could be meant.
    """
    if source != NAME:
        return source
    own = [os.path.join(NAME, name) for name in (_CONTRACT, _RUN)]
    if any(map(os.path.isfile, own)) and not os.path.samefile(NAME, folder()):
        raise UserError(
            f"{NAME}: the bundled model's name, and a folder here that has a model; "
            f"./{NAME} is the one here, and elsewhere {NAME} is the bundled one"
        )
    return folder()


def folder() -> str:
    """The bundled model's folder.

    Raises:
      UserError: this copy of the package came without one.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), NAME)
    if not os.path.isfile(os.path.join(path, _CONTRACT)):
        raise UserError(
            "no model is bundled with this copy of mic_tf; give the folder of an "
            "exported model or of a run (predict --model, train --init_from)"
        )
    return path
