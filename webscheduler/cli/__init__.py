# SPDX-License-Identifier: LGPL-3.0-or-later
"""The command line: `webscheduler`, also `python -m webscheduler`. Like every door it may import all that is below.

Exit status 0: done, 1: a task failed or something is unhealthy, 2: wrong usage or bad input. An error is one line on
standard error that says what is wrong and what to do. Begin with `parser`: GROUPS has all verbs, each module its own.
"""

from __future__ import annotations

import io
import os
import sys

from .. import __version__
from ..errors import BadInput, WebschedulerError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

NEEDS = {"--home": "a directory", "--at": "a site"}
ENDED_BY_PIPE, ENDED_BY_KEYBOARD = 128 + 13, 128 + 2  # how a shell reports the end by SIGPIPE and SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line; its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # printing never fails, whatever the locale

    if terminal := sys.modules.get(f"{__package__}.terminal"):
        terminal.was_done.clear()  # by a command line before this one, in the same process

    try:
        status = _carry_out(sys.argv[1:] if argv is None else argv)

        if sys.stdout:
            sys.stdout.flush()  # here an error can still be reported

        return status
    except WebschedulerError as error:
        return _failed(str(error), error.exit_code)
    except BrokenPipeError as error:
        _finish_output()
        return _failed(str(error.strerror), ENDED_BY_PIPE, quiet=True)
    except OSError as error:
        _finish_output()
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return _failed(f"{where}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        return ENDED_BY_KEYBOARD


def _carry_out(words: Sequence[str]) -> int:
    try:
        args = parse(words)
    except SystemExit:  # help or version was asked for, and is printed
        return 0
    except BadInput as error:
        raise _by_option(error, words)

    from . import terminal

    terminal.home, terminal.at = args.home, ""

    if args.at is not None:
        from .elsewhere import connect, everywhere

        if args.at == "all":
            return everywhere(args)

        args.place = connect(args.at)
    elif args.owner:
        from ..host.home import check_owner

        check_owner(args.home)

    try:
        status = args.act(args) or 0
    except BadInput as error:
        raise _by_option(error, words)

    state = sys.modules.get("webscheduler.store.state")  # without it, no task was changed

    if state and state.changed:
        from ..runs.indexing import refresh

        for home in state.changed:
            refresh(home)  # so that no request has to parse the tasks

    return status


def parse(words: Sequence[str]) -> Namespace:
    """What a command line asks for: verb, act (the function that does it), owner (whether only the owner of the home
    may), home, argv (what followed `--`, or None), and the verb's own arguments. Raises BadInput; SystemExit when help
    or version was printed."""
    rest, before = _before_verb(words)

    from ..store.settings import find_home
    from .parser import FAR, parse_verb

    options = {word.partition("=")[0] for word in (*rest, *before)}

    if sys.platform == "win32" and rest[0] in FAR and options.isdisjoint(("--at", "-h", "--help")):
        raise BadInput(f"{rest[0]} works on Linux and macOS: here, name an installation elsewhere by --at, or "
                       "`webscheduler bundle` makes one file to upload")

    args = parse_verb(rest)
    home: str | None = before.get("--home") if args.home is None else args.home
    args.at = before.get("--at") if args.at is None else args.at
    args.home_named, args.place = home is not None, None

    for name, value in (("--home", home), ("--at", args.at)):
        if value == "":
            raise BadInput(f"{name}: needs {NEEDS[name]}")

    if args.at is not None:
        _check_far(args)
        args.home = ""
        return args

    args.home = find_home(None if home is None else {"WEBSCHEDULER_HOME": os.path.abspath(os.path.expanduser(home))})
    return args


def _before_verb(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """(the words from the verb on, the values of the options before it). Raises as `parse`."""
    rest = list(words)
    found: dict[str, str] = {}

    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        name, equals, value = word.partition("=")

        if word == "--version":  # nothing of the parser is imported
            print(f"webscheduler {__version__}")
            raise SystemExit
        if word in ("-h", "--help"):
            from .parser import overview

            print(overview())
            raise SystemExit
        if name not in NEEDS:
            meant = did_you_mean(name, (*NEEDS, "--help", "--version"))
            raise BadInput(f"unknown option {word}{meant}: `webscheduler --help` lists the commands")

        found[name] = value if equals else rest.pop(0) if rest else ""

        if not found[name]:
            raise BadInput(f"{name}: needs {NEEDS[name]}")

    if not rest:
        raise BadInput("no command is given: `webscheduler --help` lists them, `webscheduler demo` shows how it works")

    return rest, found


def _check_far(args: Namespace) -> None:
    """Refuse what cannot be done elsewhere."""
    from .parser import FAR

    if args.home_named:
        raise BadInput("--at: cannot be given with --home")

    if args.verb == "run-due":
        raise BadInput("run-due: only on the host itself: `webscheduler run @due --at SITE` runs all due tasks there")

    if args.verb not in FAR:
        raise BadInput(f"{args.verb}: only on the host itself, not with --at")


def _by_option(error: BadInput, words: Sequence[str]) -> BadInput:
    """The error, naming the option that was typed in place of the field behind it."""
    from .parser import typed_option

    option, message = typed_option(words, error.field), str(error)

    if option is None or not message.startswith(f"{error.field}:"):
        return error

    return BadInput(option + message[len(error.field):], error.field)


def _failed(message: str, status: int, quiet: bool = False) -> int:
    """Print the error, and before it what was done all the same. quiet: only if something was."""
    from .terminal import print_error, was_done

    if was_done or not quiet:
        print_error(", but ".join(["; ".join(was_done), message] if was_done else [message]))

    return status


def _finish_output() -> None:
    """Print what is still buffered; if that fails, keep Python from trying again when it ends."""
    from contextlib import suppress

    with suppress(OSError, ValueError, AttributeError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
