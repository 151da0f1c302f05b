"""The error that a person can act on."""


class UserError(Exception):
    """A mistake that the person at the keyboard can correct.

    The message is one line: the thing, its value, and what would be right. The
    commands print it without a traceback and exit with status 2; in the Python
    API it arrives as an ordinary exception.
    """
