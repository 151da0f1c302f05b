"""One start and one stop for all workers: what one does, all do at the same step."""

import time

import tensorflow as tf
from absl import logging

from mic_tf import files
from mic_tf.tracing import as_written
from mic_tf.training.strategy import Placement

_SECONDS_BETWEEN_VOTES = 1.0
_MOST_STEPS_BETWEEN_VOTES = 1_000


class Agreement:
    """Lets the workers of a run begin alike and stop after the same step.

    Saving is done by all workers together, so one alone cannot save when it is asked
    to stop. About once a second all add up who wants to stop: a sum of two numbers
    over the hosts. The steps until the next vote follow from the mean duration of a
    step, which is summed with it, so every worker counts to the same number. A run of
    one worker asks nobody.

    Args:
      placement: of the run.
    """

    def __init__(self, placement: Placement):
        self._strategy = placement.strategy
        self._is_chief = placement.is_chief
        self._replicas_each = (
            placement.strategy.num_replicas_in_sync // placement.workers
        )
        self._alone = placement.workers == 1
        self._steps, self._until_vote = 0, 1
        self._since = time.monotonic()
        self._sum = tf.function(as_written(self._sum_of_replicas))

    def decide(self, wanted: bool, *, now: bool = False) -> bool:
        """Whether all stop here; called by every worker after the same steps.

        Args:
          wanted: whether this worker was asked to stop.
          now: vote in any case, as at the end of an epoch.
        """
        if self._alone:
            return wanted
        self._steps += 1
        if self._steps < self._until_vote and not now:
            return False
        seconds = (time.monotonic() - self._since) / self._steps
        votes, total = self._sum(tf.constant([float(wanted), seconds])).numpy()
        mean = float(total) / self._strategy.num_replicas_in_sync
        steps = int(_SECONDS_BETWEEN_VOTES / max(mean, 1e-6))
        self._until_vote = min(max(steps, 1), _MOST_STEPS_BETWEEN_VOTES)
        self._steps, self._since = 0, time.monotonic()
        return bool(votes > 0)

    def all_begin_alike(self, epoch: int, step: int, checksum: str) -> bool:
        """Whether every worker begins where the chief does; all get one answer.

        Called by every worker. The sums are exact for epochs and steps below 2^24
        by the chief's replicas.

        Args:
          epoch: whole epochs done; -1: this worker cannot begin.
          step: steps done of the next one.
          checksum: of the weights that it starts from, 8 hexadecimal digits or none.
        """
        if self._alone:
            return epoch >= 0
        halves = divmod(int(checksum or "0", 16), 1 << 16)
        own = tf.constant([epoch, step, *halves], tf.float32)
        of_chief = self._sum(own if self._is_chief else tf.zeros_like(own))
        alike = tf.reduce_all(of_chief == own * self._replicas_each)
        return self.all_agree(bool(alike) and epoch >= 0)

    def all_agree(self, agrees: bool) -> bool:
        """Whether every worker says yes; called by every one, all get one answer."""
        if self._alone:
            return agrees
        votes = self._sum(tf.constant([float(not agrees), 0.0]))
        return not votes.numpy().any()

    def wait_for_all(self) -> None:
        """Returns when every worker has come here: none ends while another saves."""
        if not self._alone:
            self._sum(tf.constant([0.0, 0.0])).numpy()

    def end(self) -> None:
        """The last that workers do together, when all have what they need.

        A worker that has its part of this sum may end while others still wait for
        theirs, which then fails: to them that is the end as well.
        """
        try:
            self.wait_for_all()
        except tf.errors.OpError as error:
            logging.warning("another worker ended first: %s", files.reason(error))

    def _sum_of_replicas(self, values: tf.Tensor) -> tf.Tensor:
        def of_replica() -> tf.Tensor:
            # On the replica's own device: an argument of the graph is on none.
            own = tf.identity(values)
            return tf.distribute.get_replica_context().all_reduce("SUM", own)

        sums = self._strategy.run(of_replica)
        return self._strategy.experimental_local_results(sums)[0]
