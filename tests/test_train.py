"""The commands together, as a person calls them."""

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from mic_tf.settings import MODELS
from mic_tf.training import trainer, workfolder
from tests import processes
from tests.conftest import make_note, own_lines
from tests.test_settings import CONFIGS, parse

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = ("prepare", "train", "evaluate", "export", "predict")


def call(command: str, *arguments: str) -> subprocess.CompletedProcess:
    return processes.run("-m", f"mic_tf.{command}", *arguments)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_trains_for_a_step(path, small_dataset, tmp_path):
    run = parse(f"--flagfile={path}", "--epochs=1", "--batch_size=8", "--max_notes=8")
    summary = trainer.train(run, str(tmp_path), small_dataset)
    assert summary["steps_per_epoch"] == 1
    model = workfolder.load_run(str(tmp_path)).model
    assert model.name in MODELS
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.fixture(scope="module")
def trained(small_dataset, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    data_dir = pathlib.Path(small_dataset.data_path).parents[1]
    flags = ["--dataset=nsynth_jsonwav", f"--data_dir={data_dir}", "--epochs=1"]
    small = ["--n_mels=32", "--hop_length=2000", "--width=4", "--batch_size=8"]
    done = call("train", f"--workdir={workdir}", *flags, *small)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.slow
def test_train_evaluate_export_predict(trained, tmp_path):
    done = call("evaluate", f"--workdir={trained}")
    assert done.returncode == 0, done.stderr
    assert "official split" in done.stdout
    folder = trained / "eval" / "nsynth_jsonwav-test"
    of_run = json.loads((folder / "metrics.json").read_text())

    done = call("export", f"--workdir={trained}")
    assert done.returncode == 0, done.stderr
    data_dir = json.loads((trained / "config.json").read_text())["settings"]["data"]
    done = call(
        "evaluate",
        f"--model={trained}/export",
        f"--data_dir={data_dir['data_dir']}",
        f"--out={tmp_path}/eval",
        f"--compare={trained}",
    )
    assert done.returncode == 0, done.stderr
    of_export = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert of_export["confusion"] == of_run["confusion"]
    assert of_export["protocol"] == of_run["protocol"] == "official"
    assert_answers_alike(of_export["comparison"], of_run)

    of_effects = measured_with_effects(trained / "export", data_dir["data_dir"])
    assert of_effects["confusion"] == of_run["confusion"]
    assert len(of_effects["effects"]["rows"]) == 16
    assert_answers_alike(of_effects["comparison"], of_run)

    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(tmp_path / "tone.flac", tone, 44_100)
    out = tmp_path / "answers.csv"
    done = call(
        "predict", f"--model={trained}/export", "--format=csv", f"--out={out}", tmp_path
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(out.open()))
    assert [pathlib.Path(row["file"]).name for row in rows] == ["tone.flac"]
    assert rows[0]["family"] in of_run["labels"]


@pytest.mark.slow
def test_an_evaluation_that_cannot_be_written_whole_does_not_count(trained, tmp_path):
    """No figures without their report, which the scripts would take for done."""
    (tmp_path / "eval" / "report.html").mkdir(parents=True)
    done = call("evaluate", f"--workdir={trained}", f"--out={tmp_path}/eval")
    assert done.returncode == 2
    assert f"{tmp_path}/eval/report.html: cannot be written" in done.stderr
    assert not (tmp_path / "eval" / "metrics.json").exists()
    assert "official split" in done.stdout  # What was measured is not lost.

    file = tmp_path / "file"
    file.touch()
    done = call("evaluate", f"--workdir={trained}", f"--out={file}")
    assert done.returncode == 2
    assert own_lines(done.stderr)[-1].startswith(f"error: {file}: ")
    assert done.stdout == ""


def measured_with_effects(export: pathlib.Path, data_dir: str) -> dict:
    """Figures of the TFLite file, whose evaluation lies beside it.

    It is compared with the SavedModel in the same folder.
    """
    pytest.importorskip("pedalboard", reason="a development dependency")
    model = f"--model={export}/model.tflite"
    other = f"--compare={export}"
    done = call("evaluate", model, f"--data_dir={data_dir}", "--effects", other)
    assert done.returncode == 0, done.stderr
    folder = export / "eval" / "nsynth_jsonwav-test"
    assert 'id="effects"' in (folder / "report.html").read_text()
    result = json.loads((folder / "metrics.json").read_text())
    for row in result["effects"]["rows"]:
        assert row["name"] in done.stdout
    return result


def assert_answers_alike(comparison: dict, of_run: dict) -> None:
    """One and the same model, exported or not, is right and wrong on the same notes."""
    assert comparison["only_first"] == comparison["only_second"] == 0
    assert comparison["both"] + comparison["neither"] == comparison["n"]
    assert comparison["both"] == sum(
        row[i] for i, row in enumerate(of_run["confusion"])
    )


@pytest.mark.slow
def test_an_export_is_fine_tuned_on_a_folder_of_ones_own(tiny_workdir, tmp_path):
    classes = ("banjo", "bass", "kalimba", "koto", "sitar")
    for name in classes:
        for split, count in (("train", 3), ("valid", 1), ("test", 1)):
            for i in range(count):
                note = make_note(name, 0, 50 + i, families=classes)
                path = tmp_path / "notes" / split / name / f"{i}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, note["audio"], 16_000)
    data_dir = f"--data_dir={tmp_path}/data"
    dataset = "--dataset=sample_folder/mine"
    done = call("prepare", dataset, data_dir, f"--source={tmp_path}/notes")
    assert done.returncode == 0, done.stderr
    export, run = tmp_path / "export", tmp_path / "run"
    done = call("export", f"--workdir={tiny_workdir}", f"--out={export}", "--weights")
    assert done.returncode == 0, done.stderr
    config = "--flagfile=mic_tf/configs/finetune.cfg"
    flags = [config, dataset, data_dir, f"--init_from={export}", "--epochs=1"]
    done = call("train", *flags, f"--workdir={run}")
    assert done.returncode == 0, done.stderr
    assert f"taken over from {export}: width 8" in done.stderr
    assert "logits known: bass; new: banjo, kalimba, koto, sitar" in done.stderr
    assert (run / "labels.txt").read_text().split() == list(classes)
    assert json.loads((run / "config.json").read_text())["settings"]["network"] == (
        json.loads((export / "contract.json").read_text())["settings"]["network"]
        | {"dropout": 0.3}
    )
    done = call("train", *flags, f"--workdir={tmp_path}/other", "--width=16")
    assert done.returncode == 2
    message = f"--width=16: the weights of --init_from={export} are of width 8"
    assert message in own_lines(done.stderr)[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_nothing_heavy_and_ends_with_status_0(command):
    done = processes.anew("-m", f"mic_tf.{command}", "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout or "python -m" in done.stdout
    code = (
        f"import sys, mic_tf.{command}; "
        "heavy = {'tensorflow', 'numpy', 'tf_keras', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_flag_is_one_line_and_status_2(command):
    done = processes.anew("-m", f"mic_tf.{command}", "--no_such_flag=1")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: Unknown command line flag 'no_such_flag'"
    ]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("train", [], "--workdir: missing"),
        ("train", ["--workdir=/tmp/x", "--dataset=nsynth"], "--dataset=nsynth: not a"),
        (
            "train",
            ["--workdir=/tmp/x", "--data_dir=/nowhere"],
            "soundfont_notes is not prepared in /nowhere; prepare it with",
        ),
        ("train", ["--workdir=/tmp/x", "--flagfile=/no.cfg"], "/no.cfg"),
        ("train", ["--workdir=/tmp/x", "more"], "more: unexpected argument"),
        (
            "train",
            ["--workdir=/tmp/x", "--fold=1"],
            "--fold=1: does nothing with --protocol=official; --protocol=instrument",
        ),
        (
            "train",
            ["--workdir=/tmp/x", "--extra_share=0.2"],
            "--extra_share=0.2: does nothing without --extra_datasets",
        ),
        (
            "train",
            ["--workdir=/tmp/x", "--tpu=a", "--strategy=mirrored"],
            "--tpu=a: does nothing with --strategy=mirrored; --strategy=tpu expected",
        ),
        (
            "train",
            ["--workdir=/tmp/x", "--learning_rate=nan"],
            "--learning_rate=nan: a number expected",
        ),
        ("train", ["--workdir=/tmp/x", "--top_db=inf"], "--top_db=inf: a number exp"),
        ("evaluate", [], "--workdir, --model: give one of the two"),
        ("evaluate", ["--workdir=/nowhere"], "/nowhere: no config.json"),
        (
            "evaluate",
            ["--model=pretrained", "--data_dir=/nowhere"],
            "nsynth_jsonwav is not prepared in /nowhere",
        ),
        (
            "evaluate",
            ["--model=pretrained", "--compare=/nowhere"],
            "--compare=/nowhere: ",
        ),
        ("export", ["--workdir=/nowhere"], "/nowhere: no config.json"),
        ("predict", ["--model=/nowhere", "x.wav"], "/nowhere"),
    ],
)
def test_mistakes_are_one_line_and_status_2(command, arguments, message):
    done = processes.anew("-m", f"mic_tf.{command}", *arguments)
    assert done.returncode == 2
    lines = own_lines(done.stderr)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
