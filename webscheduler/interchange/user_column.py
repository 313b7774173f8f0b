# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whether a crontab is a system one, like /etc/crontab and the files of /etc/cron.d: before the command, its lines name
the user that runs it.

The rule: nothing in such a file says so, and the word may as well be a program (`mail`). The place of the file tells,
else all its lines together: a file is a system crontab only if in each of them a user stands where one would, and what
follows can be a command.
"""

from __future__ import annotations

import os
import re
import shutil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .crontab import Job

PLACES = ("/etc/crontab", "/etc/cron.d/")
# Users of the usual distributions: the file may be from another machine. Some are programs as well, here or there.
USERS = frozenset(("adm", "amavis", "apache", "backup", "bin", "clamav", "daemon", "games", "git", "http", "httpd",
                   "list", "logcheck", "mail", "man", "munin", "mysql", "news", "nginx", "nobody", "ntp", "operator",
                   "postgres", "proxy", "redis", "root", "smmsp", "sysadmin", "uucp", "www-data", "wwwrun"))
PROGRAMS = frozenset(("git", "http", "mail", "man", "news", "redis"))
SHELL_WORDS = frozenset(("!", "(", ".", ":", "[", "[[", "case", "cd", "command", "eval", "exec", "export", "false",
                         "for", "if", "set", "source", "test", "time", "trap", "true", "type", "ulimit", "umask",
                         "until", "while", "{"))
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")


def divide(jobs: Sequence[Job], place: str) -> list[tuple[str, Job]] | None:
    """(the user, the job without that word) for each job of a system crontab; None if this is none. place: path of the
    file, or empty."""
    found = [(*_parted(job.command), job) for job in jobs]

    if not found or not (place.startswith(PLACES) or all(_names_user(word, rest) for word, rest, _ in found)):
        return None

    return [(word, job._replace(command=rest)) for word, rest, job in found]


def _parted(command: str) -> tuple[str, str]:
    word, _, rest = command.replace("\t", " ").partition(" ")
    return word, command[len(word):].lstrip() if rest else ""


def account() -> str:
    """The name of this account; its number if it has none."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def is_user(word: str) -> bool:
    """Whether an account of this machine, or a usual one, has that name."""
    if not WORD.fullmatch(word):
        return False

    import pwd

    try:
        return word in USERS or bool(pwd.getpwnam(word))
    except (KeyError, ValueError):
        return False


def is_no_program(word: str) -> bool:
    """Whether nothing could be run under the name of this user."""
    return word not in PROGRAMS and shutil.which(word) is None


def _names_user(word: str, rest: str) -> bool:
    """Whether the word stands there as a user."""
    first = rest.split()[:1]

    if not is_user(word) or not first or first[0].startswith("-"):
        return False

    if is_no_program(word):
        return True

    return first[0][0] in "/.~$\"'(" or first[0] in SHELL_WORDS or shutil.which(first[0]) is not None
