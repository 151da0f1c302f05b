"""The predict command as people run it."""

import csv
import io
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import soundfile

import mic_tf
from tests import processes
from tests.conftest import own_lines


def run(*arguments: str, listed: str = "") -> subprocess.CompletedProcess:
    return processes.run("-m", "mic_tf.predict", *arguments, listed=listed)


def interpreter(*arguments: str) -> subprocess.CompletedProcess:
    """The command with the package of the current folder."""
    return processes.anew("-m", "mic_tf.predict", *arguments, cwd=".")


def refused(*arguments: str) -> str:
    """The one line with which a command line is refused."""
    finished = interpreter(*arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    [line] = own_lines(finished.stderr)
    return line


def test_listed_files_and_those_of_a_folder_are_answered(
    tiny_workdir, tiny_export, tmp_path
):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)
    soundfile.write(tmp_path / "a.wav", sound, 16_000)
    soundfile.write(tmp_path / "b.flac", np.stack([sound, sound], 1), 44_100)
    (tmp_path / "c.wav").write_text("text")
    listed = f"{tmp_path / 'b.flac'}\n\n"
    arguments = [f"--model={tiny_workdir}", "--format=csv", "-", str(tmp_path)]
    finished = run(*arguments, listed=listed)
    assert finished.returncode == 2
    last_line = finished.stderr.splitlines()[-1]
    assert last_line == "1 of 4 files could not be answered"
    assert finished.stdout.startswith("file,family,probability,bass,")
    found = list(csv.DictReader(io.StringIO(finished.stdout)))
    order = ("b.flac", "a.wav", "b.flac", "c.wav")
    assert [row["file"] for row in found] == [str(tmp_path / name) for name in order]
    assert [bool(row["error"]) for row in found] == [False, False, False, True]


def test_a_model_without_familiarity_refuses_to_be_asked_for_it(tiny_export, tmp_path):
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.full(8_000, 0.1), 16_000)
    for asked, reason in (
        ("auto", "this model does not tell; export it with --familiarity"),
        ("much", "a number from 0 to 1 or auto expected"),
        ("nan", "a number from 0 to 1 or auto expected"),
    ):
        line = refused(f"--model={tiny_export}", f"--min_familiarity={asked}", sound)
        assert line == f"error: --min_familiarity={asked}: {reason}"


def test_a_list_of_files_may_have_any_names(tiny_export, tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)
    names = (b"Fl\xf6te.wav", b"two\rparts.wav", b"dos.wav")
    paths = [bytes(tmp_path) + b"/" + name for name in names]
    for path in paths:
        with open(path, "wb") as file:
            soundfile.write(file, sound, 16_000, format="WAV")
    out = tmp_path / "out.csv"
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "mic_tf.predict", f"--model={tiny_export}"),
            *("--format=csv", f"--out={out}", "-", "-"),
        ],
        input=b"\n".join(paths) + b"\r\n",
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    with open(out, newline="", errors="surrogateescape") as file:
        found = [os.fsencode(row["file"]) for row in csv.DictReader(file)]
    assert found == paths


def test_an_empty_list_of_files_is_a_mistake(tiny_export, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("old")
    finished = run(f"--model={tiny_export}", f"--out={out}", "-", listed="\n")
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1] == (
        "error: -: no files on standard input; a name on each line expected"
    )
    assert out.read_text() == "old"


def test_names_with_zero_bytes_between_them_are_a_mistake(tiny_export):
    listed = "a.wav\0b.wav\0"
    finished = run(f"--model={tiny_export}", "-", listed=listed)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1] == (
        "error: -: zero bytes on standard input, as of `find -print0`; a name on each "
        "line expected"
    )


def test_mistakes_are_one_line_and_status_2(tmp_path):
    assert refused() == "error: no files; give audio files, folders or patterns"
    assert "unknown" in refused("--formt=csv", "a.wav").lower()
    assert "format" in refused("--format=xml", "a.wav")
    assert "needs --timeline" in refused("--format=audacity", "--model=.", "a.wav")
    assert "needs --timeline" in refused("--hop=1", "--model=.", "a.wav")
    for name, bounds in (("hop", "0.1 to 4"), ("min_probability", "0 to 1")):
        line = refused("--timeline", f"--{name}=nan", "--model=.", "a.wav")
        assert line == f"error: --{name}=nan: a number from {bounds} expected"
    doubting = ("--neighbours=2", "--min_familiarity=auto", "--model=.", "a.wav")
    assert "say nothing with --neighbours" in refused(*doubting)
    nowhere = str(tmp_path / "nowhere")
    message = f"error: {nowhere}: no such file or folder; an exported model expected"
    assert refused(f"--model={nowhere}", "a.wav") == message


def shell(command: str, **environment: str) -> subprocess.CompletedProcess:
    predict = f"{sys.executable} -m mic_tf.predict"
    return subprocess.run(
        ["bash", "-c", command.replace("predict", predict)],
        env=os.environ | environment,
        capture_output=True,
    )


def test_streams_that_are_closed_are_a_mistake_before_the_model_is_read(tmp_path):
    model = tmp_path / "not opened"
    model.mkdir()
    for command, reason in (
        ("predict --model='{}' a.wav >&-", "standard output: closed; --out=FILE exp"),
        ("predict --model='{}' --out=/dev/stdout a.wav >&-", "standard output: closed"),
        ("predict --model='{}' - <&-", "-: standard input is closed; a name on each"),
    ):
        finished = shell(command.format(model))
        assert finished.returncode == 2
        [line] = own_lines(finished.stderr.decode())
        assert line.startswith(f"error: {reason}")


def test_a_recording_is_not_written_over_whatever_the_model(tmp_path):
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.full(8_000, 0.1), 16_000)
    before = sound.read_bytes()
    line = refused(f"--model={tmp_path}", f"--out={sound}", str(sound))
    assert line.startswith(f"error: {sound}: not written: the name is one of a record")
    assert sound.read_bytes() == before


def test_names_are_written_whatever_the_screen_is_able_to_show(tiny_export, tmp_path):
    name = "Flöte\u266b.wav"
    for layout, expected in (
        ("csv", name.encode()),
        ("json", name.encode()),
        ("table", b"Fl\xf6te?.wav"),
    ):
        finished = shell(
            f"predict --model={tiny_export} --format={layout} --out=- -- {name}",
            PYTHONIOENCODING="latin-1",
        )
        assert finished.returncode == 2
        assert expected in finished.stdout, finished.stderr
    assert not os.path.exists("-")


def test_without_a_model_the_bundled_one_is_asked(tiny_export, tmp_path, monkeypatch):
    package = tmp_path / "mic_tf"
    shutil.copytree(pathlib.Path(mic_tf.__file__).parent, package)
    shutil.rmtree(package / "pretrained", ignore_errors=True)
    monkeypatch.chdir(tmp_path)
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)
    soundfile.write("a.wav", sound, 16_000)
    message = refused("a.wav")
    assert message.startswith("error: no model is bundled with this copy of mic_tf")
    shutil.copytree(tiny_export, package / "pretrained")
    finished = interpreter("--format=csv", "a.wav")
    assert finished.returncode == 0, finished.stderr
    [row] = csv.DictReader(io.StringIO(finished.stdout))
    assert row["file"] == "a.wav" and row["family"]


def test_help_imports_nothing_heavy():
    finished = interpreter("--help")
    assert finished.returncode == 0
    assert "--min_probability" in finished.stdout
    code = (
        "import sys, mic_tf.predict; print({'tensorflow', 'numpy'} & set(sys.modules))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert finished.stdout == b"set()\n"
