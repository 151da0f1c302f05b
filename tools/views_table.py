r"""What answers are worth that are made otherwise than a network was trained for.

  python tools/views_table.py --data_dir=data --workdirs=cv/a/0,cv/a/1,cv/a/2 \
    [--beside=cv/b/0,cv/b/1,cv/b/2 --other_notes=soundfont_notes/open]

The notes that each fold of a cross-validation was tested with are answered again: by
the mean over log-mels shifted by bands or frames, without what lies 60 dB below the
loudest point, and with fewer decibels of range. With --beside, runs of the same folds
that heard other notes, also by both at several shares of their log-probabilities or
joined otherwise, and with --other_notes by shares that a linear gate gives: a logistic
regression of the first run's embedding that tells the fold's training notes, for which
the other run speaks, from as many of --other_notes. All folds are pooled: one row for
each way, with the notes that it lost and won.
"""

import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import flags

from mic_tf import command
from mic_tf.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import tf_keras as keras

    from mic_tf.model.frontend import LogMel
    from mic_tf.pipeline.batches import Records
    from mic_tf.training.workfolder import TrainedRun

UNCHANGED = "as it is"

SHARES = (0.8, 0.6, 0.5, 0.4, 0.2)
"""Of the first run beside the other."""

JOINED_SHARE = 0.6
"""The first run's, where two are joined otherwise than by log-probabilities."""

_BATCH = 64

_GATE_EPOCHS = 60


class Network(NamedTuple):
    """A run's front-end and what is behind it."""

    run: "TrainedRun"
    frontend: "LogMel"
    behind: "keras.Model"


class Answers(NamedTuple):
    """Log-probabilities [notes, families] and embeddings [notes, d], float32."""

    log_probabilities: "np.ndarray"
    embeddings: "np.ndarray"


def define_flags() -> None:
    flags.DEFINE_string(
        "data_dir", "~/tensorflow_datasets", "Folder of the prepared data sets."
    )
    flags.DEFINE_list("workdirs", [], "Work folders, one for each fold.")
    flags.DEFINE_list("beside", [], "Others of the same folds, in the same order.")
    flags.DEFINE_string("other_notes", "", "Data set for the gate, with --beside.")


def main(arguments: list[str]) -> None:
    """Answers the notes of all folds and prints the table."""
    flag = flags.FLAGS
    if arguments or not flag.workdirs:
        raise UserError("--workdirs: missing; one for each fold, and flags only")
    if flag.beside and len(flag.beside) != len(flag.workdirs):
        raise UserError(
            f"--beside: {len(flag.beside)} work folders for {len(flag.workdirs)} "
            "--workdirs; as many expected"
        )
    if flag.other_notes and not flag.beside:
        raise UserError("--other_notes: only with --beside, between which a gate is")
    workdirs = [*flag.workdirs, *flag.beside]
    twice = [workdir for workdir in workdirs if workdirs.count(workdir) > 1]
    if twice:
        raise UserError(f"--workdirs, --beside: {twice[0]} twice; each once expected")
    import numpy as np

    networks = dict(zip(workdirs, map(_network, workdirs), strict=True))
    others = _records(flag.other_notes, "other_notes") if flag.other_notes else None
    tested: dict[str, str] = {}
    right: dict[str, list[np.ndarray]] = {}
    instruments: list[np.ndarray] = []
    for fold, workdir in enumerate(flag.workdirs):
        print(f"{workdir}: {fold + 1} of {len(flag.workdirs)}", flush=True)
        first = networks[workdir]
        records = _records_of(first)
        part = _part(first, records, "test")
        instruments.append(records.index.instrument[part])
        for note in records.index.ids[part].tolist():
            other = tested.setdefault(note, workdir)
            if other != workdir:
                raise UserError(
                    f"{other} and {workdir}: both were tested on {note}; one run for "
                    "each fold expected"
                )
        beside = networks[flag.beside[fold]] if flag.beside else None
        truth, ways = answered(first, beside, records, part, others)
        for name, log_probabilities in ways.items():
            said = log_probabilities.argmax(axis=1)
            right.setdefault(name, []).append(said == truth)
    every = {name: np.concatenate(r) for name, r in right.items()}
    print("\n".join(table(every, np.concatenate(instruments))))


def answered(
    first: Network,
    beside: Network | None,
    records: "Records",
    tested: "np.ndarray",
    others: "Records | None",
) -> tuple["np.ndarray", dict[str, "np.ndarray"]]:
    """The families of a fold's tested notes, and the answers by the way.

    Args:
      first: the run of the fold.
      beside: another of the same fold.
      records: the data set that both divide.
      tested: its notes that are, bool [notes].
      others: notes that the gate tells the training notes from.
    """
    log_mels, truth = _log_mels(first, records, tested)
    own = _answers(first, log_mels)
    ways = {UNCHANGED: own.log_probabilities}
    for name, view in views(first.run.settings.frontend.top_db):
        changed = [_answers(first, each).log_probabilities for each in view(log_mels)]
        ways[name] = sum(changed) / len(changed)
    if beside is None:
        return truth, ways
    if beside.run.labels != first.run.labels:
        raise UserError(
            f"{beside.run.workdir}: other families than {first.run.workdir}; the same "
            "expected"
        )
    for name in ("dataset", "note_digests"):
        if beside.run.summary["data"].get(name) != first.run.summary["data"].get(name):
            raise UserError(
                f"{beside.run.workdir}: other notes than {first.run.workdir}'s; runs "
                "of the same fold expected"
            )
    its = _answers(beside, _log_mels(beside, records, tested)[0]).log_probabilities
    for share in SHARES:
        ways[f"{share:g} beside {1 - share:g}"] = (
            share * own.log_probabilities + (1 - share) * its
        )
    ways |= joined(own.log_probabilities, its)
    ways["the one beside"] = its
    if others is not None:
        share = _gate(first, records, others, own.embeddings)
        ways["a gate"] = share * its + (1 - share) * own.log_probabilities
    return truth, ways


def views(
    top_db: float,
) -> Iterator[tuple[str, Callable[["np.ndarray"], list["np.ndarray"]]]]:
    """What log-mels are changed to; where several come of one, answers are averaged.

    Args:
      top_db: decibels between -1 and 1.

    Yields:
      A name, and what makes of log-mels [notes, frames, n_mels] in [-1, 1] all that are
      answered.
    """
    import numpy as np

    def shifted(axis: int, steps: int, filling: float | None):
        def view(log_mels):
            return [
                log_mels,
                *(moved(log_mels, axis, by, filling) for by in (steps, -steps)),
            ]

        return view

    def above(decibels: float, depth: float):
        def view(log_mels):
            below_loudest = np.maximum((log_mels - 1.0) * (top_db / 2.0), -decibels)
            return [1.0 + below_loudest * (2.0 / depth)]

        return view

    cut = above(60.0, top_db)
    yield "shifts by a band", shifted(2, 1, None)
    yield "shifts by a frame", shifted(1, 1, -1.0)
    yield "shifts by three frames", shifted(1, 3, -1.0)
    yield "cut off 60 dB below", cut
    yield "that and as it is", lambda log_mels: [log_mels, *cut(log_mels)]
    for decibels in (70.0, 60.0, 50.0):
        yield f"{decibels:g} dB of range", above(decibels, decibels)


def moved(
    log_mels: "np.ndarray", axis: int, steps: int, filling: float | None
) -> "np.ndarray":
    """Log-mels moved along an axis.

    Args:
      log_mels: [notes, frames, n_mels].
      axis: 1 for frames, 2 for bands.
      steps: by how many.
      filling: what comes in; None: what is at the edge, again.
    """
    import numpy as np

    size = log_mels.shape[axis]
    source = np.arange(size) - steps
    found = np.take(log_mels, np.clip(source, 0, size - 1), axis=axis)
    if filling is not None:
        outside = (source < 0) | (source >= size)
        found[(slice(None),) * axis + (outside,)] = filling
    return found


def joined(own: "np.ndarray", its: "np.ndarray") -> dict[str, "np.ndarray"]:
    """Two networks' answers joined otherwise than by their log-probabilities' mean.

    Args:
      own: log-probabilities [notes, families].
      its: those of the network beside it.

    Returns:
      By the way, log-probabilities [notes, families], not always of sum 1: the mean of
      probabilities, by `JOINED_SHARE`; the answer of which the likeliest family is the
      likelier; the mean of log-probabilities, each weighed by its share and by how far
      its entropy is below the most.
    """
    import numpy as np

    def certainty(log_probabilities: "np.ndarray") -> "np.ndarray":
        entropy = -(np.exp(log_probabilities) * log_probabilities).sum(axis=1)
        return np.log(log_probabilities.shape[1]) - entropy[:, np.newaxis] + 1e-6

    share = JOINED_SHARE
    weight = share * certainty(own)
    weight /= weight + (1 - share) * certainty(its)
    surer = own.max(axis=1, keepdims=True) >= its.max(axis=1, keepdims=True)
    return {
        "mean of probabilities": np.log(
            share * np.exp(own) + (1 - share) * np.exp(its)
        ),
        "the surer of both": np.where(surer, own, its),
        "weights by entropy": weight * own + (1 - weight) * its,
    }


def table(right: dict[str, "np.ndarray"], instrument: "np.ndarray") -> Iterator[str]:
    """The lines of the table, each with the p-value of a test over instruments.

    Args:
      right: by the way, whether each note is answered rightly.
      instrument: of each note, of one and the same data set for all folds.
    """
    from mic_tf.evaluation import comparison

    yield "| answered | accuracy | notes lost | notes won | p |"
    yield "| --- | --- | --- | --- | --- |"
    before = right[UNCHANGED]
    for name, after in right.items():
        lost, won = (before & ~after).sum(), (~before & after).sum()
        differences = comparison.by_instrument(before, after, instrument)
        p = comparison.sign_flip_p(differences)
        yield f"| {name} | {after.mean():.3f} | {lost} | {won} | {p:.2g} |"


def _network(workdir: str) -> Network:
    from mic_tf.model import networks
    from mic_tf.training import workfolder

    run = workfolder.load_run(workdir)
    return Network(run, *networks.split_model(run.model))


def _records(dataset: str, flag: str = "dataset", skip_bad: bool = False) -> "Records":
    from mic_tf.datasets import catalogue
    from mic_tf.pipeline import batches

    builder = catalogue.load_builder(dataset, flags.FLAGS.data_dir, flag=flag)
    return batches.open_records(builder, skip_bad=skip_bad)


def _records_of(network: Network) -> "Records":
    data = network.run.settings.data
    return _records(data.dataset, skip_bad=data.skip_bad)


def _part(network: Network, records: "Records", name: str) -> "np.ndarray":
    """Notes of a run's own division: bool [notes].

    Raises:
      UserError: the data set has other notes than then.
    """
    from mic_tf.training import training_data

    described = network.run.summary["data"]
    division = training_data.divide_again(described, records)
    changed = training_data.changed_parts(described, division, records)
    if changed:
        raise UserError(
            f"{network.run.workdir}: other notes in {', '.join(changed)} than when it "
            "was trained; give the --data_dir with those"
        )
    return division.part(name)


def _log_mels(
    network: Network, records: "Records", selected: "np.ndarray"
) -> tuple["np.ndarray", "np.ndarray"]:
    """Log-mels of notes, and their families, which are a run's own in its data set."""
    import numpy as np
    import tensorflow as tf

    from mic_tf.pipeline import batches

    frontend = tf.function(lambda waveform: network.frontend(waveform, training=False))
    log_mels, families = [], []
    for waveform, family, weight, _ in batches.evaluation_batches(
        records, selected, batch_size=32
    ):
        real = weight.numpy() > 0
        log_mels.append(frontend(waveform).numpy()[real])
        families.append(family.numpy()[real])
    return np.concatenate(log_mels), np.concatenate(families)


def _answers(network: Network, log_mels: "np.ndarray") -> Answers:
    import numpy as np
    import tensorflow as tf

    parts = []
    for start in range(0, len(log_mels), _BATCH):
        batch = tf.constant(log_mels[start : start + _BATCH], tf.float32)
        logits, embeddings = network.behind(batch, training=False)
        parts.append((tf.nn.log_softmax(logits).numpy(), embeddings.numpy()))
    return Answers(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _gate(
    first: Network, records: "Records", others: "Records", embeddings: "np.ndarray"
) -> "np.ndarray":
    """Share of the run beside, float32 [notes, 1], for the embeddings of notes."""
    import numpy as np
    import tf_keras as keras

    trained = _part(first, records, "train")
    usable = np.flatnonzero(others.index.usable)
    count = min(int(trained.sum()), len(usable))
    chosen = np.zeros(len(others.index), bool)
    chosen[usable[np.linspace(0, len(usable) - 1, count).astype(int)]] = True
    heard, unlike = (
        _answers(first, _log_mels(first, *each)[0]).embeddings
        for each in ((records, trained), (others, chosen))
    )
    both = np.concatenate([heard, unlike])
    wanted = np.repeat(np.float32([1.0, 0.0]), [len(heard), len(unlike)])
    mean, deviation = both.mean(axis=0), both.std(axis=0) + 1e-6
    keras.utils.set_random_seed(0)
    gate = keras.Sequential(
        [
            keras.layers.Dense(
                1,
                activation="sigmoid",
                kernel_regularizer=keras.regularizers.L2(1e-3),
            )
        ]
    )
    gate.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    fitted = gate.fit(
        (both - mean) / deviation, wanted, _BATCH, _GATE_EPOCHS, verbose=0
    )
    accuracy = fitted.history["accuracy"][-1]
    print(f"the gate tells {accuracy:.3f} of what it was fitted to", flush=True)
    return gate.predict((embeddings - mean) / deviation, verbose=0)


if __name__ == "__main__":
    define_flags()
    command.run(main)
