"""What is wrong with single notes of a source: the end of the work, or a list."""

import csv
import io

from mic_tf import files
from mic_tf.errors import UserError


class Problems:
    """Collects notes that cannot be used.

    Attributes:
      skip: whether such notes are left out; else the first one is an error.
      left_out: (thing, reason) of each.
    """

    def __init__(self, skip: bool = False):
        self.skip = skip
        self.left_out: list[tuple[str, str]] = []

    def report(self, thing: str, reason: str) -> None:
        """Takes note of a thing that is left out.

        Args:
          thing: the file, or the archive and its member.
          reason: what is wrong, and what would be right.

        Raises:
          UserError: such things are not to be skipped.
        """
        if not self.skip:
            message = f"{thing}: {reason} (--skip_bad leaves such notes out)"
            # Names of files may have line breaks.
            raise UserError(" ".join(message.splitlines()))
        self.leave_out(thing, reason)

    def leave_out(self, thing: str, reason: str) -> None:
        """Takes note of a thing that is left out in any case.

        Args:
          thing: as in `report`.
          reason: what it lacks.
        """
        self.left_out.append((printable(thing), printable(reason)))

    def __len__(self) -> int:
        return len(self.left_out)

    def write(self, path: str) -> None:
        """Writes the list as CSV; without problems it writes nothing."""
        if not self.left_out:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["left_out", "reason"])
        writer.writerows(self.left_out)
        files.write_text(path, text.getvalue())


def printable(name: str) -> str:
    r"""A file name with `\udcf6` and the like for bytes that are not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
