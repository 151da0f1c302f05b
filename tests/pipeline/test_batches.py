import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mic_tf import taxonomy
from mic_tf.errors import UserError
from mic_tf.pipeline import batches, draws
from mic_tf.pipeline.balance import balance
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.draws import Draw, RecordFiles
from mic_tf.pipeline.index import NoteIndex


@pytest.fixture(scope="module")
def records(small_dataset):
    return batches.open_records(small_dataset)


def train_acceptance(records, method="none", alpha=1.0):
    train = records.index.note_split == 0
    found = balance(records.index.counts(train), method, alpha)
    return train * found.acceptance[records.index.family]


def stream(records, acceptance=None, class_weight=None, batch_size=4, **changes):
    """Batches in epochs of 36 notes: as many as there are to train on."""
    if acceptance is None:
        acceptance = train_acceptance(records)
    draw = Draw(**{"notes_per_epoch": 36, "seed": 3, **changes})
    drawn = draws.drawn_records(records, acceptance, draw)
    return batches.training_batches(
        records, drawn, batch_size=batch_size, class_weight=class_weight
    )


def fingerprints(dataset, count):
    """What tells the notes of the next `count` batches apart, in order."""
    return [
        waveform.tobytes()
        for batch in dataset.take(count).as_numpy_iterator()
        for waveform in batch[0]
    ]


def test_batches_are_int16_waveforms_with_the_right_families(records, small_dataset):
    known = {
        note["audio"].tobytes(): int(note["instrument"]["family"])
        for note in tfds.as_numpy(small_dataset.as_dataset(split="train"))
    }
    for waveform, family, weight in stream(records).take(9).as_numpy_iterator():
        assert waveform.dtype == np.int16
        assert waveform.shape == (4, taxonomy.NOTE_SAMPLES)
        assert weight.tolist() == [1.0] * 4
        assert [known[w.tobytes()] for w in waveform] == family.tolist()


def test_no_tuning_thread_holds_up_the_end_of_a_stream(records):
    chosen = np.ones(len(records.index), bool)
    evaluated = batches.evaluation_batches(records, chosen, batch_size=4)
    for dataset in (stream(records), evaluated):
        assert dataset.options().autotune.enabled is False


def test_shapes_are_static(records):
    shapes = [spec.shape.as_list() for spec in stream(records).element_spec]
    assert shapes == [[4, taxonomy.NOTE_SAMPLES], [4], [4]]


def test_every_note_comes_once_in_a_pass_and_in_a_new_order_in_the_next(records):
    drawn = fingerprints(stream(records), 18)
    first, second = drawn[:36], drawn[36:]
    assert len(set(first)) == 36
    assert set(first) == set(second)
    assert first != second


def test_order_is_a_function_of_seed_and_place(records):
    whole = fingerprints(stream(records), 20)
    assert fingerprints(stream(records), 20) == whole
    assert fingerprints(stream(records, seed=4), 20) != whole
    for epoch, step in [(0, 5), (1, 0), (1, 7)]:
        later = stream(records, start_epoch=epoch, skip=4 * step)
        done = epoch * 9 + step
        assert fingerprints(later, 20 - done) == whole[done * 4 :]


def test_pipelines_share_the_notes_of_a_pass(records):
    halves = [
        fingerprints(
            stream(records, batch_size=1, notes_per_epoch=12, pipeline=(i, 3)), 12
        )
        for i in range(3)
    ]
    assert len(set().union(*map(set, halves))) == 36


def test_fewer_files_than_pipelines_names_the_flag(records):
    with pytest.raises(UserError, match="--num_shards=5"):
        stream(records, pipeline=(0, 5))


def test_class_weights_reach_the_batches(records):
    weights = np.arange(11.0)
    for _, family, weight in stream(records, class_weight=weights).take(3):
        assert weight.numpy().tolist() == family.numpy().tolist()


def test_evaluation_reads_each_note_once_and_fills_up_with_weight_zero(records):
    selected = records.index.note_split == 1
    dataset = batches.evaluation_batches(records, selected, batch_size=5, fill_to=10)
    rows, weights = [], []
    for waveform, _, weight, row in dataset.as_numpy_iterator():
        assert waveform.shape[0] == 5
        rows += row.tolist()
        weights += weight.tolist()
    assert rows[:12] == np.flatnonzero(selected).tolist()
    assert rows[12:] == [-1] * 8
    assert weights == [1.0] * 12 + [0.0] * 8


def test_evaluation_pipelines_get_as_many_batches_and_all_notes(records):
    selected = records.index.note_split == 1
    parts = [
        list(
            batches.evaluation_batches(
                records, selected, batch_size=2, fill_to=4, pipeline=(i, 2)
            ).as_numpy_iterator()
        )
        for i in range(2)
    ]
    assert [len(part) for part in parts] == [3, 3]
    rows = [row for part in parts for batch in part for row in batch[3]]
    assert sorted(rows) == np.flatnonzero(selected).tolist()


@pytest.fixture(scope="module")
def nsynth_proportions(tmp_path_factory):
    """8,000 records without content in NSynth's proportions, over eight files."""
    shares = np.array([taxonomy.NSYNTH_FAMILY_NOTES[f] for f in taxonomy.FAMILIES])
    family = np.random.default_rng(0).choice(11, 8000, p=shares / shares.sum())
    folder = tmp_path_factory.mktemp("nsynth_proportions")
    paths = [str(folder / f"part-{i}") for i in range(8)]
    for path in paths:
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(1000):
                writer.write(b"note")
    index = NoteIndex(
        families=taxonomy.FAMILIES,
        instruments=("only",),
        sources=taxonomy.SOURCES,
        split_names=("train",),
        file_names=tuple(paths),
        file_sizes=np.zeros(8, np.int64),
        file_notes=np.full(8, 1000),
        file_split=np.zeros(8, np.int8),
        file_lost=np.zeros(8, np.int64),
        ids=np.arange(8000).astype(str),
        family=family.astype(np.int16),
        instrument=np.zeros(8000, np.int32),
        source=np.zeros(8000, np.int8),
        pitch=np.zeros(8000, np.int16),
        velocity=np.zeros(8000, np.int16),
    )
    return Records(index, tuple(paths), audio_is_float=False)


def drawn_families(records, found, count=20_000):
    family = records.index.family
    dataset = draws.drawn_records(
        records, found.acceptance[family], Draw(notes_per_epoch=count, seed=1)
    )
    rows = dataset.map(lambda _, row: row).take(count).batch(count)
    return family[next(rows.as_numpy_iterator())]


def assert_shares(families, target):
    shares = np.bincount(families, minlength=11) / len(families)
    error = np.sqrt(target * (1 - target) / len(families))
    assert (np.abs(shares - target) <= 3 * error).all()


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_shares_after_rejection_are_the_target(nsynth_proportions, alpha):
    counts = np.bincount(nsynth_proportions.index.family, minlength=11)
    found = balance(counts, "rejection", alpha)
    assert_shares(drawn_families(nsynth_proportions, found), found.target)


def test_distribution_is_that_of_tensorflows_rejection_resample(nsynth_proportions):
    family = nsynth_proportions.index.family
    found = balance(np.bincount(family, minlength=11), "rejection", 1.0)
    theirs = (
        tf.data.Dataset.from_tensor_slices(family.astype(np.int32))
        .repeat()
        .rejection_resample(lambda label: label, found.target, found.initial, seed=5)
        .take(20_000)
        .map(lambda label, _: label)
        .batch(20_000)
    )
    assert_shares(next(theirs.as_numpy_iterator()), found.target)
    assert_shares(drawn_families(nsynth_proportions, found), found.target)


def test_no_note_comes_twice_in_a_pass_of_rejection(nsynth_proportions):
    family = nsynth_proportions.index.family
    found = balance(np.bincount(family, minlength=11), "rejection", 1.0)
    stream = draws._PassStream(
        RecordFiles.of_records(nsynth_proportions),
        np.arange(8),
        found.acceptance[family],
        seed=1,
        shuffle_buffer=1024,
    )
    rows = [
        [int(row) for _, row in stream.one_pass(np.int64(0), np.int64(number))]
        for number in range(2)
    ]
    for drawn in rows:
        assert len(drawn) == len(set(drawn))
        assert len(drawn) == pytest.approx(8000 / found.reads_per_note, rel=0.1)
    assert set(rows[0]) != set(rows[1])


def test_no_audio_is_parsed_of_a_rejected_note(records, monkeypatch):
    acceptance = train_acceptance(records, "rejection")
    parsed = []
    original = batches._to_int16

    def counting(audio, is_float):
        size = tf.numpy_function(
            lambda a: np.int64(parsed.append(len(a)) or 0), [audio], tf.int64
        )
        with tf.control_dependencies([size]):
            return original(audio, is_float)

    monkeypatch.setattr(batches, "_to_int16", counting)
    draw = Draw(notes_per_epoch=120, seed=0)
    dataset = draws.drawn_records(records, acceptance, draw)
    dataset = dataset.take(120).batch(4).map(batches._parser(records, None))
    families = [f for batch in dataset for f in batch[1].numpy()]
    assert sum(parsed) == len(families) == 120
    assert acceptance.sum() < 0.5 * (records.index.note_split == 0).sum()
