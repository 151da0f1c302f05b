"""How much a run of the benchmark does."""

import dataclasses
import pathlib

SECTIONS = (
    "frontend",
    "step",
    "networks",
    "input",
    "stall",
    "memory",
    "cold_start",
    "inference",
    "growth",
)


@dataclasses.dataclass(frozen=True)
class BenchmarkSettings:
    """How much is measured, on what.

    Attributes:
      quick: whether the figures only show that everything runs.
      device: `cpu` or `gpu`.
      gpu_found: whether there is a GPU, where one is asked for.
      folder: for what is made on the way.
      data_dir: folder of prepared sets; the one with `dataset` in it.
      dataset: the set that `input`, `stall`, `step` and `inference` read.
      notes: training notes that are made for these where no set is given.
      start_notes: training notes of `cold_start`.
      seconds: for the rounds of one comparison.
      least_rounds: rounds of one comparison, at least.
      input_batches: batches of 32 notes that a round of `input` delivers.
      stall_steps: training steps of `stall`.
      memory_notes: training notes of the two runs of `memory`.
      growth_notes: notes of the sets of `growth`.
      width: channels of the first block of the networks; 0: the default's.
      long_minutes: length of the one long file of `inference`.
      short_files: number of files of 4 s of `inference`.
    """

    quick: bool
    device: str
    gpu_found: bool
    folder: pathlib.Path
    data_dir: str
    dataset: str
    notes: int = 4_000
    start_notes: int = 320
    seconds: float = 30.0
    least_rounds: int = 5
    input_batches: int = 125
    stall_steps: int = 100
    memory_notes: tuple[int, int] = (1_000, 20_000)
    growth_notes: tuple[int, ...] = (1_000, 4_000, 16_000)
    width: int = 0
    long_minutes: float = 10.0
    short_files: int = 1_000

    @property
    def on_gpu(self) -> bool:
        return self.device == "gpu" and self.gpu_found

    @property
    def gpu_batch(self) -> int:
        """Notes of a batch that keeps a GPU busy."""
        return 4 if self.quick else 1024


NO_GPU = "no GPU here; the other rows are the CPU's"

QUICK = {
    "notes": 200,
    "start_notes": 64,
    "seconds": 0.2,
    "least_rounds": 1,
    "input_batches": 4,
    "stall_steps": 4,
    "memory_notes": (64, 128),
    "growth_notes": (100, 200),
    "width": 8,
    "long_minutes": 0.5,
    "short_files": 12,
}
"""What `--quick` changes: figures of everything, none of them worth quoting."""
