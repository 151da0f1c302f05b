"""An export with weights, opened as the run it was made of: to be exported again.

So the bundled model becomes TFLite files, and an export of an earlier program one that
this program takes, where the work folder is gone.
"""

import dataclasses
from typing import Any

from absl import logging

from mic_tf import bundled, files
from mic_tf.errors import UserError
from mic_tf.serving import contract as contracts
from mic_tf.serving import familiarity as familiarities
from mic_tf.serving.familiarity import Familiarity
from mic_tf.training import starting, workfolder


@dataclasses.dataclass(frozen=True)
class Exported:
    """All that an export holds of its run.

    Attributes:
      run: with the weights as they were trained; `workdir` is the export.
      results: the figures of its evaluations, as the contract has them.
      familiarity: with the threshold; None: the model does not tell.
    """

    run: workfolder.TrainedRun
    results: list[dict[str, Any]]
    familiarity: tuple[Familiarity, float] | None


def open_export(source: str) -> Exported | None:
    """Opens an export that has its weights.

    Args:
      source: the export, or `pretrained` for the bundled one.

    Returns:
      None where the folder is no export, but a work folder, or nothing.

    Raises:
      UserError: it is an export that is damaged, or has no weights.
    """
    folder = bundled.resolved(source)
    is_run = files.exists(files.join(folder, workfolder.CONFIG))
    if is_run or not files.exists(files.join(folder, contracts.FILE_NAME)):
        return None
    contract = contracts.read(folder, contracts.KNOWN)
    if not contract.weights:
        raise UserError(
            f"{folder}: an export without weights; give the work folder of its run"
        )
    try:
        origin = starting.find(folder)
    except UserError as error:
        raise UserError(
            f"{folder}: its contract names {contract.weights}/, but no whole weights "
            "are there; give the work folder of its run"
        ) from error
    if origin.labels != contract.labels:
        raise UserError(
            f"{folder}: its weights are of {', '.join(origin.labels)}, its contract of "
            f"{', '.join(contract.labels)}; the same families expected"
        )
    if "skip_silence_db" not in contract.settings.get("frontend", {}):
        logging.warning(
            "%s: the figures in its contract are from before --skip_silence_db; they "
            "are kept, and true of sounds without silence before them",
            folder,
        )
    known = None
    if contract.min_familiarity is not None:
        found = familiarities.read(folder, contract.embedding_width)
        known = (found, contract.min_familiarity)
    run = workfolder.TrainedRun(
        workdir=folder,
        settings=origin.settings,
        labels=origin.labels,
        model=workfolder.restored_model(
            origin.settings, origin.labels, origin.snapshot
        ),
        temperature=contract.temperature,
        summary=contract.training,
        checksum=contract.training.get("weights", origin.snapshot.checksum),
    )
    return Exported(run, contract.results, known)
