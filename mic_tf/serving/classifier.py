"""Answers for sounds, in three lines of Python.

from mic_tf import Classifier
classifier = Classifier.load("runs/phase4")
print(classifier("note.flac").family)
"""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral

import numpy as np

from mic_tf import bundled
from mic_tf.audio import waveforms
from mic_tf.errors import UserError
from mic_tf.serving import contract as contracts
from mic_tf.serving import familiarity as familiarities
from mic_tf.serving import models, passing
from mic_tf.serving.passing import Sound, SoundInPassing, in_passing
from mic_tf.taxonomy import SAMPLE_RATE

SILENCE = "silence"
MAX_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a classifier says of one sound.

    Attributes:
      family: the most probable family, or `silence`.
      probability: of that family.
      probabilities: of every family, in the order of the labels; 0 for silence.
      embedding: float32 [d], the mean over the windows of the sound, louder ones
        counting more, as in the probabilities.
      channels: how many the sound had; their mean was classified.
      familiarity: how like the notes of training it is, from 0 to 1, the same mean over
        the windows that are not silent; None for silence, and where the model does not
        tell.
      silent: whether nothing is to be heard in it. A class of one's own may be named
        `silence` too.
    """

    family: str
    probability: float
    probabilities: dict[str, float]
    embedding: np.ndarray = dataclasses.field(repr=False)
    channels: int = 1
    familiarity: float | None = None
    silent: bool = False


@dataclasses.dataclass(frozen=True)
class Window:
    """What a classifier says of one window of a recording.

    Attributes:
      start: in seconds.
      end: in seconds, at most 4 later.
      family: the most probable family, or `silence`.
      probability: of that family.
      familiarity: as in `Answer`.
      silent: as in `Answer`.
    """

    start: float
    end: float
    family: str
    probability: float
    familiarity: float | None = None
    silent: bool = False


class Classifier:
    """An exported model and what its contract says.

    Attributes:
      labels: family names, in the order of the probabilities.
      contract: all that the model's `contract.json` says.
      fingerprint: of the model's files; two models that differ have different ones.
    """

    def __init__(
        self,
        contract: contracts.Contract,
        infer: models.Infer,
        fingerprint: str = "",
        familiarity: familiarities.Familiarity | None = None,
    ):
        """See `load`.

        Args:
          contract: of the model.
          infer: the model, as `models.open_model` gives it.
          fingerprint: as `models.fingerprint` gives it.
          familiarity: with the notes of training, where the model tells.
        """
        self.contract = contract
        self.labels = contract.labels
        self.fingerprint = fingerprint
        self._infer = infer
        self._familiarity = familiarity

    @classmethod
    def load(cls, path: str | os.PathLike | None = None) -> "Classifier":
        """Opens an exported model, after checking its contract and its ops.

        Args:
          path: folder of an export, the work folder that it is in, or the SavedModel
            or TFLite file in it; None or `pretrained`: the bundled model.

        Raises:
          UserError: there is no whole export, or one that this program refuses.
        """
        own = path is not None
        folder = bundled.resolved(os.fspath(path)) if own else bundled.folder()
        contract, infer = models.open_model(folder)
        known = None
        if contract.min_familiarity is not None:
            known = familiarities.read(
                models.parts(folder)[0], contract.embedding_width
            )
        return cls(contract, infer, models.fingerprint(folder), known)

    def __call__(self, sound: Sound, sample_rate: float | None = None) -> Answer:
        """The answer for one sound.

        Args:
          sound: an audio file, or a waveform, [samples] or [samples, channels]: float
            in [-1, 1] or integers of their full range.
          sample_rate: of the waveform in Hz; none for a file, which says it itself.

        Raises:
          UserError: the sound cannot be read, is shorter than 50 ms, holds NaN, or
            is a waveform without its rate.
        """
        answer = next(
            iter(self._answers([in_passing(sound, sample_rate)], batch_size=32))
        )
        if isinstance(answer, UserError):
            raise answer
        return answer

    def classify_files(
        self, paths: Iterable[str | os.PathLike], batch_size: int = 32
    ) -> Iterator[tuple[str, Answer | UserError]]:
        """Answers for many files, in their order, as they come.

        Args:
          paths: audio files, or one of them.
          batch_size: windows of 4 s classified at once, over the files' borders; at
            most 1024.

        Yields:
          Each path with its answer, or with what is wrong with the file.
        """
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        names = collections.deque()

        def sounds() -> Iterator[SoundInPassing]:
            for path in paths:
                names.append(os.fspath(path))
                yield in_passing(path, None)

        for answer in self._answers(sounds(), batch_size):
            yield names.popleft(), answer

    def classify_windows(
        self, windows: Iterable[tuple[float, np.ndarray]], batch_size: int = 32
    ) -> Iterator[Window]:
        """Answers for single windows, as they come.

        Args:
          windows: start in seconds and waveform of each, as `reading.windows` gives
            them.
          batch_size: windows classified at once.

        Raises:
          UserError: as `windows` does, after the answers for those before; or one of
            them is no window.
        """

        def checked() -> Iterator[tuple[float, np.ndarray]]:
            for start, waveform in windows:
                waveforms.check_window(f"window at {start:g} s", waveform)
                yield start, waveform

        source = SoundInPassing(checked())
        starts = collections.deque()

        def single() -> Iterator[SoundInPassing]:
            for start, waveform in source.windows():
                starts.append((start, start + waveform.size / SAMPLE_RATE))
                yield SoundInPassing([(start, waveform)])

        for answer in self._answers(single(), batch_size):
            said = (answer.family, answer.probability, answer.familiarity)
            yield Window(*starts.popleft(), *said, silent=answer.silent)
        if source.error:
            raise source.error

    def embed(
        self, sounds: str | os.PathLike | Iterable[str | os.PathLike]
    ) -> np.ndarray:
        """The embeddings of audio files, float32 [files, d]; of one, [1, d].

        Raises:
          UserError: the first file that cannot be answered.
        """
        rows = []
        for _, answer in self.classify_files(sounds):
            if isinstance(answer, UserError):
                raise answer
            rows.append(answer.embedding)
        empty = np.zeros([0, self.contract.embedding_width], np.float32)
        return np.stack(rows) if rows else empty

    def _answers(
        self, sounds: Iterable[SoundInPassing], batch_size: int
    ) -> Iterator[Answer | UserError]:
        if not isinstance(batch_size, Integral) or not 1 <= batch_size <= MAX_BATCH:
            raise UserError(
                f"batch_size={batch_size}: a whole number from 1 to {MAX_BATCH} "
                "expected"
            )
        unfinished: collections.deque[SoundInPassing] = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
            batches = _Batches(self._classify, thread, batch_size)
            for sound in sounds:
                unfinished.append(sound)
                for _, waveform in sound.windows():
                    batches.add(sound, waveform)
                batches.take(wait=False)
                while unfinished and unfinished[0].is_done():
                    yield self._answer(unfinished.popleft())
            batches.start()
            batches.take(wait=True)
        for sound in unfinished:
            yield self._answer(sound)

    def _classify(self, windows: np.ndarray) -> Iterator[tuple]:
        """Probabilities, embedding and familiarity of each of a batch of windows."""
        answers, embeddings = self._infer(windows)
        familiar = [None] * len(windows)
        if self._familiarity:
            familiar = self._familiarity.of(embeddings).tolist()
        return zip(answers, embeddings, familiar, strict=True)

    def _answer(self, sound: SoundInPassing) -> Answer | UserError:
        if sound.error:
            return sound.error
        probabilities = sound.probabilities / sound.weight
        embedding = (sound.embedding / sound.weight).astype(np.float32)
        best = int(np.argmax(probabilities))
        family, probability = self.labels[best], float(probabilities[best])
        if sound.silent:
            family, probability, probabilities = SILENCE, 1.0, 0 * probabilities
        named = zip(self.labels, map(float, probabilities), strict=True)
        familiarity = None
        if sound.familiarity is not None:
            familiarity = float(sound.familiarity / sound.weight)
        return Answer(
            family,
            probability,
            dict(named),
            embedding,
            channels=sound.channels,
            familiarity=familiarity,
            silent=sound.silent,
        )


class _Batches:
    """Batches on their way through the model: one in it, while the next is filled.

    Args:
      classify: from windows, float32 [windows, 64000], to what is said of each.
      thread: where it runs.
      batch_size: windows classified at once.
    """

    def __init__(
        self,
        classify: Callable[[np.ndarray], Iterator[tuple]],
        thread: concurrent.futures.Executor,
        batch_size: int,
    ):
        self._classify = classify
        self._thread = thread
        self._room = models.room_for_windows(batch_size)
        self._other_room = models.room_for_windows(batch_size)
        self._waiting: list[tuple[SoundInPassing, float]] = []
        self._told: list[tuple[SoundInPassing, float]] = []
        self._running: concurrent.futures.Future | None = None

    def add(self, sound: SoundInPassing, window: np.ndarray) -> None:
        """Takes a window of up to 64,000 samples; a full batch is begun with."""
        row = self._room[len(self._waiting)]
        row[: window.size] = window
        row[window.size :] = 0.0
        self._waiting.append((sound, passing.weight(window)))
        if len(self._waiting) == len(self._room):
            self.start()

    def start(self) -> None:
        """Waits for the batch before, then begins with what there is."""
        self.take(wait=True)
        if not self._waiting:
            return
        windows = self._room[: len(self._waiting)]
        self._running = self._thread.submit(self._classify, windows)
        self._told, self._waiting = self._waiting, []
        self._room, self._other_room = self._other_room, self._room

    def take(self, wait: bool) -> None:
        """Tells the sounds of the running batch, if it is done or `wait`."""
        if self._running is None or not (wait or self._running.done()):
            return
        finished, self._running = self._running, None
        for (sound, weight), said in zip(self._told, finished.result(), strict=True):
            sound.add(*said, weight)
