"""All settings of a run, as frozen dataclasses, and their way to flags and JSON.

Each field says its own help text once; `define_flags` turns the fields into absl
flags of the same names, and `from_flags` reads them back. Nothing below the commands
reads a flag. Importing this module imports nothing heavy.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from absl import flags

from mic_tf.errors import UserError

PROTOCOLS = ("official", "instrument", "random")
BALANCES = ("rejection", "streams", "class_weight", "none")
MODELS = ("small_cnn", "deep_cnn", "mobile_cnn")
STRATEGIES = ("auto", "mirrored", "multi_worker", "tpu", "one_device")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "float64")


def setting(
    default: Any,
    help_text: str,
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    identity: bool | Callable[[Any], Any] = True,
    before: Any = None,
) -> Any:
    """A dataclass field with what its flag needs.

    Args:
      default: the default value; its type is the flag's type.
      help_text: the flag's help.
      choices: the values a string may have.
      minimum: the smallest value allowed.
      maximum: the largest value allowed.
      identity: whether the value changes the weights that come out. Resuming a run
        is refused when such a setting differs. A function: whether what it makes of
        the value does.
      before: what runs did that were saved before there was this setting; None: what
        the default says.
    """
    metadata = {
        "help": help_text,
        "choices": tuple(choices),
        "minimum": minimum,
        "maximum": maximum,
        "identity": identity,
        "before": before,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Which notes, split how, balanced how."""

    dataset: str = setting(
        "soundfont_notes",
        "The data set: nsynth/full, nsynth/gansynth_subset, nsynth_jsonwav, "
        "soundfont_notes or sample_folder, with an optional version behind a colon.",
    )
    data_dir: str = setting(
        "~/tensorflow_datasets",
        "Folder of the prepared data sets (local, gs://, s3://).",
        identity=False,
    )
    extra_datasets: str = setting(
        "",
        "Comma-separated prepared sets of the same families whose notes are trained "
        "on too, all splits of them, whatever the protocol.",
    )
    extra_share: float = setting(
        0.5,
        "Share of the notes drawn in training that come from the extra data sets.",
        minimum=0.0,
        maximum=1.0,
    )
    protocol: str = setting(
        "official",
        "How notes become train, valid and test. official: the data set's own "
        "splits; instrument: folds of instruments; random: by a hash of the note "
        "(the same instruments on both sides).",
        choices=PROTOCOLS,
    )
    pool: str = setting(
        "",
        "Comma-separated splits of the data set that the instrument and random "
        "protocols divide anew; empty: all of them.",
    )
    folds: int = setting(5, "Folds of the instrument protocol.", minimum=2, maximum=50)
    fold: int = setting(
        0, "Which fold is the test part of the instrument protocol.", minimum=0
    )
    split_seed: int = setting(0, "Salt of the hashes that divide notes.", minimum=0)
    max_notes: int = setting(
        0,
        "Use at most this many training notes of --dataset, drawn at random in the "
        "data's own proportions; 0: all. Those of --extra_datasets are used all.",
        minimum=0,
    )
    exclude: str = setting(
        "", "A file of note ids to leave out, one a line, as the audit writes it."
    )
    skip_bad: bool = setting(
        False,
        "Read all records first and leave out damaged ones and notes with NaN or "
        "infinity, with a count, instead of ending with an error.",
    )
    balance: str = setting(
        "rejection",
        "How families are balanced in training. rejection: notes are drawn by "
        "rejection on their labels before audio is read; streams: the same "
        "proportions from one stream of records per family (needs "
        "prepare --family_shards); class_weight: rare families weigh more in the "
        "loss; none.",
        choices=BALANCES,
    )
    balance_alpha: float = setting(
        1.0,
        "Where the target lies between the data's own proportions (0) and a "
        "uniform one (1).",
        minimum=0.0,
        maximum=1.0,
    )
    family_weights: str = setting(
        "",
        "Families drawn more or less often than the target says, as guitar:3,vocal:0.5 "
        "(hard families learn more, and the model leans towards them); for "
        "--balance=rejection, streams or class_weight.",
    )
    data_service: str = setting(
        "",
        "Address of a tf.data service, grpc://HOST:PORT, that reads, balances and "
        "batches (python -m mic_tf.data_service); the order of the notes is then not "
        "the same every time.",
        identity=bool,  # The address is a place.
    )
    shuffle_buffer: int = setting(
        256,
        "Notes held in memory to mix their order, 0.13 MB each; prepared record files "
        "are in random order already.",
        minimum=1,
    )

    @property
    def dataset_names(self) -> tuple[str, ...]:
        """The main data set, then the extra ones."""
        extras = (name.strip() for name in self.extra_datasets.split(","))
        return (self.dataset, *filter(None, extras))


@dataclasses.dataclass(frozen=True)
class FrontEndSettings:
    """The log-mel front-end; names and meanings are librosa's."""

    n_fft: int = setting(
        1024, "Samples of an FFT; a power of two.", minimum=64, maximum=8192
    )
    hop_length: int = setting(512, "Samples between frames.", minimum=16)
    n_mels: int = setting(96, "Mel bands.", minimum=8, maximum=512)
    fmin: float = setting(20.0, "Lowest frequency in Hz.", minimum=0.0)
    fmax: float = setting(8000.0, "Highest frequency in Hz.", minimum=100.0)
    top_db: float = setting(
        80.0, "Decibels kept below the loudest point of a note.", minimum=10.0
    )
    skip_silence_db: float = setting(
        40.0,
        "Outside training, what lies so far below the loudest point before a sound "
        "begins, for some 0.03 s or more, is moved behind it, and so is noise 21 dB or "
        "more below, steady for 0.2 s or more; 0, or top_db and more: nothing is.",
        minimum=0.0,
    )


@dataclasses.dataclass(frozen=True)
class AugmentSettings:
    """What is done to a training batch, on the device; 0 switches each off."""

    mixup_alpha: float = setting(
        0.0, "Mixup of two notes and their labels, as Kumaraswamy(a, a).", minimum=0.0
    )
    noise_snr_db: float = setting(
        0.0,
        "White noise down to this signal-to-noise ratio in dB, uniform between it "
        "and 60, on half the notes.",
        minimum=0.0,
    )
    drive_db: float = setting(
        0.0,
        "Overdrive by up to this many dB above a note's peak, bent or cut off, on a "
        "third of the notes.",
        minimum=0.0,
        maximum=60.0,
    )
    shift_seconds: float = setting(
        0.0, "Delay by up to this many seconds.", minimum=0.0, maximum=3.0
    )
    record_again: float = setting(
        1.0,
        "Share of the notes that the settings from tilt_db to decay_db apply to; the "
        "others stay clean.",
        minimum=0.0,
        maximum=1.0,
    )
    tilt_db: float = setting(
        0.0, "Random spectral tilt of up to this many dB over the range.", minimum=0.0
    )
    band_pass_octaves: float = setting(
        0.0,
        "A cut of the lowest and of the highest up to this many octaves, each on a "
        "third of the notes.",
        minimum=0.0,
        maximum=6.0,
    )
    equalise_db: float = setting(
        0.0,
        "A random smooth frequency response, of about this standard deviation in dB.",
        minimum=0.0,
    )
    echo: float = setting(
        0.0,
        "Share of the notes that get a room's decay, of 0.1 to 2 s and -25 to 0 dB.",
        minimum=0.0,
        maximum=1.0,
    )
    floor_db: float = setting(
        0.0,
        "A noise floor on half the notes, from this many dB below the loudest "
        "point down to top_db.",
        minimum=0.0,
    )
    low_rate: float = setting(
        0.0,
        "Share of the notes with nothing above a frequency between 3 kHz and fmax, as "
        "in files of lower sample rates.",
        minimum=0.0,
        maximum=1.0,
    )
    crop_seconds: float = setting(
        0.0,
        "On half the notes, start by up to this many seconds too late, and on a third "
        "end after 0.2 to 4 s, with silence behind.",
        minimum=0.0,
        maximum=3.5,
    )
    stretch: float = setting(
        0.0,
        "Play faster or slower by up to this share, at the same pitch.",
        minimum=0.0,
        maximum=0.5,
    )
    loop: float = setting(
        0.0,
        "Share of the notes whose sound stands still from 0.1 to 1 s on, as the loops "
        "of samplers do.",
        minimum=0.0,
        maximum=1.0,
    )
    pitch_semitones: float = setting(
        0.0,
        "Play higher or lower by up to this many semitones, at the same tempo.",
        minimum=0.0,
        maximum=24.0,
    )
    decay_db: float = setting(
        0.0,
        "Fade or swell by up to this many dB over a note's length.",
        minimum=0.0,
    )
    roll_bands: int = setting(
        0, "Shift the log-mel by up to this many bands.", minimum=0
    )
    time_masks: int = setting(0, "SpecAugment: masks in time.", minimum=0)
    time_mask_frames: int = setting(
        24, "SpecAugment: the widest mask in time, in frames.", minimum=1
    )
    freq_masks: int = setting(0, "SpecAugment: masks in frequency.", minimum=0)
    freq_mask_bands: int = setting(
        12, "SpecAugment: the widest mask in frequency, in bands.", minimum=1
    )


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """The network behind the front-end."""

    model: str = setting(
        "deep_cnn",
        "The network; mobile_cnn trains up to twice as fast as deep_cnn and is worse.",
        choices=MODELS,
    )
    width: int = setting(
        32, "Channels of the first block; each next block doubles them.", minimum=4
    )
    depth: int = setting(
        0, "Convolution blocks; 0: the network's own number.", minimum=0, maximum=6
    )
    dense_units: int = setting(
        128, "Units of the embedding in front of the logits.", minimum=8
    )
    dropout: float = setting(
        0.3,
        "Dropout in front of the logits (not in small_cnn).",
        minimum=0.0,
        maximum=0.9,
    )
    members: str = setting(
        "",
        "Several such networks side by side behind one front-end, as 0.6,0.4: the "
        "answer is the mean of their log-probabilities in these shares; empty: one.",
    )

    @property
    def member_shares(self) -> tuple[float, ...]:
        """Shares of the networks side by side; (1.0,) for a single one.

        Raises:
          UserError: they cannot be read, or do not add up to 1.
        """
        if not self.members:
            return (1.0,)
        try:
            shares = tuple(float(part) for part in self.members.split(","))
        except ValueError:
            shares = ()
        if not are_shares(shares):
            raise UserError(
                f"--members={self.members}: two or more positive shares that add up "
                "to 1 expected, as 0.6,0.4"
            )
        return shares


def are_shares(numbers: Sequence[float]) -> bool:
    """Whether these are two or more positive numbers that add up to 1."""
    return len(numbers) > 1 and min(numbers) > 0 and abs(sum(numbers) - 1.0) <= 1e-3


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Optimiser, schedule and length."""

    epochs: int = setting(
        10,
        "Epochs; an epoch is ceil(training notes / batch size) steps.",
        minimum=1,
    )
    batch_size: int = setting(32, "Global batch size over all replicas.", minimum=1)
    learning_rate: float = setting(1e-3, "Peak learning rate of AdamW.", minimum=0.0)
    weight_decay: float = setting(1e-4, "Weight decay of AdamW.", minimum=0.0)
    warmup: float = setting(
        0.1, "Share of the steps spent warming up.", minimum=0.0, maximum=0.9
    )
    label_smoothing: float = setting(
        0.0, "Label smoothing of the cross-entropy.", minimum=0.0, maximum=0.5
    )
    early_stopping: int = setting(
        0,
        "Stop after this many epochs without a better validation macro-F1; 0: never.",
        minimum=0,
    )
    select: str = setting(
        "best",
        "Which weights are evaluated and exported. best: the best validation "
        "macro-F1; last: the end of training, and the validation part of the "
        "instrument and random protocols is trained on too.",
        choices=("best", "last"),
    )
    seed: int = setting(0, "Seed of everything random.", minimum=0, maximum=2**31 - 2)
    init_from: str = setting(
        "",
        "Start from the weights of this work folder or export (export --weights); "
        "pretrained: the bundled model. Front-end and network are taken over.",
    )
    deterministic: bool = setting(
        False, "Only ops whose results are the same every time (slower on GPU)."
    )
    mixed_precision: str = setting(
        "float32", "Numeric policy of the network.", choices=PRECISIONS
    )
    jit: bool = setting(False, "Compile the training step with XLA.")
    winograd: bool = setting(
        True,
        "On a CPU, train large 3 x 3 convolutions in float32 by Winograd's minimal "
        "filtering: deep_cnn's default size takes a quarter less time, and all is the "
        "same but for rounding.",
        before=False,
    )
    fused_norm: bool = setting(
        True,
        "On a CPU, train BatchNorm, ReLU and pooling of deep_cnn in float32 in one "
        "go, the same but for rounding; several replicas take Keras's layers.",
        before=False,
    )
    strategy: str = setting(
        "auto",
        "Distribution strategy; auto: multi_worker with TF_CONFIG, else mirrored.",
        choices=STRATEGIES,
        identity=False,
    )
    tpu: str = setting("", "Name or address of the TPU.", identity=False)
    steps_per_execution: int = setting(
        1, "Steps run per call into the graph.", minimum=1, identity=False
    )
    checkpoint_every: int = setting(
        0, "Also save a checkpoint every so many steps.", minimum=0, identity=False
    )
    profile: str = setting(
        "", "Trace these steps for TensorBoard: FROM,TO.", identity=False
    )


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Everything a run is made of; `config.json` in the work folder holds it."""

    data: DataSettings = DataSettings()
    frontend: FrontEndSettings = FrontEndSettings()
    augment: AugmentSettings = AugmentSettings()
    network: NetworkSettings = NetworkSettings()
    train: TrainSettings = TrainSettings()


T = TypeVar("T")


def _sections(cls: type = RunSettings) -> dict[str, type]:
    return {field.name: type(field.default) for field in dataclasses.fields(cls)}


def define_flags(
    *section_types: type, flag_values: flags.FlagValues = flags.FLAGS
) -> None:
    """Defines one absl flag for each field of these dataclasses.

    A command then calls `flags.adopt_module_key_flags(settings)`, so that its
    `--help` lists them.
    """
    for section in section_types:
        for field in dataclasses.fields(section):
            _define_flag(field, flag_values)


def _define_flag(field: dataclasses.Field, flag_values: flags.FlagValues) -> None:
    meta, default = field.metadata, field.default
    target = {"flag_values": flag_values}
    name, help_text = field.name, meta["help"]
    if isinstance(default, bool):
        flags.DEFINE_bool(name, default, help_text, **target)
    elif isinstance(default, int):
        bounds = {"lower_bound": meta["minimum"], "upper_bound": meta["maximum"]}
        flags.DEFINE_integer(name, default, help_text, **bounds, **target)
    elif isinstance(default, float):
        bounds = {"lower_bound": meta["minimum"], "upper_bound": meta["maximum"]}
        flags.DEFINE_float(name, default, help_text, **bounds, **target)
    elif meta["choices"]:
        flags.DEFINE_enum(name, default, list(meta["choices"]), help_text, **target)
    else:
        flags.DEFINE_string(name, default, help_text, **target)


def from_flags(section: type[T], flag_values: flags.FlagValues = flags.FLAGS) -> T:
    """The values of a dataclass's flags.

    Raises:
      UserError: one is no number, which absl's bounds let through.
    """
    names = [field.name for field in dataclasses.fields(section)]
    values = {name: flag_values[name].value for name in names}
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name}={value}: a number expected")
    return section(**values)


def given_in_flags(flag_values: flags.FlagValues = flags.FLAGS) -> set[str]:
    """Names of the settings that the command line or its flag files name."""
    names = {
        field.name for cls in _sections().values() for field in dataclasses.fields(cls)
    }
    return {name for name in names if flag_values[name].present}


def run_from_flags(flag_values: flags.FlagValues = flags.FLAGS) -> RunSettings:
    """All settings of a run from the flags."""
    parts = {n: from_flags(cls, flag_values) for n, cls in _sections().items()}
    return RunSettings(**parts)


def to_dict(settings: RunSettings) -> dict[str, Any]:
    return dataclasses.asdict(settings)


def run_from_dict(content: dict[str, Any], origin: str) -> RunSettings:
    """Settings from the dictionary that `to_dict` made.

    Args:
      content: sections of settings; those that are newer than it may be missing.
      origin: the file it came from, for the error message.

    Raises:
      UserError: a section or a setting is unknown.
    """
    parts = {}
    for name, cls in _sections().items():
        values = content.get(name, {})
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(f"{origin}: unknown setting {name}.{unknown[0]}")
        parts[name] = cls(**{**_before(cls), **values})
    return RunSettings(**parts)


def _before(section: type) -> dict[str, Any]:
    """What a saved run did by settings that it does not name."""
    found = {f.name: f.metadata["before"] for f in dataclasses.fields(section)}
    return {name: value for name, value in found.items() if value is not None}


def as_it_began(
    run: RunSettings, content: dict[str, Any], given: Collection[str]
) -> RunSettings:
    """Settings to go on with a saved run that is older than some of them.

    Args:
      run: as the flags say them.
      content: what `to_dict` made when the run began.
      given: names of the settings that the person gave; these stay.
    """
    parts = {}
    for name, cls in _sections().items():
        newer = {
            key: value
            for key, value in _before(cls).items()
            if key not in content.get(name, {}) and key not in given
        }
        parts[name] = dataclasses.replace(getattr(run, name), **newer)
    return RunSettings(**parts)


def differences(old: RunSettings, new: RunSettings) -> list[str]:
    """Settings that change the result and differ, as `name: old -> new`."""
    found = []
    for name, cls in _sections().items():
        for field in dataclasses.fields(cls):
            before = getattr(getattr(old, name), field.name)
            after = getattr(getattr(new, name), field.name)
            identity = field.metadata["identity"]
            if callable(identity):
                is_other = identity(before) != identity(after)
            else:
                is_other = identity and before != after
            if is_other:
                found.append(
                    f"{field.name}: {json.dumps(before)} -> {json.dumps(after)}"
                )
    return found
