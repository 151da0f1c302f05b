"""How windows get into an opened model."""

import numpy as np
import pytest

from mic_tf.serving import models
from mic_tf.taxonomy import NOTE_SAMPLES


def test_room_for_windows_is_read_where_it_is():
    room = models.room_for_windows(3)
    assert room.shape == (3, NOTE_SAMPLES) and room.dtype == np.float32
    room[:] = 0.5
    tensor = models._tensor(room[:2])
    room[1, 5] = 0.25
    assert tensor[1, 5] == 0.25


@pytest.mark.parametrize("fault", ["place", "order", "read-only", "nothing"])
def test_what_tensorflow_cannot_read_where_it_is_becomes_a_copy(fault):
    values = np.random.default_rng(0).normal(size=[4, 100]).astype(np.float32)
    if fault == "place":
        memory = np.zeros(values.nbytes + 128, np.uint8)
        first = -memory.ctypes.data % 64 + 4
        place = memory[first : first + values.nbytes].view(np.float32)
        place = place.reshape(values.shape)
        place[:] = values
    elif fault == "order":
        place = np.asfortranarray(values)
    elif fault == "read-only":
        place = models.room_for_windows(1)[:, :100].copy()
        place.flags.writeable = False
    else:
        place = values[:0]
    expected = place.copy()
    tensor = models._tensor(place)
    if place.flags.writeable:
        place[...] = 7.0
    np.testing.assert_array_equal(tensor.numpy(), expected)
