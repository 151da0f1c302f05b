import numpy as np
import pytest
import tensorflow_datasets as tfds

from mic_tf import taxonomy
from mic_tf.datasets import schema


def _names(features, prefix=""):
    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _names(feature, f"{prefix}{name}/")
        else:
            yield prefix + name


def test_our_records_have_the_features_of_tfds_nsynth():
    nsynth = tfds.builder_cls("nsynth")
    theirs = nsynth(config="full", data_dir="/nonexistent").info.features
    ours = schema.features(taxonomy.FAMILIES)
    assert sorted(_names(ours)) == sorted(_names(theirs))
    family = theirs["instrument"]["family"].names
    assert ours["instrument"]["family"].names == family
    sources = ours["instrument"]["source"].names
    assert sources == [*theirs["instrument"]["source"].names, "unknown"]


def test_a_record_comes_back_as_it_was_written():
    features = schema.features(taxonomy.FAMILIES)
    schema.set_names(features, ["b_piano", "a_flute", "a_flute"])
    audio = np.random.default_rng(0).integers(-32768, 32767, 64_000).astype(np.int16)
    note = schema.record("x", audio, instrument="b_piano", family="keyboard")
    serializer = tfds.core.example_serializer.ExampleSerializer(
        features.get_serialized_info()
    )
    content = serializer.serialize_example(features.encode_example(note))
    back = tfds.as_numpy(features.deserialize_example(content))
    np.testing.assert_array_equal(back["audio"], audio)
    assert back["audio"].dtype == np.int16
    assert (back["pitch"], back["velocity"]) == (-1, -1)
    assert back["instrument"]["label"] == 1
    assert back["instrument"]["source"] == taxonomy.SOURCES.index("unknown")
    assert not any(back["qualities"].values())
    assert len(content) == pytest.approx(schema.RECORD_BYTES, rel=0.01)
