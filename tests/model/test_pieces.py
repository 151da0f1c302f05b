import pytest

from mic_tf.model import pieces


@pytest.mark.parametrize(
    ("batch", "count"),
    [(None, 1), (0, 1), (3, 1), (7, 1), (8, 2), (9, 1), (32, 8), (36, 6), (256, 8)],
)
def test_pieces_divide_a_batch_on_a_cpu_and_nowhere_else(monkeypatch, batch, count):
    monkeypatch.setattr(pieces, "on_accelerator", lambda: False)
    assert pieces.count(batch, together=4) == count
    monkeypatch.setattr(pieces, "on_accelerator", lambda: True)
    assert pieces.count(batch, together=4) == 1


def test_a_batch_smaller_than_a_piece_stays_whole(monkeypatch):
    monkeypatch.setattr(pieces, "on_accelerator", lambda: False)
    assert pieces.count(6, together=40) == 1
