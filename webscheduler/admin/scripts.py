# SPDX-License-Identifier: LGPL-3.0-or-later
"""Scripts of people who have FTP and no shell: where to upload them, and what there is no command, and why.

The rules: a path is shown as FTP programs show it, if the home is below the account's. Only what belongs to this
account, and is the home, its commands/ or a file in that, is mended: through a descriptor, without following a link, if
it is still what the page showed.
"""

from __future__ import annotations

import os
import stat

from ..commands import registry
from ..http import Response
from .controls import mark
from .language import error as translated
from .show import button
from .web import Html, Visit, escape, h

FOLDER = "commands"
BAD_SUFFIX = "its name must end in .py, .php or .sh"
OTHERS_MAY = stat.S_IWGRP | stat.S_IWOTH


def place(visit: Visit) -> Html:
    return visit.t("For a script of your own, upload a .php, .py or .sh file into {folder} with your FTP program or "
                   "your host's file manager, then load this page again. It becomes a command, which runs only as a "
                   "task.", folder=_code(os.path.join(visit.home, FOLDER)))


def refused(visit: Visit) -> Html:
    """What lies there and is no command, with the reason; for owners a button where we can mend it."""
    found: dict[tuple[str, str], list[str]] = {}

    for path, (at, fault) in _faults(visit.home).items():
        found.setdefault((at if fault != BAD_SUFFIX else "", fault), []).append(os.path.basename(path))

    rows = [h("<li><b>{names}</b> {why} {act}</li>", names=", ".join(names), why=_reason(visit, at, fault),
              act=_button(visit, at) if fault == registry.WRITABLE and visit.may("owner") else "")
            for (at, fault), names in found.items()]
    return visit.html("scripts", rows=rows) if rows and visit.may("editor") else Html("")


def mend(visit: Visit) -> Response:
    """Take from others the right to change a file or folder."""
    name = visit.form.get("file", "")
    at = next((at for at, fault in _faults(visit.home).values() if fault == registry.WRITABLE
               and name and _inside(visit.home, at) == name), "")
    done = bool(at) and _close_to_others(visit.home, name, visit.form.get("was", ""))

    if done:
        visit.note("took from others the right to change", name)
        visit.tell("Only this account can change {name} now.", name=name)
    else:
        visit.tell("{name} was not changed: it is not what this page showed. Look at it, then try again.", name=name,
                   kind="bad")

    return visit.redirect("edit")


def _faults(home: str) -> dict[str, tuple[str, str]]:
    """Files in commands/ that are none -> (what is at fault, why), also those with another suffix, which may just be
    files that a script needs."""
    directory = os.path.join(home, FOLDER)
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    others = [os.path.join(directory, name) for name in names
              if not name.startswith(".") and os.path.splitext(name)[1] not in registry.SUFFIXES]
    return {**registry.faults(home), **{path: (path, BAD_SUFFIX) for path in others if os.path.isfile(path)}}


def _reason(visit: Visit, at: str, fault: str) -> Html:
    if fault == registry.WRITABLE:
        mode = stat.S_IMODE(os.stat(at).st_mode)
        return visit.t("Others can change {place}, whose permissions are {mode}: look whether it is as you left it, and"
                       " set them to {good}.", place=_code(at), mode=f"{mode:o}", good=f"{mode & ~OTHERS_MAY:o}")

    if fault == registry.FOREIGN:
        return visit.t("{place} belongs to another user than this program: upload it as that user, or put a PHP script "
                       "into your site and have its URL called by the command `http`.", place=_code(at))

    return visit.t("Its name must end in .py, .php or .sh to be a command.") if fault == BAD_SUFFIX else escape(
        translated(visit.language, fault.replace("{place}", _shown(at))))


def _code(path: str) -> Html:
    return h("<code>{path}</code>", path=_shown(path))


def _shown(path: str) -> str:
    """The path from the account's directory, where FTP programs begin."""
    account, path = os.path.realpath(os.path.expanduser("~")), os.path.join(
        os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return "~" + path[len(account):] if account != "/" and path.startswith(account + "/") else path


def _button(visit: Visit, at: str) -> Html:
    name, status = _inside(visit.home, at), os.lstat(at)

    if not name or status.st_uid != os.getuid() or stat.S_ISLNK(status.st_mode):
        return Html("")

    return button(visit, "permissions", "Correct the permissions", fields={"file": name, "was": _stamp(status)})


def _inside(home: str, at: str) -> str:
    """The home, its commands/ or a file in that, from the home; empty for anything else."""
    root = os.path.realpath(home)
    name = "." if at == root else at[len(root) + 1:] if at.startswith(root + "/") else ""
    return name if name in (".", FOLDER) or os.path.dirname(name) == FOLDER else ""


def _stamp(status: os.stat_result) -> str:
    changed = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
    return mark(f"{status.st_dev} {status.st_ino} {status.st_mode} {changed}")


def _close_to_others(home: str, name: str, was: str) -> bool:
    """Whether that was possible. was: the stamp of what may be changed."""
    opened = [os.open(os.path.realpath(home), os.O_RDONLY | os.O_NOFOLLOW)]

    try:
        for part in name.split("/"):
            opened.append(os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened[-1]))

        status = os.fstat(opened[-1])

        if _stamp(status) == was and status.st_uid == os.getuid():
            os.fchmod(opened[-1], stat.S_IMODE(status.st_mode) & ~OTHERS_MAY)
            return True
    except OSError:  # a link, or gone
        pass
    finally:
        for descriptor in opened:
            os.close(descriptor)

    return False
