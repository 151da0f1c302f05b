"""Makes and writes records with Apache Beam: the files that are written without it.

TFDS's own Beam writer cuts the sorted records into files by ranges of hashes, its
other one by number. Here they are cut by number too, so a set is the same, byte for
byte, however it was prepared.
"""

import dataclasses
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import apache_beam as beam
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions, TypeOptions
from etils import epath
from tensorflow_datasets.core import example_serializer, hashing, naming
from tensorflow_datasets.core import utils as tfds_utils
from tensorflow_datasets.core import writer as tfds_writer
from tensorflow_datasets.core.utils import shard_utils

from mic_tf.datasets.problems import Problems
from mic_tf.errors import UserError

_LEFT_OUT = "left_out"
_USER_ERROR = re.compile(r"UserError: (.*?)(?: \[while running|\\n|\n|$)")

Record = tuple[int, bytes]
"""Hash of the key, 128 bits, and the serialized record."""

LeftOut = tuple[int, str, str]
"""Number of the source, the thing that was left out, and why."""


class NoteSource(Protocol):
    """A part of a split that one process makes; it is sent there by pickle."""

    def notes(self, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields key and record of each note."""


@dataclasses.dataclass(frozen=True)
class Split:
    """What is to be written of one split.

    Attributes:
      name: of the split.
      sources: its parts, in their order.
      template: names of the record files.
      file_format: of them.
    """

    name: str
    sources: Sequence[NoteSource]
    template: naming.ShardedFileTemplate
    file_format: Any

    @property
    def plan_path(self) -> epath.Path:
        """Where the pipeline leaves word of what it wrote."""
        return epath.Path(f"{self.template.filepath_prefix()}.plan.json")


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the records of a split are cut into files.

    Attributes:
      first: hash of the first record of each file.
      lengths: records in each.
      bytes: of all records.
      left_out: what was left out.
    """

    first: list[int]
    lengths: list[int]
    bytes: int
    left_out: list[LeftOut]


def write(
    splits: Sequence[Split],
    features: tfds.features.FeaturesDict,
    problems: Problems,
    options: PipelineOptions,
    shard_config: shard_utils.ShardConfig,
) -> list[tfds.core.SplitInfo]:
    """Runs the pipeline and returns what TFDS wants to know of each split.

    Args:
      splits: what to write.
      features: of a record, with all label names.
      problems: says whether to skip bad notes, and takes what was left out.
      options: of the pipeline.
      shard_config: number of files.

    Raises:
      UserError: a note cannot be used and is not to be skipped, or a split is empty.
    """
    # Beam takes all outputs of a step to be of one type.
    options.view_as(TypeOptions).pipeline_type_check = False
    try:
        with beam.Pipeline(options=options) as pipeline:
            for split in splits:
                _add(pipeline, split, features, problems.skip, shard_config)
    except Exception as error:
        # Beam adds where it was; out of another process errors come back as text.
        own = "UserError: " if isinstance(error, UserError) else ""
        found = _USER_ERROR.findall(f"{own}{error}")
        if not found:
            raise
        # The last of a chain is the one that says the file.
        raise UserError(found[-1]) from error
    return [_result(split, problems) for split in splits]


def _add(
    pipeline: beam.Pipeline,
    split: Split,
    features: tfds.features.FeaturesDict,
    skip_bad: bool,
    shard_config: shard_utils.ShardConfig,
) -> None:
    def name(step: str) -> str:
        return f"{split.name}: {step}"

    made = (
        pipeline
        | name("sources") >> beam.Create(list(enumerate(split.sources)))
        | name("spread") >> beam.Reshuffle()
        | name("make")
        >> beam.ParDo(_Make(features, split.name, skip_bad)).with_outputs(
            _LEFT_OUT, main="records"
        )
    )
    left_out = beam.pvalue.AsList(made[_LEFT_OUT])
    plan = (
        made.records
        | name("sizes") >> beam.Map(lambda record: (record[0], len(record[1])))
        | name("all sizes") >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
        | name("plan") >> beam.Map(_plan, split.name, shard_config, left_out)
    )
    _ = plan | name("tell") >> beam.Map(_tell, str(split.plan_path))
    _ = (
        made.records
        | name("deal") >> beam.Map(_deal, beam.pvalue.AsSingleton(plan))
        | name("gather") >> beam.GroupByKey()
        | name("write")
        >> beam.Map(
            _write_file,
            split.template,
            split.file_format,
            beam.pvalue.AsSingleton(plan),
        )
    )


class _Make(beam.DoFn):
    """From (number, source) to records, and what was left out beside them."""

    def __init__(self, features: tfds.features.FeaturesDict, split: str, skip: bool):
        self._features = features
        self._split = split
        self._skip = skip

    def setup(self) -> None:
        self._hasher = hashing.Hasher(self._split)
        self._serializer = example_serializer.ExampleSerializer(
            self._features.get_serialized_info()
        )

    def process(self, element: tuple[int, NoteSource]) -> Iterator[Any]:
        number, source = element
        problems = Problems(self._skip)
        for key, example in source.notes(problems):
            encoded = self._features.encode_example(example)
            serialized = self._serializer.serialize_example(encoded)
            yield self._hasher.hash_key(key), serialized
        for thing, reason in problems.left_out:
            yield beam.pvalue.TaggedOutput(_LEFT_OUT, (number, thing, reason))


def _plan(
    sizes: list[tuple[int, int]],
    split: str,
    shard_config: shard_utils.ShardConfig,
    left_out: list[LeftOut],
) -> Plan:
    """Cuts the sorted records as TFDS does without Beam."""
    in_order = sorted(left_out, key=lambda entry: entry[0])
    keys = sorted(key for key, _ in sizes)
    if any(first == second for first, second in zip(keys, keys[1:], strict=False)):
        raise UserError(f"split {split}: two notes of the same name")
    if not keys:
        return Plan([], [], 0, in_order)
    total = sum(size for _, size in sizes)
    files = shard_config.get_number_shards(total, len(keys))
    ends = shard_utils.get_shard_boundaries(len(keys), files)
    starts = [0, *ends[:-1]]
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    return Plan([keys[start] for start in starts], lengths, total, in_order)


def _deal(record: Record, plan: Plan) -> tuple[int, Record]:
    return bisect_right(plan.first, record[0]) - 1, record


def _write_file(
    dealt: tuple[int, Iterable[Record]],
    template: naming.ShardedFileTemplate,
    file_format: Any,
    plan: Plan,
) -> None:
    number, records = dealt
    path = template.sharded_filepath(shard_index=number, num_shards=len(plan.first))
    with tfds_utils.incomplete_file(epath.Path(path)) as temporary:
        writer = tfds_writer.ExampleWriter(file_format=file_format)
        writer.write(temporary, sorted(records))


def _tell(plan: Plan, path: str) -> None:
    with tfds_utils.incomplete_file(epath.Path(path)) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(plan)))


def _result(split: Split, problems: Problems) -> tfds.core.SplitInfo:
    plan = Plan(**json.loads(split.plan_path.read_text()))
    split.plan_path.unlink()
    problems.left_out += [(thing, reason) for _, thing, reason in plan.left_out]
    if not plan.lengths:
        raise UserError(
            f"no usable note in split {split.name} ({len(problems)} left out)"
        )
    return tfds.core.SplitInfo(
        name=split.name,
        shard_lengths=plan.lengths,
        num_bytes=plan.bytes,
        filename_template=split.template,
    )
