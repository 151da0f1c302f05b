"""Finding audio files: order, what counts, loops, patterns."""

import os
import pathlib

import pytest

from mic_tf.audio import finding
from mic_tf.audio.finding import find_audio


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A small tree of files; their content does not matter here."""
    for name in ("b.wav", "a.FLAC", "notes.txt", ".hidden.wav", "sub/c.mp3"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def found(folder: pathlib.Path, *arguments: str) -> list[str]:
    paths = find_audio([os.path.join(folder, a) for a in arguments])
    return [os.path.relpath(path, folder) for path in paths]


def test_a_folder_is_searched_recursively_in_the_order_of_names(folder):
    assert found(folder, "") == ["a.FLAC", "b.wav", "sub/c.mp3"]


def test_files_of_other_endings_are_counted_in_a_warning(folder, caplog):
    finding.warn_of_unread(str(folder))
    assert not caplog.messages
    for name in ("x.m4a", "sub/y.M4A", "sub/z.wma"):
        (folder / name).touch()
    finding.warn_of_unread(str(folder))
    assert "3 files are not read: .m4a, .wma; convert them" in caplog.text


def test_a_file_given_by_name_is_taken_whatever_its_extension(folder):
    assert found(folder, "notes.txt", "b.wav") == ["notes.txt", "b.wav"]


def test_a_loop_of_links_ends_and_finds_each_file_once(folder):
    (folder / "sub" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    assert found(folder, "") == ["a.FLAC", "b.wav", "loop.wav", "sub/c.mp3"]


def test_a_link_to_nothing_comes_out_as_it_is(folder):
    (folder / "more").symlink_to(folder / "no such folder")
    (folder / "read.me").symlink_to(folder / "no such file")
    (folder / ".hidden").symlink_to(folder / "no such folder")
    assert found(folder, "") == ["a.FLAC", "b.wav", "more", "sub/c.mp3"]


def test_a_linked_folder_is_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d.ogg").touch()
    (folder / "link").symlink_to(elsewhere, target_is_directory=True)
    assert "link/d.ogg" in found(folder, "")


def test_a_folder_named_like_a_file_is_searched_like_any_folder(folder):
    (folder / "dir.wav").mkdir()
    (folder / "dir.wav" / "e.wav").touch()
    assert found(folder, "") == ["a.FLAC", "b.wav", "dir.wav/e.wav", "sub/c.mp3"]


@pytest.mark.parametrize("argument", ["nothing.wav", "empty", "no_such_*.wav"])
def test_what_leads_to_no_file_comes_out_as_it_is(folder, argument):
    (folder / "empty").mkdir()
    assert found(folder, argument) == [argument]


def test_patterns_expand_to_files_and_folders(folder):
    assert found(folder, "*.wav") == ["b.wav"]
    assert found(folder, "s*") == ["sub/c.mp3"]
    assert found(folder, "**/*.mp3") == ["sub/c.mp3"]


@pytest.mark.parametrize("pattern", ["*/takes", "**/takes", "**/takes/", "*/tak*/**/"])
def test_folders_that_a_pattern_names_are_searched(folder, pattern):
    for name in ("one/takes/e.wav", "two/takes/old/takes/f.wav"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    expected = ["one/takes/e.wav", "two/takes/old/takes/f.wav"]
    assert found(folder, pattern) == expected


def test_a_pattern_finds_a_file_once(folder):
    (folder / "sub" / "up").symlink_to(folder, target_is_directory=True)
    assert found(folder, "*") == ["a.FLAC", "b.wav", "notes.txt", "sub/c.mp3"]
    for pattern in ("**", "**/*", "**/**"):
        expected = ["a.FLAC", "b.wav", "notes.txt", "sub/c.mp3"]
        assert found(folder, pattern) == expected
    assert found(folder, "**/*.wav") == ["b.wav"]
    assert found(folder, "s*/**/*.wav") == ["sub/up/b.wav"]
    assert found(folder, "**/sub/**/*.mp3") == ["sub/c.mp3"]


def test_two_stars_go_into_linked_folders_but_not_into_hidden_ones(
    folder, tmp_path_factory
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "d.ogg").touch()
    (folder / "link").symlink_to(elsewhere, target_is_directory=True)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "e.ogg").touch()
    assert found(folder, "**/*.ogg") == ["link/d.ogg"]


def test_an_empty_folder_comes_out_of_one_star_only(folder):
    (folder / "subs").mkdir()
    assert found(folder, "sub*") == ["sub/c.mp3", "subs"]
    assert found(folder, "**/sub*") == ["sub/c.mp3"]
    assert found(folder, "**/subs") == ["**/subs"]


def test_a_pattern_without_a_folder_is_one_of_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert list(find_audio(["**/*.mp3"])) == ["sub/c.mp3"]
    assert list(find_audio(["**/s*", "*.wav"])) == ["sub/c.mp3", "b.wav"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    (folder / "take[1].wav").touch()
    assert found(folder, "take[1].wav") == ["take[1].wav"]
