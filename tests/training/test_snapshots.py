import pytest
import tensorflow as tf

from mic_tf.errors import UserError
from mic_tf.training import snapshots


@pytest.fixture(params=["local", "ram"])
def folder(request, tmp_path):
    if request.param == "ram":
        return f"ram://snapshots/{tmp_path.name}"
    return str(tmp_path / "checkpoints")


def checkpoint(value):
    return tf.train.Checkpoint(value=tf.Variable(float(value)))


def save(folder, number, keep=2):
    snapshots.save(checkpoint(number), folder, number, {"step": number}, keep=keep)


def restored(snapshot):
    target = checkpoint(-1)
    target.read(snapshot.prefix).assert_consumed()
    return float(target.value)


def test_newest_is_what_was_saved_last_and_old_ones_go(folder):
    for number in (5, 90, 100):
        save(folder, number)
    snapshot = snapshots.newest(folder)
    assert (snapshot.number, snapshot.facts) == (100, {"step": 100})
    assert restored(snapshot) == 100.0
    left = {name.split(".")[0] for name in tf.io.gfile.listdir(folder)}
    assert left == {"state-000000090", "state-000000100"}


def test_nothing_saved_is_none(folder):
    assert snapshots.newest(folder) is None


def test_one_that_is_replaced_while_it_is_read_gives_way_to_the_new_one(
    folder, monkeypatch
):
    save(folder, 1, keep=1)
    whole = snapshots._whole

    def replaced_meanwhile(path):
        monkeypatch.setattr(snapshots, "_whole", whole)
        save(folder, 2, keep=1)
        return whole(path)

    monkeypatch.setattr(snapshots, "_whole", replaced_meanwhile)
    assert snapshots.newest(folder).number == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damaged_checkpoint_is_passed_over_for_the_one_before(folder, damage):
    save(folder, 1)
    save(folder, 2)
    path = snapshots.newest(folder).prefix + ".data-00000-of-00001"
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    if damage == "missing":
        tf.io.gfile.remove(path)
    else:
        changed = content[:-1] if damage == "truncated" else b"X" + content[1:]
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(changed)
    assert restored(snapshots.newest(folder)) == 1.0


def test_checkpoint_without_manifest_does_not_count(folder):
    save(folder, 1)
    checkpoint(2).write(f"{folder}/state-000000002")
    assert snapshots.newest(folder).number == 1
    save(folder, 3)
    names = tf.io.gfile.listdir(folder)
    assert not [name for name in names if name.startswith("state-000000002")]


def test_no_whole_one_left_is_an_error_not_a_fresh_start(folder):
    save(folder, 1)
    tf.io.gfile.remove(f"{folder}/state-000000001.index")
    with pytest.raises(UserError, match="none of its 1"):
        snapshots.newest(folder)


def test_workers_other_than_the_chief_write_nothing(folder):
    tf.io.gfile.makedirs(folder)
    snapshots.save(checkpoint(1), folder, 1, {}, keep=2, is_chief=False)
    assert tf.io.gfile.listdir(folder) == []


def test_clearing_takes_snapshots_and_nothing_else(folder):
    assert not snapshots.clear(folder)
    save(folder, 1)
    checkpoint(2).write(f"{folder}/state-000000002")
    tf.io.gfile.makedirs(f"{folder}/state-000000003_temp")
    others = ("state-dict.pt", "state-1.json")
    for name in others:
        with tf.io.gfile.GFile(f"{folder}/{name}", "w") as file:
            file.write("mine")
    assert snapshots.clear(folder)
    assert sorted(tf.io.gfile.listdir(folder)) == sorted(others)
