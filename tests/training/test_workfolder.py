"""What a work folder's settings set beside Keras."""

import os

import pytest

from mic_tf.training import workfolder

CHANNELS_LAST = "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT"


@pytest.mark.parametrize(
    ("policy", "before", "behind"),
    [
        ("float32", None, None),
        ("mixed_float16", None, "1"),
        ("mixed_bfloat16", None, "1"),
        ("mixed_bfloat16", "0", "0"),
    ],
)
def test_batch_norm_in_16_bit_stays_in_channels_last_on_a_gpu(
    policy, before, behind, monkeypatch
):
    monkeypatch.setenv(CHANNELS_LAST, "")  # Restored behind the test.
    monkeypatch.delenv(CHANNELS_LAST)
    if before is not None:
        monkeypatch.setenv(CHANNELS_LAST, before)
    with workfolder.numeric_policy(policy):
        pass
    assert os.environ.get(CHANNELS_LAST) == behind
