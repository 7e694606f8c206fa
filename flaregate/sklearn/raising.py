"""An error of a task as the exception it was."""

from flaregate.errors import FlaregateError
from flaregate.imports import resolve
from flaregate_wire.events import ErrorDetail


class InTask(FlaregateError):
    """The traceback of the task."""


class TaskFailed(FlaregateError):
    """A task failed with what is no exception of this process."""


def raised(error: ErrorDetail) -> Exception:
    """The exception, with the task's traceback as its cause; TaskFailed where its class is not to be had here."""
    made = _made(_qualified(error), error.message)
    made.__cause__ = InTask(f"\n{error.traceback}")
    return made


def _qualified(error: ErrorDetail) -> str:
    """The class with its module, as the last line of a traceback has it."""
    text, tail = error.traceback.rstrip("\n"), f": {error.message}".rstrip("\n")
    if not text.endswith(tail):
        return error.type
    return text[: len(text) - len(tail)].rpartition("\n")[2] or error.type


def _made(qualified: str, message: str) -> Exception:
    module, _, name = qualified.rpartition(".")
    try:
        kind = resolve(f"{module or 'builtins'}:{name}")
        if isinstance(kind, type) and issubclass(kind, Exception):
            return kind(message)
    except (ImportError, AttributeError, TypeError, ValueError):
        pass  # a class of the task's own process, or one that takes other arguments
    return TaskFailed(f"{qualified}: {message}")
