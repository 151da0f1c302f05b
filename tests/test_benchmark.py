"""tools/benchmark.py: every section gives figures. No test here is about speed."""

import dataclasses
import json
import subprocess
import threading
import time
from concurrent import futures

import numpy as np
import pytest

from mic_tf.errors import UserError
from mic_tf.taxonomy import FAMILIES, NSYNTH_FAMILY_NOTES
from tests import processes
from tools.benchmarks import (
    alternatives,
    apart,
    frontend,
    growth,
    measuring,
    networks,
    notes,
    report,
    stall,
    step,
)
from tools.benchmarks import input as input_section
from tools.benchmarks import processes as commands
from tools.benchmarks.apart import Apart
from tools.benchmarks.measuring import Aim, Row
from tools.benchmarks.settings import QUICK, SECTIONS, BenchmarkSettings


def benchmark(*arguments: str) -> subprocess.CompletedProcess:
    return processes.anew("tools/benchmark.py", *arguments)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # some twenty processes, 2 minutes alone
def test_a_quick_run_gives_figures_in_every_section_but_growth(tmp_path):
    out = tmp_path / "result" / "benchmark.json"
    sections = [name for name in SECTIONS if name != "growth"]
    finished = benchmark("--quick", f"--out={out}", f"--only={','.join(sections)}")
    assert finished.returncode == 0, finished.stderr
    content = json.loads(out.read_text())
    figures = {name: [] for name in sections}
    for row in content["rows"]:
        if row["value"] is None:
            assert "not installed" in row["note"] or "left out" in row["note"], row
        else:
            assert np.isfinite(row["value"]), row
            figures[row["section"]].append(row)
    assert all(figures.values()), {k: len(v) for k, v in figures.items()}
    assert content["machine"]["threads"]["tensorflow intra-op"] >= 1
    assert content["machine"]["versions"]["tensorflow"]
    assert set(content["seconds"]) == set(sections)
    assert list(dict.fromkeys(row["section"] for row in content["rows"])) == sections
    parses = [row["value"] for row in figures["input"] if row["unit"] == "parses"]
    assert parses == [1.0, 1.0]
    table = out.with_suffix(".md").read_text()
    for row in content["rows"]:
        assert row["name"] in table
        assert row["name"] in finished.stdout


def forked(module: str, arguments: list[str]) -> commands.Finished:
    """A command as `processes.run_module` runs it, without TensorFlow's import."""
    began = time.monotonic()
    finished = processes.run("-m", module, *arguments)
    assert finished.returncode == 0, finished.stderr
    seconds = time.monotonic() - began
    return commands.Finished(began, seconds, cpu_seconds=0.0, peak_bytes=0)


def test_memory_of_a_command_is_its_own_not_of_the_process_that_starts_it():
    held = b"\1" * 300_000_000
    finished = commands.run_module("compileall", ["-h"])
    assert 1e6 < finished.peak_bytes < len(held) / 2
    assert finished.cpu_seconds > 0
    assert 0 < finished.seconds < time.monotonic() - finished.started


def test_a_command_that_fails_is_named_with_its_last_words():
    with pytest.raises(UserError, match="compileall ended with 2: .*no-such-flag"):
        commands.run_module("compileall", ["--no-such-flag"])


def test_commands_that_another_thread_waits_for_are_stopped(monkeypatch):
    monkeypatch.setattr(commands, "_STOPPED", threading.Event())
    with futures.ThreadPoolExecutor() as pool:
        serving = ["0", "--bind=127.0.0.1"]
        waiting = pool.submit(commands.run_module, "http.server", serving)
        while not (commands._RUNNING or waiting.done()):
            time.sleep(0.01)
        commands.stop_all()
        with pytest.raises(UserError, match="http.server was stopped"):
            waiting.result()
    with pytest.raises(UserError, match="compileall was stopped"):
        commands.run_module("compileall", ["-h"])
    assert not commands._RUNNING


@pytest.mark.parametrize("broken", ["memory", "step"])
def test_what_was_measured_before_a_fault_is_kept_from_either_side(broken, tmp_path):
    code = f"""
import pathlib, sys, types
from mic_tf.errors import UserError
from tools import benchmark
from tools.benchmarks import notes
from tools.benchmarks.measuring import Row
from tools.benchmarks.settings import QUICK, BenchmarkSettings
notes.open_notes = lambda settings: types.SimpleNamespace(words="")
def section(name):
    def measure(settings, *notes):
        yield Row(name, name, 1.0, "s")
        if name == {broken!r}:
            raise UserError("broken")
    sys.modules["tools.benchmarks." + name] = types.SimpleNamespace(measure=measure)
for name in ("step", "memory"):
    section(name)
settings = BenchmarkSettings(True, "cpu", False, pathlib.Path({str(tmp_path)!r}), "",
                             "soundfont_notes", **QUICK)
written = []
found = benchmark._Found({{"step": [], "memory": []}}, {{}}, {{}},
                         lambda found: written.append(len(found.all_rows())))
try:
    benchmark._measure_all(settings, ["step", "memory"], found)
except UserError as error:
    print(error, [len(rows) for rows in found.rows.values()], max(written))
"""
    finished = processes.run("-c", code)
    assert "broken [1, 1] 2" in finished.stdout, finished.stderr


def count_of(name: str) -> int:
    """The notes in the name of a row, as `prepare, 1,234 notes`."""
    return int(name.split(", ")[1].removesuffix(" notes").replace(",", ""))


@pytest.mark.slow
def test_growth_has_figures_of_every_size_and_between_the_largest(quick, monkeypatch):
    monkeypatch.setattr(commands, "run_module", forked)
    rows = list(growth.measure(quick))
    assert all(np.isfinite(row.value) for row in rows)
    seconds = {row.name: row.value for row in rows if row.unit == "s"}
    powers = [row for row in rows if row.unit == "power"]
    assert len(seconds) == 3 * len(quick.growth_notes)
    assert min(seconds.values()) > 0
    assert [row.name.split(":")[0] for row in powers] == [
        "prepare",
        "epoch with validation",
        "evaluate",
    ]
    # Each is of the notes that it goes through: all, train and valid, train alone.
    for size in range(len(quick.growth_notes)):
        notes = [count_of(name) for name in list(seconds)[3 * size : 3 * size + 3]]
        assert notes[0] > notes[1] > notes[2] > 0
    assert not list(quick.folder.iterdir())


def test_a_section_that_is_not_there_is_refused_with_the_names_of_all():
    finished = benchmark("--only=frontend,speed")
    assert finished.returncode == 2
    assert "--only=speed" in finished.stderr
    assert "frontend, step" in finished.stderr


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("table.md", "the table goes there"),
        ("", "is a folder"),
        ("file/result.json", "file cannot be made: File exists"),
    ],
)
def test_a_result_that_cannot_be_written_is_refused_at_once(tmp_path, out, reason):
    (tmp_path / "file").touch()
    finished = benchmark(f"--out={tmp_path}/{out}")
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert line.startswith(f"error: --out={tmp_path}") and reason in line
    assert not finished.stdout


def test_contenders_run_in_turn_after_one_run_that_is_not_timed():
    order = []
    timings = measuring.in_turn(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        seconds=0.0,
        least_rounds=3,
    )
    assert "".join(order) == "ab" * 4
    assert [len(times) for times in timings.values()] == [3, 3]


def twice(values: list[int], fail: bool):
    """A contender for a process of its own."""
    if fail:
        raise ValueError("no such values")
    doubled = [2 * value for value in values]

    def run() -> int:
        time.sleep(0.01)
        return doubled[-1]

    return doubled, run


def test_a_contender_in_a_process_of_its_own_gives_its_result_and_its_seconds():
    with Apart(twice, ([1, 2], False)) as process:
        assert process.result == [2, 4]
        assert process.returned is None
        assert 0.01 <= process.run() < 60
        assert process.returned == 4


def test_a_contender_is_run_as_often_as_it_is_asked_for():
    with Apart(twice, ([1], False), times=3) as process:
        assert 0.03 <= process.run() < 60


def test_a_contender_that_fails_in_its_process_says_why():
    with Apart(twice, ([1], True)) as process:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="ValueError: no such values"):
                process.result  # noqa: B018 - waits


def sleepy():
    """A contender that takes an hour to build."""
    time.sleep(3600)


def test_a_contender_that_is_still_being_built_can_be_closed(monkeypatch):
    monkeypatch.setattr(apart, "_UNTIL_IT_ENDS", 0.1)
    process = Apart(sleepy, ())
    process.close()
    assert not process._process.is_alive()


def test_a_contender_may_say_itself_how_long_it_took():
    timings = measuring.in_turn({"a": lambda: 7.0}, seconds=0.0, least_rounds=2)
    assert timings == {"a": [7.0, 7.0]}


def test_a_ratio_is_the_median_of_the_rounds_with_their_spread():
    timings = {"ours": [1.0, 2.0, 1.0], "other": [3.0, 2.0, 2.0]}
    row = measuring.ratio_row(
        "step", timings, "ours", "other", work=32, aim=Aim(2.5), note="batches"
    )
    assert (row.low, row.value, row.high, row.rounds) == (1.0, 2.0, 3.0, 3)
    assert row.verdict == "below"
    assert row.note == "32 against 16 notes/s; batches"


@pytest.mark.parametrize(
    ("aim", "value", "verdict"),
    [
        (Aim(6.0, hoped=8.0), 5.9, "below"),
        (Aim(6.0, hoped=8.0), 6.0, "reached, below the hoped 8"),
        (Aim(6.0, hoped=8.0), 8.0, "reached"),
        (Aim(2.0, at_most=True), 2.1, "below"),
        (Aim(2.0, at_most=True), 2.0, "reached"),
    ],
)
def test_a_row_that_misses_its_aim_says_below(aim, value, verdict):
    assert Row("stall", "waiting", value, "%", aim=aim).verdict == verdict


def test_a_row_without_a_figure_says_why_in_the_table():
    row = measuring.missing(
        "step", "ours against torch", "torch is not there", Aim(2.0)
    )
    name, figure, *_, note = report.cells(row.as_dict())
    assert (name, figure) == ("ours against torch", "not measured")
    assert note == "torch is not there"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory) -> notes.Notes:
    folder = tmp_path_factory.mktemp("notes")
    name = notes.make(folder, 200, rendered=False)
    return notes.load(str(folder), name, shards=True)


@pytest.fixture
def quick(tmp_path) -> BenchmarkSettings:
    values = {**QUICK, "seconds": 0.0}
    return BenchmarkSettings(
        quick=True,
        device="cpu",
        gpu_found=False,
        folder=tmp_path,
        data_dir="",
        dataset="",
        **values,
    )


def test_made_up_notes_have_the_proportions_of_nsynth(made_up):
    counts = made_up.records.index.counts(made_up.train)
    assert counts.sum() == 200
    published = np.array([NSYNTH_FAMILY_NOTES[family] for family in FAMILIES])
    assert np.abs(counts - 200 * published / published.sum()).max() < 3
    waveforms, families = made_up.batch(300)
    assert waveforms.shape == (300, 64_000)
    assert waveforms.dtype == np.int16
    assert len(families) == 300
    assert np.array_equal(waveforms[200:], waveforms[:100])


def test_parses_are_counted_where_notes_are_thrown_away_after_parsing(made_up):
    with input_section.counted_parses() as parsed:
        batches = input_section.naive(made_up).take(5)
        delivered = sum(len(family) for _, family in batches)
    assert delivered == 5 * 32
    assert parsed[0] > 2 * delivered


def threads_of_torch() -> int:
    """As many as it has, so that setting them changes nothing."""
    try:
        import torch
    except ImportError:
        return 1
    return torch.get_num_threads()


class Here:
    """`Apart` without a process of its own."""

    def __init__(self, build, arguments, times=1):
        assert times == 1
        self.result, self._run = build(*arguments)

    def run(self) -> float:
        began = time.perf_counter()
        self.returned = self._run()
        return time.perf_counter() - began

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass


def test_the_step_as_gpus_compute_it_gives_rates_and_shares(
    made_up, quick, monkeypatch
):
    monkeypatch.setattr(step, "Apart", Here)
    # What is for processes of their own alone.
    monkeypatch.setattr(step.command, "keep_heap_small", lambda: None)
    monkeypatch.setattr(alternatives, "torch", alternatives.torch.__wrapped__)
    monkeypatch.setattr(alternatives.machine, "threads", threads_of_torch)
    way = step.Way(4, "mixed_bfloat16")
    rows = list(step.gpu_rows(quick, *made_up.batch(way.batch), way))
    figures = {row.name: row for row in rows}
    for name in (
        "DeepCNN step, mixed_bfloat16, 4 notes",
        "DeepCNN step --jit, mixed_bfloat16, 4 notes",
    ):
        assert figures[name].value > 0
        assert np.isfinite(float(figures[name].note.split()[1]))
        share = figures[f"{name}: share of the matrix peak"]
        assert share.value > 0
        assert "bfloat16 matrix product" in share.note
    assert sum("PyTorch" in name for name in figures) == 2


def test_what_a_contender_of_the_networks_returns_is_not_taken_for_seconds(
    made_up, quick, monkeypatch
):
    monkeypatch.setattr(networks, "MODELS", ("small_cnn", "deep_cnn"))
    monkeypatch.setattr(networks.Stepper, "run", lambda *_: time.sleep(0.05))
    rows = list(networks.measure(quick, made_up))
    assert all(0 < row.value <= 32 / 0.05 for row in rows if row.unit == "notes/s")


def test_the_front_end_as_gpus_compute_it_has_a_figure_by_xla_too(
    made_up, quick, monkeypatch
):
    monkeypatch.setattr(frontend, "Apart", Here)
    monkeypatch.setattr(frontend.command, "keep_heap_small", lambda: None)
    on_gpu = dataclasses.replace(quick, device="gpu", gpu_found=True)
    built = {}
    original = frontend.build_ours

    def build_ours(*arguments, jit=False):
        built[jit] = original(*arguments, jit=jit)
        return built[jit]

    monkeypatch.setattr(frontend, "build_ours", build_ours)
    rows = {row.name: row for row in frontend.measure(on_gpu, made_up)}
    assert rows["LogMel"].value > 0
    assert rows["LogMel by XLA, as with --jit"].value > 0
    (decibels, _), (compiled, _) = built[False], built[True]
    assert np.abs(compiled - decibels).max() < 0.05


def test_how_long_a_gpu_waits_has_figures_of_both_ways(made_up, quick):
    ways = {"rejection": input_section.rejection, "streams": input_section.streams}
    rows = list(stall.device_waits(quick, made_up, ways))
    assert [row.name.split(":")[0] for row in rows] == list(ways)
    assert all(0 <= row.low <= row.value <= row.high < 100 for row in rows)
    assert all("notes/s fed from disk" in row.note for row in rows)


def test_a_gpu_that_is_not_there_is_said_in_the_rows_of_the_step():
    rows = list(step.no_gpu_rows())
    assert len(rows) == len(step.GPU_WAYS)
    assert all(row.value is None and "no GPU here" in row.note for row in rows)


@pytest.mark.parametrize("width", [4, 8])
def test_the_network_in_pytorch_gives_the_logits_of_ours(width, made_up):
    pytest.importorskip("torch", reason="torch is not installed (requirements-bench)")
    from tools.benchmarks import trainees
    from tools.benchmarks.torch_network import TorchStep

    waveforms, families = made_up.batch(4)
    run = trainees.run_settings(width)
    dataset = trainees.same_batch(waveforms, families)
    trainee = trainees.Stepper(run, len(FAMILIES), dataset).trainee
    other = TorchStep(run, len(FAMILIES), waveforms, families)
    other.network.take_weights(step.weights_of(trainee.classifier))
    expected = trainee.classifier(waveforms, training=False).numpy()
    assert np.abs(other.logits() - expected).max() < 1e-4
    parameters = sum(p.numel() for p in other.network.parameters())
    trainable = sum(int(np.prod(w.shape)) for w in trainee.classifier.trainable_weights)
    assert parameters == trainable
