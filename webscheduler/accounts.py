# SPDX-License-Identifier: LGPL-3.0-or-later
"""The accounts of this machine: what they are called, and whether a file is another one's."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def name_of(find: Callable[[int], Any], number: int) -> str:
    """The name of a user or a group of this machine, or `#` and the number. find: pwd.getpwuid or grp.getgrgid."""
    try:
        return str(find(number)[0])
    except KeyError:
        return f"#{number}"


def both_users(path: str) -> str:
    """Whose a file is that may not be opened, who wants to, and what to do, to follow an error; empty if it is that
    user's own. If the file cannot be looked at, the directory above it counts that can."""
    import shlex
    from pwd import getpwuid

    while True:
        try:
            owner = os.stat(path).st_uid
            break
        except OSError:
            path = os.path.dirname(path) or "/"

    if owner == os.geteuid():
        return ""

    owners, user = name_of(getpwuid, owner), name_of(getpwuid, os.geteuid())
    cure = f"let the server run the script as {owners}"

    if not owner:
        parent = os.path.dirname(path)
        cure = f"as root, give the home directory to {user}, or use another one"

        if os.stat(parent).st_uid == os.geteuid():  # who forgot to `sudo -u` may have left more
            cure = f"`chown -R {user} {shlex.quote(path if os.path.isdir(path) else parent)}` as root"

    return f"; {path} belongs to {owners}, and this runs as {user}: {cure}"
