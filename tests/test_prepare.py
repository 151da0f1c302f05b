import subprocess
import sys
import time

import pytest

from tests import processes
from tests.conftest import own_lines


def run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "mic_tf.prepare", *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_help_answers_at_once_and_names_every_flag():
    start = time.perf_counter()
    done = run("--help")
    assert time.perf_counter() - start < 1.5
    assert done.returncode == 0
    for flag in ("dataset", "data_dir", "source", "soundfont", "beam_options"):
        assert f"--{flag}:" in done.stdout
    assert "--[no]skip_bad:" in done.stdout


def test_one_command_prepares_the_embedded_set_and_the_next_one_reuses_it(tmp_path):
    flags = (f"--data_dir={tmp_path}", "--max_notes=24", "--num_shards=2")
    first = run(*flags)
    assert first.returncode == 0, first.stderr
    assert "notes: about" in first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].split() == ["family", "train", "valid", "test"]
    assert lines[12].split() == ["all", "24", "3", "3"]
    folder = tmp_path / "soundfont_notes" / "2.0.0"
    assert lines[13] == f"prepared: {folder}"
    assert (folder / "label_counts.json").is_file()
    second = run(*flags)
    assert second.returncode == 0
    assert "is prepared already" in second.stderr
    assert second.stdout == first.stdout
    third = run(f"--data_dir={tmp_path}", "--family_shards")
    assert third.returncode == 0
    assert f"{folder} is prepared already, from " in third.stderr
    assert '"train_notes": 24' in third.stderr
    assert third.stdout == first.stdout
    assert (folder / "family_shards" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("flags", "given"),
    [
        ([], False),
        (["--num_shards=2", "--family_shards"], False),
        (["--max_notes=12000"], True),
        (["--seed=0"], True),
        (["--nouniform"], True),
        (["--soundfont=a.sf2"], True),
        (["--overwrite"], True),
        (["--dataset=sample_folder"], False),
        (["--dataset=sample_folder", "--overwrite"], False),
        (["--dataset=sample_folder", "--source=here"], True),
    ],
)
def test_a_set_that_is_there_is_compared_with_what_was_asked_for(
    tmp_path, flags, given
):
    code = (
        "from mic_tf import prepare\n"
        "from mic_tf.datasets import preparation\n"
        "def told(*_, source_given, **__):\n"
        "    print(source_given)\n"
        "preparation.prepare = told\n"
        "prepare.cli()"
    )
    done = processes.run("-c", code, f"--data_dir={tmp_path}", *flags)
    assert done.stdout == f"{given}\n", done.stderr


@pytest.mark.parametrize("inside", ["", "sets/new"])
def test_sets_are_not_prepared_among_classes(tmp_path, inside):
    (tmp_path / "banjo").mkdir()
    done = run(
        "--dataset=sample_folder",
        f"--source={tmp_path}/../{tmp_path.name}",
        f"--data_dir={tmp_path / inside}",
    )
    assert done.returncode == 2
    (line,) = own_lines(done.stderr)
    assert line.startswith(f"error: --data_dir={tmp_path / inside} lies in --source=")
    assert [path.name for path in tmp_path.iterdir()] == ["banjo"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no_such_flag"], "no_such_flag"),
        (["--max_notes=many"], "max_notes"),
        (["--dataset=mnist"], "--dataset=mnist: not a known data set"),
        (["--dataset=sample_folder", "--source=/no/such"], "--source=/no/such"),
        (["--dataset=soundfont_notes", "--source=x"], "--source has no meaning for"),
        (["--beam_options=runner=DirectRunner"], "only with --beam"),
        (["--dataset=nsynth/full", "--beam"], "--beam has no meaning for"),
        (["stray"], "stray: prepare takes flags only"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(tmp_path, flags, message):
    done = run(f"--data_dir={tmp_path}", *flags)
    assert done.returncode == 2
    (line,) = own_lines(done.stderr)
    assert line.startswith("error: ")
    assert message in line
    assert not done.stdout
