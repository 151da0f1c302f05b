"""What NSynth calls things: families, sources, qualities, published counts.

Source: Engel et al. 2017, "Neural Audio Synthesis of Musical Notes with WaveNet
Autoencoders", and the data set's page. This is the only place that knows the order
of the labels.
"""

from types import MappingProxyType

SAMPLE_RATE = 16_000
"""Samples per second of every record and every model."""

NOTE_SAMPLES = 64_000
"""Samples of one record: 4 seconds."""

MIN_SAMPLES = 800
"""The shortest waveform that gets an answer: 50 ms."""

FAMILIES = (
    "bass",
    "brass",
    "flute",
    "guitar",
    "keyboard",
    "mallet",
    "organ",
    "reed",
    "string",
    "synth_lead",
    "vocal",
)

SOURCES = ("acoustic", "electronic", "synthetic", "unknown")
"""NSynth's three sources, and one for recordings that do not say."""

QUALITIES = (
    "bright",
    "dark",
    "distortion",
    "fast_decay",
    "long_release",
    "multiphonic",
    "nonlinear_env",
    "percussive",
    "reverb",
    "tempo-synced",
)

VELOCITIES = (25, 50, 75, 100, 127)
"""The MIDI velocities at which every NSynth instrument was played."""

SPLITS = ("train", "valid", "test")

NSYNTH_SPLIT_NOTES = MappingProxyType(
    {"train": 289_205, "valid": 12_678, "test": 4_096}
)

NSYNTH_FAMILY_NOTES = MappingProxyType(
    {
        "bass": 68_955,
        "brass": 13_830,
        "flute": 9_423,
        "guitar": 35_423,
        "keyboard": 54_991,
        "mallet": 35_066,
        "organ": 36_577,
        "reed": 14_866,
        "string": 20_594,
        "synth_lead": 5_501,
        "vocal": 10_753,
    }
)
"""Notes of each family over all three splits."""


def label_names(families_found: set[str]) -> tuple[str, ...]:
    """The label list for a data set in which these families occur.

    Args:
      families_found: names as the data gives them.

    Returns:
      NSynth's 11 names in their order where the data uses only those, else the
      data's own names, sorted.
    """
    if families_found <= set(FAMILIES):
        return FAMILIES
    return tuple(sorted(families_found))
