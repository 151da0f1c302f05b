"""The networks of `--model` beside each other: training notes a second."""

from collections.abc import Iterator

from mic_tf.settings import MODELS
from mic_tf.taxonomy import FAMILIES
from tools.benchmarks import arithmetic
from tools.benchmarks.measuring import Row, in_turn, rate_row, ratio_row
from tools.benchmarks.notes import Notes
from tools.benchmarks.settings import BenchmarkSettings
from tools.benchmarks.trainees import BATCH, Stepper, run_settings, same_batch

SECTION = "networks"
_REFERENCE = "deep_cnn"


def measure(settings: BenchmarkSettings, notes: Notes) -> Iterator[Row]:
    """Training notes a second of each network, and how they stand to deep_cnn."""
    waveforms, families = notes.batch(BATCH)
    steppers, contenders = {}, {}
    for name in MODELS:
        run = run_settings(settings.width, name)
        stepper = Stepper(run, len(FAMILIES), same_batch(waveforms, families))
        batch = stepper.next_batch()
        steppers[name] = stepper
        contenders[name] = lambda stepper=stepper, batch=batch: stepper.run(batch)
    timings = in_turn(
        contenders, seconds=settings.seconds, least_rounds=settings.least_rounds
    )
    for name in MODELS:
        model = steppers[name].trainee.classifier
        gflop = arithmetic.training_flops(model) / 1e9
        note = f"{model.count_params():,} parameters, {gflop:.2f} GFLOP a note"
        label = f"{name}: training"
        yield rate_row(SECTION, label, timings[name], BATCH, note=note)
    for name in MODELS:
        if name != _REFERENCE:
            yield ratio_row(SECTION, timings, name, _REFERENCE, work=BATCH)
