import base64
import dataclasses
import html.parser
import io
import json
import pathlib
import re
import shutil
import subprocess
import wave

import matplotlib.image
import numpy as np
import pytest

from mic_tf.evaluation import checks, division, evaluator, heard, report, sections
from mic_tf.pipeline import batches
from mic_tf.training import callbacks, trainer, workfolder
from tests.training.test_trainer import SMALL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=5000",
    "--enable-logging=stderr",
]


@dataclasses.dataclass(frozen=True)
class Written:
    folder: pathlib.Path
    result: dict
    found: evaluator.Answers
    records: batches.Records
    text: str


@pytest.fixture(scope="module")
def written(small_dataset, tmp_path_factory):
    """The report of a run that is often wrong."""
    workdir = str(tmp_path_factory.mktemp("reported"))
    trainer.train(SMALL, workdir, small_dataset)
    subject = evaluator.subject_of_run(workfolder.load_run(workdir))
    records = batches.open_records(small_dataset)
    name = "nsynth_jsonwav/1.0.0"
    partition, words = division.partition_for(subject.trained_on, records, name)
    found = evaluator.answers(subject, records, partition.part("test"))
    # One sure mistake, so that there is always something to see.
    found.probabilities[0] = np.eye(11)[(found.truth[0] + 1) % 11]
    result = evaluator.figures(
        found,
        subject,
        dataset=name,
        split="test",
        protocol=partition.protocol,
        protocol_words=words,
    )
    result |= report.details(found, records, subject.labels)
    training = heard.in_training(subject, records, name, partition, [])
    result |= checks.leakage_of(records, partition, training, found)
    other = evaluator.subject_of_run(workfolder.load_run(workdir))
    result |= checks.comparison_with(other, records, found, name)
    result["remarks"] = sections.remarks(result)
    folder = tmp_path_factory.mktemp("report")
    evaluator.write(str(folder), result, found, records)
    history = callbacks.read_history(workdir)
    report.write(str(folder), result, found, records, subject, training, history)
    text = (folder / "report.html").read_text()
    return Written(folder, result, found, records, text)


class Outline(html.parser.HTMLParser):
    """Elements with their attributes, and whether they are closed as they should be."""

    _EMPTY = ("meta", "img", "line", "polyline", "rect", "circle")

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self._EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_report_needs_nothing_but_itself(written):
    outline = Outline(written.text)
    links = [a[k] for _, a in outline.elements for k in ("src", "href") if k in a]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "http" not in re.sub('http-equiv|"data:[^"]*"', "", written.text)
    assert not outline.all("script")


def test_every_picture_and_player_has_a_name(written):
    outline = Outline(written.text)
    assert all(image["alt"] for image in outline.all("img"))
    assert all(player["aria-label"] for player in outline.all("audio"))
    assert all(svg["aria-label"] for svg in outline.all("svg"))
    scopes = [header.get("scope") for header in outline.all("th")]
    assert set(scopes) == {"row", "col"}


def test_players_hold_the_notes_themselves(written):
    outline = Outline(written.text)
    sources = [player["src"] for player in outline.all("audio")]
    assert len(sources) >= 2
    for source in sources:
        content = base64.b64decode(source.removeprefix("data:audio/wav;base64,"))
        with wave.open(io.BytesIO(content)) as file:
            shape = file.getframerate(), file.getnframes(), file.getsampwidth()
            assert shape == (16_000, 64_000, 2)
            assert np.frombuffer(file.readframes(64_000), "<i2").any()


def test_metrics_file_has_what_the_report_shows(written):
    stored = json.loads((written.folder / "metrics.json").read_text())
    assert stored["intervals"]["single_instrument_families"]
    assert sum(stored["calibration"]["n"]) == stored["n"] == 12
    for part in stored["breakdown"].values():
        assert sum(entry["n"] for entry in part) == 12
    worst = [entry["accuracy"] for entry in stored["breakdown"]["instrument"]]
    assert worst == sorted(worst)
    assert stored["leakage"]["instrument_share"] == 0.0
    assert f"{stored['accuracy']:.3f}" in written.text


def test_a_run_compared_with_itself_is_equal_but_for_what_was_changed(written):
    comparison = written.result["comparison"]
    assert comparison["only_first"] == 0
    assert comparison["only_second"] <= 1
    assert comparison["p"] == comparison["p_notes"] == 1.0
    assert comparison["instruments"] == 4
    assert comparison["heard"] == 0


def test_the_surest_mistake_comes_first_with_its_neighbour(written):
    first = written.records.index.ids[written.found.rows[0]]
    names = [player["aria-label"] for player in Outline(written.text).all("audio")]
    assert names[0] == f"play test note {first}"
    assert names[1].startswith("play nearest in training")
    assert "of 36 training notes" in written.text


def test_a_comparison_with_a_run_that_heard_the_notes_is_called_so(written):
    heard = {**written.result["comparison"], "heard": 5, "other": "runs/other"}
    lines = sections.remarks({**written.result, "comparison": heard})
    assert lines[-1].startswith("runs/other heard 5 of these 12 notes in training")
    assert not any("is no test" in line for line in written.result["remarks"])
    own = written.result["comparison"]
    assert f"{own['other']}: {own['protocol_words']}" in written.result["remarks"]
    assert "no instrument of the test was heard" in own["protocol_words"]


def test_screen_says_protocol_intervals_and_leakage(written):
    text = evaluator.table(written.result)
    assert "have a single instrument in the test" in text
    assert "leakage: 0.0% of the test notes" in text
    assert "sign-flip test over their 4 instruments: p = 1 (McNemar" in text


def test_pictures_lie_beside_the_report(written):
    for name in ("confusion.png", "curves.png"):
        picture = matplotlib.image.imread(written.folder / name)
        assert picture.std() > 0.01


def browse(url: str, *flags: str, folder: pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={folder}/profile", *flags, url],
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_browser_draws_the_matrix_and_complains_of_nothing(
    written, tmp_path, width, dark
):
    target = tmp_path / "page.png"
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    size = [f"--window-size={width},2400", f"--screenshot={target}"]
    url = f"file://{written.folder}/report.html"
    done = browse(url, *size, *theme, folder=tmp_path)
    assert "CONSOLE" not in done.stderr
    picture = matplotlib.image.imread(target)[..., :3]
    corner = picture[2, 2]
    assert (corner.mean() < 0.2) == dark
    # The fill of a cell with every note of its row, light and dark.
    fill = np.array([0x1F, 0x5F, 0x9E] if dark else [0x7D, 0xB4, 0xE8]) / 255
    assert (np.abs(picture - fill).max(axis=2) < 0.02).sum() > 200


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
def test_browser_can_play_every_note_and_the_page_is_no_wider_than_a_phone(
    written, tmp_path
):
    probe = """<script>addEventListener("load", () => {
      const players = [...document.querySelectorAll("audio")];
      const states = players.map(p => new Promise(done => {
        if (p.readyState) done(p.duration);
        p.onloadedmetadata = () => done(p.duration); p.onerror = () => done(-1); }));
      Promise.all(states).then(all => document.title = "PROBE " + JSON.stringify(
        {all, wide: document.documentElement.scrollWidth - innerWidth}));
    });</script></body>"""
    text = written.text.replace("default-src 'none'", "default-src 'unsafe-inline'")
    page = tmp_path / "probed.html"
    page.write_text(text.replace("</body>", probe))
    done = browse(
        f"file://{page}", "--window-size=500,900", "--dump-dom", folder=tmp_path
    )
    found = re.search("<title>PROBE (.*?)</title>", done.stdout)
    assert found, done.stderr[-500:]
    state = json.loads(found[1])
    assert state["all"] == pytest.approx([4.0] * len(state["all"]), abs=0.01)
    assert len(state["all"]) >= 2
    assert state["wide"] <= 0
