r"""Trains as `mic_tf.train` does, with a change that was tried and is no part of it.

  python tools/train_prototype.py --prototype=holes --workdir=runs/holes \
    --flagfile=mic_tf/configs/best_late.cfg --init_from=runs/first

--prototype=holes: on half of the notes that are recorded again, what lies 20 to 50 dB
below the loudest of the eight bands to either side is taken away, as Vorbis does to a
quarter to a third of such cells. --prototype=distil: four fifths of each note's target
are what the network of --init_from answers to the note before it is changed. With
neither it is `mic_tf.train`. The run's folder does not say what was tried.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import flags

from mic_tf import command, train
from mic_tf.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from mic_tf.settings import AugmentSettings

    LimitBand = Callable[[tf.Tensor, float, "np.ndarray"], tf.Tensor]
    Augment = Callable[
        [tf.Tensor, tf.Tensor, AugmentSettings], tuple[tf.Tensor, tf.Tensor]
    ]

PROTOTYPES = ("", "holes", "distil")

_NEIGHBOURS = 8
"""Bands to either side among which the loudest is looked for."""

_SHALLOWEST_DB, _DEEPEST_DB = 20.0, 50.0

_NOTHING_DB = -160.0

_TEACHERS_SHARE = 0.8


def define_flags() -> None:
    train.define_flags()
    flags.adopt_module_key_flags(train)
    flags.DEFINE_enum("prototype", "", PROTOTYPES, "What is tried; empty: nothing.")


def main(arguments: list[str]) -> int:
    """Puts the change in its place, and trains."""
    flag = flags.FLAGS
    if flag.prototype == "holes":
        if not (flag.low_rate and flag.record_again):
            raise UserError(
                "--prototype=holes: only with --low_rate and --record_again, where it "
                "has its place; give both"
            )
        from mic_tf.model import recording

        recording.limit_band = with_holes(recording.limit_band)
    if flag.prototype == "distil":
        _distil()
    return train.main(arguments)


def _distil() -> None:
    """Puts a teacher's answers into the targets.

    Raises:
      UserError: there is no teacher, or it and the training do not go together.
    """
    flag = flags.FLAGS
    if not flag.init_from:
        raise UserError("--prototype=distil: --init_from=DIR expected, the teacher")
    for name, wrong in (("balance", "class_weight"), ("strategy", "multi_worker")):
        if getattr(flag, name) == wrong:
            raise UserError(
                f"--prototype=distil: not with --{name}={wrong}; another expected"
            )
    from mic_tf import files
    from mic_tf.datasets import catalogue
    from mic_tf.model import augment
    from mic_tf.pipeline import batches
    from mic_tf.training import starting, workfolder

    files.register_file_systems(flag.init_from, flag.data_dir)
    builder = catalogue.load_builder(flag.dataset, flag.data_dir)
    families = batches.open_records(builder, skip_bad=flag.skip_bad).index.families
    origin = starting.find(flag.init_from)
    if tuple(families) != origin.labels:
        raise UserError(
            f"--init_from={flag.init_from}: its families ({', '.join(origin.labels)}) "
            f"are not those of {flag.dataset} ({', '.join(families)}), and it cannot "
            "teach them"
        )
    teacher = workfolder.restored_model(origin.settings, origin.labels, origin.snapshot)
    augment.augment_waveforms = distilled(
        augment.augment_waveforms, lambda waveform: teacher(waveform, training=False)
    )


def with_holes(limit_band: "LimitBand") -> "LimitBand":
    """`recording.limit_band` with holes in half of the notes behind it."""
    import tensorflow as tf

    from mic_tf.model import pieces, randomness

    def changed(decibels, share, hertz):
        decibels = limit_band(decibels, share, hertz)
        batch, frames, n_mels = pieces.sizes(decibels)
        draws = randomness.uniform("holes", [batch, 2, 1, 1])
        rows = tf.reshape(decibels, [-1, n_mels, 1])
        loudest = tf.nn.max_pool1d(rows, 2 * _NEIGHBOURS + 1, 1, "SAME")
        loudest = tf.reshape(loudest, [batch, frames, n_mels])
        depth = _SHALLOWEST_DB + (_DEEPEST_DB - _SHALLOWEST_DB) * draws[:, 0]
        gone = (decibels < loudest - depth) & (draws[:, 1] < 0.5)
        return tf.where(gone, _NOTHING_DB, decibels)

    return changed


def distilled(
    augment_waveforms: "Augment", answer: "Callable[[tf.Tensor], tf.Tensor]"
) -> "Augment":
    """`augment.augment_waveforms` with a teacher's answers in the targets.

    Args:
      augment_waveforms: what is done to notes and targets.
      answer: gives the teacher's logits [batch, families] of waveforms.
    """
    import tensorflow as tf

    def changed(waveform, target, settings):
        said = tf.stop_gradient(tf.nn.softmax(answer(waveform)))
        target = (1.0 - _TEACHERS_SHARE) * target + _TEACHERS_SHARE * said
        return augment_waveforms(waveform, target, settings)

    return changed


if __name__ == "__main__":
    define_flags()
    command.run(main)
