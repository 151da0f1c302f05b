"""Options of a Beam pipeline from one flag."""

import re
from typing import Any

from mic_tf.errors import UserError


def pipeline_options(text: str, purpose: str, *, instead: str) -> Any:
    """Beam's options from `name=value` pairs, separated by commas or spaces.

    Args:
      text: the pairs; without a runner it is DirectRunner.
      purpose: what is done with Beam.
      instead: what can be done without.

    Raises:
      UserError: apache-beam is not installed, or an option or the runner is unknown.
    """
    try:
        import apache_beam  # noqa: F401  (TFDS imports it lazily, and fails late)
        from apache_beam.options.pipeline_options import (
            PipelineOptions,
            StandardOptions,
        )
        from apache_beam.runners import runner
    except ImportError as error:
        raise UserError(
            f"{purpose} with apache-beam, which is not installed: "
            f"`pip install -r requirements-beam.txt`; or {instead}"
        ) from error
    pairs = [part.lstrip("-") for part in re.split(r"[,\s]+", text) if part]
    if not any(pair.startswith("runner=") for pair in pairs):
        pairs.append("runner=DirectRunner")
    options = PipelineOptions([f"--{pair}" for pair in pairs])
    try:
        runner.create_runner(options.view_as(StandardOptions).runner)
    except (ValueError, ImportError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise UserError(f"--beam_options={text}: {first_line}") from error
    unknown = _unknown(options, pairs)
    if unknown:
        raise UserError(f"--beam_options={text}: Beam has no option {unknown}")
    return options


def _unknown(options: Any, pairs: list[str]) -> str:
    known = options.get_all_options()
    for pair in pairs:
        option = pair.partition("=")[0]
        if option not in known and f"no_{option}" not in known:
            return option
    return ""
