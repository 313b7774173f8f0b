# SPDX-License-Identifier: LGPL-3.0-or-later
"""Writes the whole program, with filelock, as one text file that runs with nothing installed.

The rules: only ASCII with LF, since FTP clients convert `.cgi` files as text. The same sources give the same bytes.
With a Python that is too old it answers 503. It begins with `bundle_head`; the files follow in comments, which Python
skips quickly.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zlib

from .. import __version__
from ..errors import BadInput
from ..store.change_lock import too_old
from ..store.files import remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.metadata import Distribution

OURS = (3, 9)
WIDTH = 1000
PYTHON = "/usr/bin/python3"


def write(path: str, require: str | None = None, interpreter: str = PYTHON) -> tuple[int, int]:
    """Write the bundle to `path`, mode 0755. require: a Python that must be able to run it, like "3.9"; interpreter: of
    its first line. Returns the oldest Python that can run it. Raises BadInput."""
    if not re.fullmatch(r"/[!-~]{1,200}", interpreter):
        raise BadInput(f"--python: {interpreter[:60]!r} must be a short absolute path without spaces")

    content, lowest, version = build(interpreter)

    if require and lowest > _version("--require-python", require):
        raise BadInput(f"filelock {version} needs Python {lowest[0]}.{lowest[1]}: make the bundle with Python "
                       f"{require}, for which pip installs an older filelock")

    temporary = f"{path}.{os.getpid()}.tmp"

    try:
        with open(temporary, "xb") as file:  # not `replace_file`, which Windows does not have
            file.write(content)

        os.chmod(temporary, 0o755)  # noqa: S103 (a server executes it)
        os.replace(temporary, path)
    except OSError as error:
        remove(temporary)
        raise BadInput(f"{path} cannot be written: {error.strerror}")

    return lowest


def build(interpreter: str) -> tuple[bytes, tuple[int, int], str]:
    """(the bundle, the oldest Python that can run it, the version of its filelock). Raises BadInput."""
    lock = _filelock()
    texts = {**_package(), **_files_of(lock)}
    lowest = max([OURS, *(_version("filelock", found) for found in
                          re.findall(r">=\s*(\d+\.\d+)", lock.metadata["Requires-Python"] or ""))])
    carried = zlib.compress(json.dumps(texts, sort_keys=True).encode("ascii"), 9)
    head = texts["webscheduler/bundle_head.py"]
    files = "".join(f"\n    {name + ' '!r}" for name in sorted(texts))
    values = {"BUILD": repr(hashlib.sha256(carried).hexdigest()), "LOWEST": repr(lowest), "FILES": f"({files})"}

    for name, value in values.items():
        before, start, after = head.partition(f"\n{name} = ")
        head = f"{before}{start}{value}  # {after.partition('  # ')[2]}"

    before, start, after = head.partition("HOME = ")
    editable, _, after = after.partition("\n")
    first = (f"#!{interpreter} -IS\n# webscheduler {__version__} with filelock {lock.version}, in one file for "
             f"Python {lowest[0]}.{lowest[1]} and later. Make it executable: chmod 755.\n"
             f"# Editable, for hosts that set no environment:\n{start}{editable}\n\n")
    data = base64.b64encode(carried).decode("ascii")
    lines = [f"# {data[start:start + WIDTH]}\n" for start in range(0, len(data), WIDTH)]
    text = first + before + after + "\n# DATA\n" + "".join(lines)
    return text.encode("ascii"), lowest, lock.version


def _package() -> dict[str, str]:
    """The files of this package, their bytes as characters of the same numbers."""
    directory = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    texts = {}

    if not os.path.isdir(directory):
        raise BadInput("this is a bundle itself: copy its file")

    for parent, folders, files in os.walk(directory):
        folders[:] = sorted(folder for folder in folders if folder != "__pycache__")

        for file in files:
            path = os.path.join(parent, file)
            name = "webscheduler/" + os.path.relpath(path, directory).replace(os.sep, "/")

            if not name.endswith((".pyc", ".tmp", ".orig", "~")):
                texts[name] = _read(path)

    return texts


def _filelock() -> Distribution:
    from importlib import metadata

    try:
        found = metadata.distribution("filelock")
    except metadata.PackageNotFoundError:
        raise BadInput("filelock is not installed here: pip install filelock")

    if too_old(found.version):
        raise BadInput(f"filelock {found.version} is too old: pip install 'filelock>=3.10'")

    return found


def _files_of(lock: Distribution) -> dict[str, str]:
    texts = {}

    for file in lock.files or ():
        if file.suffix == ".py" and file.parts[0] == "filelock":
            texts[file.as_posix()] = _read(str(file.locate()))
        elif file.name == "LICENSE":
            texts["filelock/LICENSE"] = _read(str(file.locate()))

    if "filelock/__init__.py" not in texts:
        raise BadInput(f"the files of filelock {lock.version} are not here: pip install --force-reinstall filelock")

    return texts


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode("latin-1")


def _version(option: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,2})\.(\d{1,3})(\.\d+)?", text, re.ASCII)

    if not match:
        raise BadInput(f"{option}: {text[:40]!r} must be a version of Python, like 3.9")

    return int(match[1]), int(match[2])
