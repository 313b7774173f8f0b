# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pages of the documentation as their readers use them: what is code in them, and their lines of shell, typed.

It may import the standard library, and how servers' users are called.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests import CHECKOUT
from tests.servers.server import as_user

DOCS = CHECKOUT / "docs"
ADDRESS = "https://example.org"  # the reader puts his own there
PASSWORD = "correct horse battery"
FENCE = re.compile(r"^( *)```\w*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

# Blocks that are no shell, by how they begin.
OTHER = {
    r"from webscheduler import": "Python",
    r"<|location |ScriptAlias|WSGIDaemonProcess|PassengerPython|log_format": "the configuration of a server",
}


def name(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def blocks(text: str) -> Iterator[str]:
    """What stands in fences, or is indented by four more than the text around it (which a list may indent)."""
    for fence in FENCE.finditer(text):
        yield fence[2]

    lines = FENCE.sub("", text).split("\n")
    block: list[str] = []
    around = 0

    for line in [*lines, "end"]:
        depth = len(line) - len(line.lstrip())

        if not line.strip():
            block += [""] if block else []
        elif depth >= around + 4:
            block.append(line[around + 4:])
        else:
            if block:
                yield "\n".join(block).strip("\n") + "\n"

            block = []
            item = re.match(r" *(?:\d+\.|[-*]) +", line)
            around = len(item[0]) if item else min(around, depth)


def prose(text: str) -> str:
    """The text without what `blocks` returns: its lines that are neither fenced nor indented like code."""
    return "\n".join(line for line in FENCE.sub("", text).split("\n") if not re.match(r" {4,}(?=\S)", line))


def shell(page: Path) -> Iterator[str]:
    """The shell blocks of a page: those that are indented, and fences that say so."""
    text = page.read_text()
    fences = [fence[2] for fence in FENCE.finditer(text)]
    said = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)

    for block in blocks(text):
        if not any(re.match(begins, block) for begins in OTHER) and (block not in fences or block in said):
            yield block


def typed(script: str, home: Path, path: str, user: str | None = None, **variables: str) -> str:
    """Run a script as if its lines were typed; what it printed. Whatever asks for a password gets one."""
    head = "set -eE\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\ncd\n"
    environment = {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", **variables}
    done = subprocess.run(["bash", "-c", head + script], input=PASSWORD + "\n", text=True, env=environment, timeout=100,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=home, **as_user(user))
    assert done.returncode == 0, done.stdout[-500:]
    return done.stdout
