import http.server
import threading

import pytest

from mic_tf.datasets.downloads import Download, fetch
from mic_tf.errors import UserError

CONTENT = bytes(range(256)) * 5_000
SIZE = 1_280_000


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; breaks off as often as the server's list says."""

    def do_GET(self):
        server = self.server
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if "Range" in self.headers and server.ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        server.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = server.breaks.pop(0) if server.breaks else len(CONTENT)
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.status, server.ranges, server.starts, server.breaks = 200, True, [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def download_from(server, folder, size=SIZE):
    url = f"http://127.0.0.1:{server.server_port}/nsynth-test.tfrecord.tar"
    return Download(url, str(folder / "nsynth-test.tfrecord.tar"), size)


def test_a_broken_connection_is_taken_up_where_it_ended(server, tmp_path):
    server.breaks = [300_000, 900_000]
    download = download_from(server, tmp_path)
    fetch(download, pause_seconds=0)
    assert server.starts == [0, 300_000, 900_000]
    with open(download.path, "rb") as file:
        assert file.read() == CONTENT


def test_an_interrupted_download_goes_on_in_the_next_run(server, tmp_path):
    download = download_from(server, tmp_path)
    with open(download.part, "wb") as file:
        file.write(CONTENT[:1_000])
    assert download.missing_bytes() == len(CONTENT) - 1_000
    fetch(download, pause_seconds=0)
    assert server.starts == [1_000]
    assert download.missing_bytes() == 0


def test_a_server_without_ranges_starts_again_and_ends_whole(server, tmp_path):
    server.ranges = False
    download = download_from(server, tmp_path)
    with open(download.part, "wb") as file:
        file.write(b"x" * 1_000)
    fetch(download, pause_seconds=0)
    with open(download.path, "rb") as file:
        assert file.read() == CONTENT


def test_a_refused_download_says_which_file_to_put_where(server, tmp_path):
    server.status = 403
    download = download_from(server, tmp_path)
    with pytest.raises(UserError) as caught:
        fetch(download, pause_seconds=0)
    text = str(caught.value)
    assert "403" in text
    assert "nsynth-test.tfrecord.tar (1,280,000 bytes)" in text
    assert f"put it into {tmp_path} " in text
    assert "\n" not in text


def test_a_connection_that_never_gets_further_is_given_up(server, tmp_path):
    server.breaks = [0] * 10
    with pytest.raises(UserError, match="broken off at 0 of 1,280,000 bytes"):
        fetch(download_from(server, tmp_path), pause_seconds=0)
    assert len(server.starts) == 3


def test_a_file_that_is_there_is_not_fetched(server, tmp_path):
    download = download_from(server, tmp_path)
    with open(download.path, "wb") as file:
        file.write(CONTENT)
    fetch(download)
    assert server.starts == []


@pytest.mark.parametrize("folder", ["file", "file/deeper"])
def test_a_folder_that_is_a_file_is_one_line(server, tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"^{tmp_path / folder}: .*cannot be") as caught:
        fetch(download_from(server, tmp_path / folder))
    assert "\n" not in str(caught.value)
    assert server.starts == []


def test_a_file_of_another_size_is_refused(server, tmp_path):
    download = download_from(server, tmp_path, size=1_000)
    with pytest.raises(UserError, match="1,280,000 bytes came, 1,000 expected"):
        fetch(download, pause_seconds=0)
