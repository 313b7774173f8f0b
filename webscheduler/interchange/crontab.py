# SPDX-License-Identifier: LGPL-3.0-or-later
"""The crontab of this account: our own line in it, and what the lines of any crontab mean.

The rules: only lines that end with the marker of this home are ours. Every other byte stays, so two installations can
share a crontab. Nothing is written unless the crontab could be read: only "no crontab for" means an empty one, and any
other message may hide lines that we do not see. What was written is read again and compared.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

from ..commands import registry
from ..errors import BadInput, Unusable
from ..store.settings import Settings

PATIENCE = 60
LONGEST_STEPS = (60, 24, 31, 12, 7)  # of each field
LONGEST_LINE = 10000  # characters
MOST_LINES, MOST_VARIABLES = 10000, 100


class Job(NamedTuple):
    """A line of a crontab with a command. number: of the line, from 1; command: for the shell; stdin: its input, or
    None; environment: the assignments above the line."""

    number: int
    expression: str
    command: str
    stdin: str | None
    environment: dict[str, str]


def parse(text: str) -> tuple[list[Job], list[str]]:
    """(the jobs of a crontab(5); a message for each line that makes no sense)."""
    jobs, problems = [], []
    environment: dict[str, str] = {}
    lines = text.split("\n")

    if all(line.endswith("\r") for line in lines[:-1]):  # written on Windows; cron would take the \r for a part of it
        lines = [line.rstrip("\r") for line in lines]

    if len(lines) > MOST_LINES:
        problems.append(f"lines from {MOST_LINES + 1} on are left out: a crontab with so many is none")

    for number, line in enumerate(lines[:MOST_LINES], 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue

        if len(line) > LONGEST_LINE:
            problems.append(f"line {number} is left out: it is longer than {LONGEST_LINE} characters")
            continue

        assignment, entry = _assigned(line), _entry(line)

        if assignment and len(environment) >= MOST_VARIABLES and assignment[0] not in environment:
            problems.append(f"line {number} is left out: there are more than {MOST_VARIABLES} variables")
        elif assignment:
            environment = {**environment, assignment[0]: assignment[1]}
        elif "\r" in line:
            problems.append(f"line {number} is left out: it has a carriage return, which cron gives to the command")
        elif entry:
            jobs.append(Job(number, entry[0], *_divided(entry[1]), environment))
        else:
            problems.append(f"line {number} is neither a job nor NAME=value: {line.strip()[:60]!r}")

    return jobs, problems


def _assigned(line: str) -> tuple[str, str] | None:
    """(name, value) of a line that sets a variable. Either may be in quotes."""
    text = line.strip()
    quote = text[:1] if text[:1] in ("\"", "'") else ""
    name, found, rest = text[len(quote):].partition(quote or "=")

    if quote:
        found, rest = rest.lstrip()[:1], rest.lstrip()[1:]
    else:
        name = name.rstrip()

    plain = bool(name) and not any(c.isspace() or c in "\"'" for c in name)
    return (name, _unquoted(rest.strip())) if found == "=" and (quote or plain) else None


def _entry(line: str) -> tuple[str, str] | None:
    """(expression, command) of a line with a job: five fields or a nickname, and the rest, which is not input alone."""
    nickname = line.split(None, 1)[0][:2] not in ("", "@") and line.lstrip().startswith("@")
    words = line.split(None, 1 if nickname else 5)
    whole = len(words) == (2 if nickname else 6) and not words[-1].startswith("%")
    return (" ".join(words[:-1]), words[-1]) if whole else None


def with_cron_steps(expression: str) -> str:
    """The expression with steps beyond their field shortened to the longest that `schedule.cron` takes. cron takes them
    and runs at the first value of the range alone, as the longest does: `*/90` in the minutes is minute 0."""
    fields = expression.split()

    if len(fields) != len(LONGEST_STEPS):
        return expression

    def shorter(found: re.Match[str], most: int) -> str:
        return f"/{most}" if int(found[1]) > most else found[0]

    return " ".join(re.sub(r"/([0-9]{1,9})(?![0-9])", partial(shorter, most=most), field)
                    for field, most in zip(fields, LONGEST_STEPS))


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _divided(command: str) -> tuple[str, str | None]:
    """(the command for the shell, its input). The first plain `%` ends the command, and others are line breaks in the
    input. Backslashes as in Debian's cron: in the command they escape `%` and themselves, in the input only `%`."""
    end = next((found.start() for found in re.finditer(r"\\.|%", command) if found[0] == "%"), len(command))
    shell = re.sub(r"\\([%\\])", r"\1", command[:end])

    if end == len(command):
        return shell, None

    text = "\n".join(part.replace("\\%", "%") for part in re.split(r"(?<!\\)%", command[end + 1:]))
    return shell, text + ("\n" if text and not text.endswith("\n") else "")


def escaped(command: str) -> str:
    """A shell command as it is written in a crontab: in Debian's cron one backslash is itself, and two are one."""

    def escape(found: re.Match[str]) -> str:
        run, percent = found[1], found[2]
        return run * (1 if len(run) == 1 and not percent else 2) + ("\\%" if percent else "")

    return re.sub(r"(\\*)(%?)", escape, command)


def expression(minutes: int) -> str:
    """The expression for every so many minutes. Raises BadInput if there is none."""
    hours = minutes // 60

    if minutes == 1:
        return "* * * * *"

    if 1 < minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes} * * * *"

    if minutes % 60 == 0 and 0 < hours <= 24 and 24 % hours == 0:
        return {1: "0 * * * *", 24: "0 0 * * *"}.get(hours, f"0 */{hours} * * *")

    raise BadInput(f"--every: {minutes} minutes do not divide an hour or a day: give 1, 5, 15, 30, 60 or the like",
                   "every")


def line(settings: Settings, minutes: int) -> str:
    """Our line, which runs all due tasks. Raises Unusable if Python does not find the package when cron starts it."""
    home = settings.home

    if "\n" in home:
        raise BadInput(f"{home!r} contains a line break, which a crontab cannot: choose another home")

    words = [*(f"{name}={shlex.quote(value)}" for name, value in variables(settings).items()),
             shlex.quote(registry.interpreter(settings)), "-m", "webscheduler", "run-due", ">/dev/null", _marker(home)]
    return f"{expression(minutes)} {escaped(' '.join(words))}"


def _marker(home: str) -> str:
    return f"# webscheduler {shlex.quote(home)}"


def variables(settings: Settings) -> dict[str, str]:
    """The environment that `python -m webscheduler` needs when another scheduler starts it: the home, and PYTHONPATH if
    the package or filelock is not found without. Raises Unusable if not even that helps."""
    python = registry.interpreter(settings)
    lock = find_spec("filelock")
    roots = [registry.package_root()]

    if lock and lock.origin:
        roots.append(os.path.dirname(os.path.dirname(os.path.abspath(lock.origin))))

    account = os.path.expanduser("~")  # where cron starts commands
    errors = ""

    for number in range(len(roots) + 1):
        path = {"PYTHONPATH": os.pathsep.join(roots[:number])} if number else {}

        try:
            tried = subprocess.run([python, "-c", "import filelock, webscheduler.__main__"], cwd=account, text=True,
                                   env={"PATH": "/usr/bin:/bin", "HOME": account, **path}, capture_output=True,
                                   stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unusable(f"{python} cannot be run ({error}): `webscheduler config set python PATH` names another")

        if tried.returncode == 0:
            return {"WEBSCHEDULER_HOME": settings.home, **path}

        errors = tried.stderr.strip().rpartition("\n")[2]

    raise Unusable(f"{python} does not find webscheduler ({errors[:200]}): `webscheduler config set python PATH` names "
                   "another")


def installed(home: str) -> list[str]:
    """Our lines, as they stand in the crontab. Raises Unusable."""
    return [os.fsdecode(line) for line in read().split(b"\n") if _is_ours(line, home)]


def install(settings: Settings, minutes: int) -> bool:
    """Make our line be there, once, as it would be written now; returns whether anything was changed."""
    return _change(settings.home, [os.fsencode(line(settings, minutes))])


def uninstall(home: str) -> bool:
    """Remove our lines; returns whether there were any."""
    return _change(home, [])


def _change(home: str, wanted: list[bytes]) -> bool:
    """Put the wanted lines where the first of ours is, in place of all of ours; whether that changes anything."""
    before = read()
    lines = before.split(b"\n")
    ours = [number for number, text in enumerate(lines) if _is_ours(text, home)]

    if [lines[number] for number in ours] == wanted:
        return False

    if ours:
        lines = [text for number, text in enumerate(lines) if number not in ours]
        lines[ours[0]:ours[0]] = wanted
    else:
        lines[-1:] = [*filter(None, lines[-1:]), *wanted, b""]  # the last line may have no line break

    _write(b"\n".join(lines), before)
    return True


def _is_ours(text: bytes, home: str) -> bool:
    # Once commented out by hand it is no longer ours.
    return text.rstrip().endswith(b" " + os.fsencode(escaped(_marker(home)))) and not text.lstrip().startswith(b"#")


def read() -> bytes:
    """The bytes of this account's crontab; empty if there is none. Raises Unusable for any other problem."""
    status, output, errors = _crontab("-l")

    if status == 0:
        return output

    if not output and errors.lower().startswith("no crontab for "):
        return b""

    raise Unusable(f"`crontab -l` fails, so nothing is changed: {errors or f'exit status {status}'}")


def _write(content: bytes, before: bytes) -> None:
    # Debian's `crontab -l` shows a carriage return as these two characters: it would be written as something else.
    dos = next((number for number, text in enumerate(before.split(b"\n"), 1) if text.endswith(b"\\r")), None)

    if dos is not None:
        raise Unusable(f"line {dos} of the crontab ends with a carriage return, which would be lost, so nothing is "
                       "changed: remove it with `crontab -e`")

    status, _, errors = _crontab("-", content)

    if status:
        raise Unusable(f"crontab did not accept the change, so nothing is changed: {errors or f'exit status {status}'}")

    found = read()

    if found != content:
        unchanged = "it is as it was" if found == before else "compare `crontab -l` with what should be there"
        raise Unusable(f"crontab accepted the change, but the crontab does not contain it: {unchanged}")


def _crontab(word: str, content: bytes = b"") -> tuple[int, bytes, str]:
    """(exit status, output, errors on one line). LC_ALL: its messages are compared."""
    try:
        done = subprocess.run(["crontab", word], input=content, capture_output=True, timeout=PATIENCE, check=False,
                              env={**os.environ, "LC_ALL": "C"})
    except FileNotFoundError:
        raise Unusable("this host has no `crontab`: let its panel call the URL that `webscheduler url @due` prints")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"`crontab {word}` cannot be run: {error}")

    return done.returncode, done.stdout, " ".join(done.stderr.decode("utf-8", "backslashreplace").split())[:300]
