"""What can go wrong outside the caller's own arguments, each with the exit code of the command line.

A wrong argument is a plain `ValueError` that names the value, the rule and the fix.
"""


class NextokError(Exception):
    """Something failed while running; the message is one line and says what to do."""

    exit_code = 1


class ModelFileError(NextokError, ValueError):
    """A model file is damaged, hostile or of a kind that nextok does not read."""

    exit_code = 3


class ModelNotFoundError(NextokError, LookupError):
    """No model goes by this name, or no file lies at this path."""

    exit_code = 3


class TemplateError(NextokError, ValueError):
    """A chat template is missing, wrong, or went over its limits of time and size."""

    exit_code = 3


class LimitError(NextokError, ValueError):
    """A request needs more than the model or the machine can hold."""

    exit_code = 4


class DownloadError(NextokError, OSError):
    """A model could not be fetched."""

    exit_code = 5


class LogitsError(NextokError, ArithmeticError):
    """A row of scores has no finite value, so no token can be chosen from it."""


class DeadEndError(NextokError, ValueError):
    """The rules of a request leave no token that could come next."""

    exit_code = 4
