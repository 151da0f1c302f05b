"""A run over many files: every file gets its line, whatever happens."""

import csv
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from mic_tf.errors import UserError
from mic_tf.serving import prediction, rows
from mic_tf.serving.classifier import Classifier
from mic_tf.serving.doubt import Doubt

OPTIONS = prediction.Options(layout="csv", batch_size=2)


@pytest.fixture(scope="module")
def classifier(tiny_export) -> Classifier:
    return Classifier.load(tiny_export)


@pytest.fixture
def paths(tmp_path) -> list[str]:
    """Two sounds with a text file and a missing file between them."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)
    for name in ("a.wav", "d.flac"):
        soundfile.write(tmp_path / name, sound, 16_000)
    (tmp_path / "b.wav").write_text("text")
    return [str(tmp_path / name) for name in ("a.wav", "b.wav", "c.wav", "d.flac")]


class Unasked(Classifier):
    """Answers nothing, as nobody may ask before the result can be written."""

    def classify_files(self, paths, batch_size):
        raise AssertionError("asked")
        yield


def read_csv(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_rows(path: pathlib.Path, layout: str) -> list[dict]:
    return read_csv(path) if layout == "csv" else json.loads(path.read_text())


def test_bad_files_get_a_line_and_the_rest_goes_on(classifier, paths, tmp_path, capsys):
    out = tmp_path / "result" / "out.csv"
    options = dataclasses.replace(OPTIONS, out=str(out))
    assert prediction.predict(classifier, paths, options) == 2
    found = read_csv(out)
    assert [row["file"] for row in found] == paths
    assert [bool(row["family"]) for row in found] == [True, False, False, True]
    assert found[1]["error"].startswith("not an audio file")
    assert found[2]["error"] == "cannot be read: No such file or directory"
    assert "2 of 4 files could not be answered" in capsys.readouterr().err
    names = {path.name for path in out.parent.iterdir()}
    assert names == {"out.csv", "out.csv.model"}


def test_the_same_rows_go_to_the_screen(classifier, paths, capsys):
    prediction.predict(classifier, paths, OPTIONS)
    found = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["file"] for row in found] == paths


def test_improbable_answers_are_unsure(classifier, paths, tmp_path):
    out = tmp_path / "out.csv"
    options = dataclasses.replace(OPTIONS, out=str(out), doubt=Doubt(0.99))
    prediction.predict(classifier, paths[:1], options)
    assert [row["family"] for row in read_csv(out)] == ["unsure"]


@pytest.mark.parametrize("layout", ["csv", "json"])
def test_an_interrupted_run_keeps_whole_lines(classifier, paths, tmp_path, layout):
    out = tmp_path / "out"

    class Interrupted(Classifier):
        def classify_files(self, paths, batch_size):
            yield from list(super().classify_files(paths[:3], batch_size))
            raise KeyboardInterrupt

    interrupted = Interrupted(classifier.contract, classifier._infer)
    options = dataclasses.replace(OPTIONS, out=str(out), layout=layout)
    with pytest.raises(KeyboardInterrupt):
        prediction.predict(interrupted, paths, options)
    found = read_rows(out, layout)
    assert [row["file"] for row in found] == paths[:3]
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("layout", ["csv", "json"])
def test_a_stopped_run_is_resumed_without_answering_again(
    classifier, paths, tmp_path, layout
):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out), layout=layout, resume=True)
    prediction.predict(classifier, paths, options)
    whole = out.read_text()
    cut = whole.index("d.flac") + 20
    (tmp_path / "out.partial").write_text(whole[:cut])
    (tmp_path / "out.model").rename(tmp_path / "out.partial.model")
    out.unlink()
    asked = []

    class Asked(Classifier):
        def classify_files(self, paths, batch_size):
            asked.extend(paths)
            return super().classify_files(paths, batch_size)

    again = Asked(classifier.contract, classifier._infer, classifier.fingerprint)
    assert prediction.predict(again, paths, options) == 2
    assert asked == paths[1:]
    assert out.read_text() == whole


@pytest.mark.parametrize("layout", ["csv", "json"])
def test_answers_to_files_that_are_not_asked_for_are_kept(
    classifier, paths, tmp_path, layout
):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out), layout=layout, resume=True)
    prediction.predict(classifier, paths[:1], options)
    prediction.predict(classifier, paths[3:], options)
    prediction.predict(classifier, [paths[0], "nowhere"], options)
    found = read_rows(out, layout)
    assert [row["file"] for row in found] == [paths[0], paths[3], "nowhere"]
    assert [bool(row["error"]) for row in found] == [False, False, True]


def killed(classifier: Classifier, after: int) -> Classifier:
    """One whose process ends after so many answers."""

    class Killed(Classifier):
        def classify_files(self, paths, batch_size):
            yield from list(super().classify_files(paths[:after], batch_size))
            raise ZeroDivisionError

    return Killed(classifier.contract, classifier._infer, classifier.fingerprint)


def kill_a_run(classifier, paths, options, after=1) -> None:
    with pytest.raises(ZeroDivisionError):
        prediction.predict(killed(classifier, after), paths, options)


@pytest.mark.parametrize("layout", ["csv", "json"])
def test_errors_of_files_that_are_not_asked_for_now_are_kept(
    classifier, paths, tmp_path, layout
):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out), layout=layout, resume=True)
    assert prediction.predict(classifier, paths[:2], options) == 1
    assert prediction.predict(classifier, paths[3:], options) == 0
    found = read_rows(out, layout)
    assert [row["file"] for row in found] == [paths[0], paths[1], paths[3]]
    assert [bool(row["error"]) for row in found] == [False, True, False]
    assert prediction.predict(classifier, paths, options) == 2
    assert sorted(row["file"] for row in read_rows(out, layout)) == paths


@pytest.mark.parametrize("layout", ["csv", "json"])
def test_what_a_killed_run_added_to_a_finished_result_is_kept_with_it(
    classifier, paths, tmp_path, layout
):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out), layout=layout)
    prediction.predict(classifier, paths[:1] * 2, options)
    resumed = dataclasses.replace(options, resume=True)
    kill_a_run(classifier, [paths[0], paths[3], paths[2]], resumed)
    # As it may be in an object store, where what it begins with comes in two pieces.
    text = (tmp_path / "out.partial").read_text()
    whole = [row["file"] for row in rows_in(text, classifier, layout)]
    assert whole == [paths[0], paths[0], paths[3]]
    lines = text.splitlines(keepends=True)
    (tmp_path / "out.partial").write_text("".join(lines[:2]))
    prediction.predict(classifier, [paths[3]], resumed)
    found = [row["file"] for row in read_rows(out, layout)]
    assert found == [paths[0], paths[0], paths[3]]


def rows_in(text: str, classifier: Classifier, layout: str) -> list[dict]:
    found = rows.layout(layout, classifier.labels, []).rows_of(text)
    return [dataclasses.asdict(row) for row in found]


def test_a_killed_run_that_was_to_make_a_result_anew_keeps_no_old_answer(
    classifier, paths, tmp_path, caplog
):
    out = tmp_path / "out.csv"
    options = dataclasses.replace(OPTIONS, out=str(out))
    both = [paths[0], paths[3]]
    prediction.predict(classifier, both, options)
    for path in both:
        soundfile.write(path, np.zeros(20_000), 16_000)
    kill_a_run(classifier, both, options)
    prediction.predict(classifier, both, dataclasses.replace(options, resume=True))
    assert [row["family"] for row in read_csv(out)] == ["silence", "silence"]
    assert f"{out}: its rows are not kept; the run that left" in caplog.text


def test_a_run_that_was_killed_while_it_put_its_result_in_place_is_gone_on_with(
    classifier, paths, tmp_path
):
    out = tmp_path / "out.csv"
    options = dataclasses.replace(OPTIONS, out=str(out), resume=True)
    prediction.predict(classifier, paths, options)
    (tmp_path / "out.csv.model").rename(tmp_path / "out.csv.partial.model")
    before = out.read_bytes()
    none_asked = killed(classifier, 0)
    with pytest.raises(ZeroDivisionError):
        prediction.predict(none_asked, paths, options)
    prediction.predict(classifier, [paths[0], paths[3]], options)
    assert sorted(out.read_bytes().splitlines()) == sorted(before.splitlines())


def test_a_result_on_a_full_disk_is_a_users_error(classifier, paths, tmp_path):
    out = tmp_path / "out.csv"
    code = (
        "import resource, sys\n"
        "from mic_tf.serving import output\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5, 5))\n"
        "with output.only_one(sys.argv[1]), output.lines_to(sys.argv[1]) as write:\n"
        "    write('more than five')\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(out)], capture_output=True, text=True
    )
    last = finished.stderr.splitlines()[-1]
    assert last.startswith(f"mic_tf.errors.UserError: {out}: cannot be written: ")


def test_a_killed_run_changes_nothing_of_what_the_finished_result_says_it_is(
    classifier, paths, tmp_path
):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out))
    prediction.predict(classifier, paths[:1], options)
    surer = dataclasses.replace(options, doubt=Doubt(0.99))
    kill_a_run(classifier, paths[3:], surer)
    resumed = dataclasses.replace(options, resume=True)
    with pytest.raises(
        UserError,
        match=r"out.partial: cannot be resumed: made with another --min_probability; "
        r"a run that was killed left it; remove it to go on with .*/out alone",
    ):
        prediction.predict(killed(classifier, 0), paths, resumed)
    before = (tmp_path / "out.partial").read_bytes()
    # What the killed run was to replace is not mixed with what it left.
    prediction.predict(classifier, [], dataclasses.replace(surer, resume=True))
    assert out.read_bytes() == before
    assert [row["file"] for row in read_csv(out)] == paths[3:]
    assert sorted(os.listdir(tmp_path))[3:] == ["out", "out.model"]


def test_what_a_killed_timeline_left_is_named_and_the_result_stays(
    classifier, paths, tmp_path
):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out))
    prediction.predict(classifier, paths[:1], options)
    before = out.read_bytes()

    class Killed(Classifier):
        def classify_windows(self, windows, batch_size):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        prediction.predict_timelines(Killed(classifier.contract, None), paths, options)
    resumed = dataclasses.replace(options, resume=True)
    with pytest.raises(UserError, match=r"out.partial: .*out.partial.model.* missing"):
        prediction.predict(classifier, paths, resumed)
    assert out.read_bytes() == before
    (tmp_path / "out.partial").unlink()
    prediction.predict(classifier, paths, resumed)
    assert [row["file"] for row in read_csv(out)] == paths


def test_a_result_that_another_process_writes_is_left_alone(
    classifier, paths, tmp_path
):
    out = tmp_path / "out.csv"
    code = (
        "import sys, time\nfrom mic_tf.serving import output\n"
        "with output.only_one(sys.argv[1]), output.lines_to(sys.argv[1]) as write:\n"
        "    write('theirs\\n')\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        unasked = Unasked(classifier.contract, None)
        message = rf"out.csv: process {other.pid} on .* is writing it; wait for it"
        for run in (
            prediction.predict,
            prediction.predict_timelines,
            prediction.predict_neighbours,
        ):
            with pytest.raises(UserError, match=message):
                run(unasked, paths, dataclasses.replace(OPTIONS, out=str(out)))
        assert (tmp_path / "out.csv.partial").read_text() == "theirs\n"
        other.kill()
    # What holds it ends with the process.
    prediction.predict(classifier, paths, dataclasses.replace(OPTIONS, out=str(out)))
    assert [row["file"] for row in read_csv(out)] == paths
    assert sorted(os.listdir(tmp_path))[3:] == ["out.csv", "out.csv.model"]


def test_a_recording_is_not_written_over(classifier, paths, tmp_path):
    unnamed = tmp_path / "take one"
    unnamed.write_bytes((tmp_path / "a.wav").read_bytes())
    (tmp_path / "link").symlink_to(unnamed)
    for out in (tmp_path / "a.wav", tmp_path / "new.FLAC", unnamed, tmp_path / "link"):
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        options = dataclasses.replace(OPTIONS, out=str(out))
        with pytest.raises(UserError, match=f"{out.name}: not written: "):
            unasked = Unasked(classifier.contract, None)
            prediction.predict(unasked, [*paths, str(unnamed)], options)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_is_named_twice_has_two_rows_after_resuming(
    classifier, paths, tmp_path
):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out), resume=True)
    prediction.predict(classifier, paths[:1], options)
    prediction.predict(classifier, [paths[0], paths[3], paths[0]], options)
    assert sorted(row["file"] for row in read_csv(out)) == [paths[0]] * 2 + paths[3:]


def test_kept_answers_are_in_place_before_the_file_they_were_in_is_touched(
    classifier, paths, tmp_path, monkeypatch
):
    out = tmp_path / "out.csv"
    options = dataclasses.replace(OPTIONS, out=str(out), resume=True)
    prediction.predict(classifier, paths[:1], options)
    partial = tmp_path / "out.csv.partial"
    out.rename(partial)
    (tmp_path / "out.csv.model").rename(tmp_path / "out.csv.partial.model")
    before = partial.read_bytes()

    class Full(tf.io.gfile.GFile):
        def write(self, content):
            super().write(content[:10])
            self.flush()
            raise tf.errors.ResourceExhaustedError(None, None, "No space left")

    monkeypatch.setattr(tf.io.gfile, "GFile", Full)
    with pytest.raises(UserError, match="out.csv.*: cannot be written: No space left"):
        prediction.predict(classifier, paths, options)
    assert partial.read_bytes() == before


@pytest.mark.parametrize("layout", ["csv", "json"])
def test_kept_answers_are_there_before_the_first_new_one(
    classifier, paths, tmp_path, layout
):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out), layout=layout, resume=True)
    prediction.predict(classifier, paths[:1], options)
    before = out.read_text()

    class Killed(Classifier):
        def classify_files(self, paths, batch_size):
            kept = (tmp_path / "out.partial").read_text()
            assert "a.wav" in kept and before.startswith(kept)
            assert out.read_text() == before
            raise ZeroDivisionError
            yield

    killed = Killed(classifier.contract, classifier._infer, classifier.fingerprint)
    with pytest.raises(ZeroDivisionError):
        prediction.predict(killed, paths, options)
    prediction.predict(classifier, paths[3:], options)
    found = read_rows(out, layout)
    assert [row["file"] for row in found] == [paths[0], paths[3]]


def test_interrupted_neighbours_leave_the_result_that_was_there(
    classifier, paths, tmp_path
):
    out = tmp_path / "out.csv"
    out.write_text("old")

    class Interrupted(Classifier):
        def classify_files(self, paths, batch_size):
            raise KeyboardInterrupt
            yield

    interrupted = Interrupted(classifier.contract, classifier._infer)
    options = dataclasses.replace(OPTIONS, out=str(out), neighbours=2)
    with pytest.raises(KeyboardInterrupt):
        prediction.predict_neighbours(interrupted, paths, options)
    assert out.read_text() == "old"


@pytest.mark.parametrize("layout", ["csv", "json"])
def test_a_result_of_another_model_is_not_resumed(classifier, paths, tmp_path, layout):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out), layout=layout)
    prediction.predict(classifier, paths[:1], options)
    before = out.read_bytes()
    options = dataclasses.replace(options, resume=True)
    other = Classifier(classifier.contract, classifier._infer, "another")
    with pytest.raises(UserError, match=r"out: cannot be resumed: made with another m"):
        prediction.predict(other, paths, options)
    surer = dataclasses.replace(options, doubt=Doubt(0.9))
    with pytest.raises(UserError, match=r"resumed: made with another --min_probabili"):
        prediction.predict(classifier, paths, surer)
    assert out.read_bytes() == before
    (tmp_path / "out.model").unlink()
    with pytest.raises(UserError, match=r"resumed: .*out.model, .*, is missing"):
        prediction.predict(classifier, paths, options)


def test_a_resumed_result_that_was_not_there_is_begun(classifier, paths, tmp_path):
    out = tmp_path / "out.csv"
    options = dataclasses.replace(OPTIONS, out=str(out), resume=True)
    prediction.predict(classifier, paths[:1], options)
    assert prediction.predict(classifier, paths, options) == 2
    assert [row["file"] for row in read_csv(out)] == paths


def test_a_result_with_other_columns_is_not_resumed(classifier, paths, tmp_path):
    out = tmp_path / "out.csv"
    options = dataclasses.replace(OPTIONS, out=str(out), resume=True)
    prediction.predict(classifier, paths[:1], options)
    out.write_text("file,family,probability,bell,error\n")
    with pytest.raises(UserError, match=r"out.csv: cannot be resumed: other columns"):
        prediction.predict(classifier, paths, options)
    with pytest.raises(UserError, match="--resume: needs --out and --format=csv"):
        options = dataclasses.replace(options, layout="table")
        prediction.predict(classifier, paths, options)


@pytest.mark.parametrize("layouts", [("csv", "json"), ("json", "csv")])
def test_a_result_in_another_layout_is_not_resumed(
    classifier, paths, tmp_path, layouts
):
    out = tmp_path / "out"
    options = dataclasses.replace(OPTIONS, out=str(out), layout=layouts[0])
    prediction.predict(classifier, paths[:1], options)
    whole = out.read_bytes()
    options = dataclasses.replace(options, layout=layouts[1], resume=True)
    for content in (whole, whole[:-10]):
        out.write_bytes(content)
        with pytest.raises(UserError, match="out: cannot be resumed: other co"):
            prediction.predict(classifier, paths, options)
        assert out.read_bytes() == content


def test_an_old_result_stays_until_the_new_one_is_whole(classifier, paths, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("old")

    class Faulty(Classifier):
        def classify_files(self, paths, batch_size):
            yield next(super().classify_files(paths, batch_size))
            raise ZeroDivisionError

    faulty = Faulty(classifier.contract, classifier._infer)
    with pytest.raises(ZeroDivisionError):
        prediction.predict(faulty, paths, dataclasses.replace(OPTIONS, out=str(out)))
    assert out.read_text() == "old"
    partial = read_csv(tmp_path / "out.csv.partial")
    assert [row["file"] for row in partial] == paths[:1]


def test_a_result_that_cannot_be_written_is_a_users_error(classifier, paths, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "by.txt").touch()
    for name in ("taken", "taken/", "new/"):
        anew = dataclasses.replace(OPTIONS, out=f"{tmp_path}/{name}")
        for options in (anew, dataclasses.replace(anew, resume=True)):
            unasked = Unasked(classifier.contract, None)
            with pytest.raises(UserError, match=f"{name}: cannot be written: .*folder"):
                prediction.predict(unasked, paths[:1], options)
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "b.wav", "d.flac", "taken"]
    with pytest.raises(UserError, match="a.wav: the folder cannot be made"):
        options = dataclasses.replace(OPTIONS, out=f"{paths[0]}/out.csv")
        prediction.predict(classifier, paths, options)
    with pytest.raises(UserError, match="taken: cannot be written"):
        alike = dataclasses.replace(OPTIONS, out=str(tmp_path / "taken"), neighbours=1)
        prediction.predict_neighbours(Unasked(classifier.contract, None), paths, alike)


@pytest.mark.parametrize("name", ["out.partial", "out.model"])
def test_an_earlier_result_that_cannot_be_read_is_a_users_error(
    classifier, paths, tmp_path, name
):
    options = dataclasses.replace(OPTIONS, out=str(tmp_path / "out"), resume=True)
    prediction.predict(classifier, paths[:1], options)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{name}: cannot be read: .*directory"):
        prediction.predict(Unasked(classifier.contract, None), paths, options)


@pytest.mark.parametrize("layout", ["csv", "json", "table"])
def test_a_reader_that_is_gone_ends_the_run_quietly(
    classifier, paths, layout, monkeypatch
):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        options = dataclasses.replace(OPTIONS, layout=layout)
        prediction.predict(classifier, paths, options)


def test_a_full_screen_is_a_users_error(classifier, paths):
    code = (
        "import sys\nfrom mic_tf.serving import output\n"
        "with output.lines_to('') as write:\n    write('a line\\n')\n"
    )
    with open("/dev/full", "w") as full:
        finished = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True
        )
    last = finished.stderr.splitlines()[-1]
    reason = "standard output: cannot be written: No space left on device"
    assert last == f"mic_tf.errors.UserError: {reason}"


def test_names_that_are_no_text_keep_their_bytes(classifier, tmp_path):
    path = str(tmp_path).encode() + b"/\xff.wav"
    with open(path, "wb"):
        pass
    out = tmp_path / "out.csv"
    name = path.decode("utf-8", "surrogateescape")
    prediction.predict(classifier, [name], dataclasses.replace(OPTIONS, out=str(out)))
    assert path in out.read_bytes()


def test_files_that_are_not_mono_are_named_once(classifier, tmp_path, capsys):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, [150_000, 2])
    soundfile.write(tmp_path / "stereo.wav", sound, 16_000)
    soundfile.write(tmp_path / "mono.wav", sound[:, 0], 16_000)
    paths = [str(tmp_path / name) for name in ("stereo.wav", "mono.wav")]
    said = [f"{paths[0]}: mean of 2 channels"]
    prediction.predict(classifier, paths, OPTIONS)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == said
    header = captured.out.splitlines()[0].split(",")
    assert header == ["file", "family", "probability", *classifier.labels, "error"]
    timelines = dataclasses.replace(OPTIONS, hop_seconds=1.0)
    prediction.predict_timelines(classifier, paths, timelines)
    assert capsys.readouterr().err.splitlines() == said
    alike = dataclasses.replace(OPTIONS, neighbours=1)
    prediction.predict_neighbours(classifier, paths, alike)
    assert capsys.readouterr().err.splitlines() == said


@pytest.mark.parametrize("layout", ["json", "table"])
def test_these_layouts_say_channels_in_their_rows(classifier, tmp_path, capsys, layout):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, [20_000, 3])
    soundfile.write(tmp_path / "three.wav", sound, 16_000)
    options = dataclasses.replace(OPTIONS, layout=layout)
    prediction.predict(classifier, [str(tmp_path / "three.wav")], options)
    captured = capsys.readouterr()
    assert captured.err == ""
    if layout == "json":
        assert json.loads(captured.out)[0]["channels"] == 3
    else:
        assert captured.out.splitlines()[1].endswith("(mean of 3 channels)")
