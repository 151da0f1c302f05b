import os
import stat
import threading

import pytest

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.serving import output, resuming, rows


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, and what came out of it."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    came = []

    def read():
        with open(path, "rb") as file:
            came.append(file.read())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def content():
        reader.join(timeout=20)
        return came[0]

    return path, content


@pytest.fixture
def link(tmp_path):
    """A symbolic link to a file in another folder."""
    (tmp_path / "far").mkdir()
    target, path = tmp_path / "far" / "file", tmp_path / "link"
    target.write_text("before")
    path.symlink_to(target)
    return path, target


def write_whole(path):
    files.write_text(path, "one\ntwo\n")


def write_lines(path):
    with output.lines_to(path) as write:
        write("one\n")
        write("two\n")


@pytest.mark.parametrize("write", [write_whole, write_lines])
def test_a_pipe_is_written_into_and_stays_one(pipe, tmp_path, write):
    path, content = pipe
    assert files.is_stream(path)
    write(path)
    assert content() == b"one\ntwo\n"
    assert stat.S_ISFIFO(os.stat(path).st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("write", [write_whole, write_lines])
def test_a_link_keeps_pointing_at_what_was_written(link, tmp_path, write):
    path, target = link
    write(str(path))
    assert path.is_symlink()
    assert target.read_text() == "one\ntwo\n"
    assert os.listdir(tmp_path / "far") == ["file"]


@pytest.mark.parametrize("write", [write_whole, write_lines])
def test_standard_output_is_written_to_at_its_end(tmp_path, monkeypatch, write):
    log = tmp_path / "log"
    log.write_text("earlier\n")
    with open(log, "ab") as file:
        link = tmp_path / "stdout"
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        write(str(link))
        file.write(b"later\n")
    with open(log, "r+b") as file:
        # As a shell opens it with `>`: what comes later goes on behind it.
        file.seek(0, os.SEEK_END)
        link.unlink()
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        write(str(link))
        file.write(b"last\n")
    text = "earlier\none\ntwo\nlater\none\ntwo\nlast\n"
    assert log.read_text() == text
    assert sorted(os.listdir(tmp_path)) == ["log", "stdout"]


def test_what_a_pipe_holds_is_no_earlier_result(pipe, tmp_path):
    path, content = pipe
    assert output.written(path) == ""
    with output.lines_to(path, made_by={"model": "m"}) as write:
        write("one\n")
    assert content() == b"one\n"
    assert os.listdir(tmp_path) == ["pipe"]


def test_what_a_crash_left_is_found_through_a_link(link):
    path, target = link
    made_by = {"model": "m"}
    with (
        pytest.raises(ZeroDivisionError),
        output.lines_to(str(path), made_by=made_by) as write,
    ):
        write("half\n")
        raise ZeroDivisionError
    assert target.read_text() == "before"

    def rows_of(text):
        return [rows.Row(name) for name in text.split()]

    assert resuming.earlier(str(path), made_by, rows_of) == [rows.Row("half")]


@pytest.mark.parametrize("name", ["", "file", "no such file", "ram://x", "a\0b"])
def test_files_folders_and_what_is_not_there_are_no_streams(tmp_path, name):
    (tmp_path / "file").write_text("x")
    assert not files.is_stream(str(tmp_path / name) if "://" not in name else name)


def test_a_folder_is_tried_before_long_work_and_left_as_it_was(tmp_path):
    files.check_writable(str(tmp_path / "new" / "folder"))
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: "):
        files.check_writable(str(tmp_path / "file"))


def test_json_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"folder\.json: cannot be read: "):
        files.read_json(str(tmp_path / "folder.json"))
