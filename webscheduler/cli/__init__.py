"""The command line: `webscheduler`, also `python -m webscheduler`. A door; imports everything below the doors.

The rules: exit status 0 done, 1 a task failed or something is unhealthy, 2 usage or bad input; an error is one line on
standard error that says what is wrong and what to do. Each module of verbs registers its own in `parser`.
"""

from __future__ import annotations

import os
import sys

from ..errors import BadInput, WebschedulerError
from ..host.home import check_owner
from ..store.settings import find_home
from .parser import parse
from .terminal import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ENDED_BY_PIPE, ENDED_BY_KEYBOARD = 128 + 13, 128 + 2  # as a shell tells the end by SIGPIPE and SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line; its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # whatever the locale, nothing that is shown can fail

    try:
        status = _carry_out(sys.argv[1:] if argv is None else argv)

        if sys.stdout:
            sys.stdout.flush()  # here, where an error can still be told

        return status
    except WebschedulerError as error:
        complain(error)
        return error.exit_code
    except BrokenPipeError:
        _finish_output()
        return ENDED_BY_PIPE
    except OSError as error:
        _finish_output()
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        complain(f"{where}{error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        return ENDED_BY_KEYBOARD


def _carry_out(words: Sequence[str]) -> int:
    try:
        args = parse(words)
    except SystemExit:  # argparse has shown help or version
        return 0

    if args.home == "":
        raise BadInput("--home: needs a directory")

    environ = None if args.home is None else {"WEBSCHEDULER_HOME": os.path.abspath(os.path.expanduser(args.home))}
    args.home = find_home(environ)

    if args.owner:
        check_owner(args.home)

    return args.act(args) or 0


def _finish_output() -> None:
    """Print what is still to be printed; if it cannot be, let nobody try that again when Python ends."""
    try:
        sys.stdout.flush()
        return
    except (OSError, ValueError, AttributeError):
        pass

    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        pass
