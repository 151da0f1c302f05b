"""`train` that notes when its steps end: python -m tools.benchmarks.timed_train.

The first argument is a file for the result, the others are flags of train. The result
is JSON: `steps`, the monotonic clock in seconds at the end of every step, and `traces`,
how often the graphs of training and validation were traced.
"""

import json
import pathlib
import sys
import time
from typing import Any

from mic_tf import command, train


def timed(arguments: list[str]) -> int:
    """Trains as `train` does and writes the result."""
    from mic_tf.training import callbacks

    moments: list[float] = []
    models: list[Any] = []
    original = callbacks.Progress.on_train_batch_end

    def noted(self, batch: int, logs: dict | None = None) -> None:
        # A step has ended when its loss is there.
        float((logs or {}).get("loss", 0.0))
        moments.append(time.monotonic())
        models[:] = [self.model]
        original(self, batch, logs)

    callbacks.Progress.on_train_batch_end = noted
    status = train.main(arguments)
    functions = {
        "train": models[0].train_tf_function,
        "validate": models[0].test_function,
    }
    traces = {
        name: function.experimental_get_tracing_count()
        for name, function in functions.items()
        if function is not None
    }
    result = {"steps": moments, "traces": traces}
    pathlib.Path(_result).write_text(json.dumps(result))
    return status


if __name__ == "__main__":
    _result = sys.argv.pop(1)
    train.define_flags()
    command.run(timed)
