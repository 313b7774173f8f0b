# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files of the panel and the API that are a JSON object of rows by name: people, keys, counters.

The rules: each file is changed under its own lock. A damaged file, or one of a newer version, is never treated as
empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from ..errors import Unusable
from . import change_lock
from .files import replace_file

PATIENCE = 10.0  # seconds that a change waits for another


@contextmanager
def locked(home: str, file: str, patience: float = PATIENCE) -> Iterator[str]:
    """The path of a file, locked against other writers. Raises Busy, and Unusable for an OSError."""
    path = os.path.join(home, file)

    with change_lock.locked(path, patience):
        try:
            yield path
        except OSError as error:
            raise Unusable(f"{path} cannot be written: {error.strerror}")


class Rows:
    """One of these files. sound: whether a value can be a row; cure: what to do once a damaged file is removed."""

    def __init__(self, file: str, sound: Callable[[Any], bool], cure: str) -> None:
        self.file, self.sound, self.cure = file, sound, cure

    def read(self, home: str) -> dict[str, Any]:
        """The rows by name; empty if there is no file. Raises Unusable if it is damaged."""
        problem, advice = "it does not hold what it should", f": mend it, or remove it and {self.cure}"

        try:
            with open(os.path.join(home, self.file), "rb") as source:
                found = json.loads(source.read())

            if isinstance(found, dict):
                if isinstance(found.get("version"), int):  # no row is a number
                    raise Unusable(f"{home}/{self.file} was written by a newer webscheduler: update this one")

                if all(map(self.sound, found.values())):
                    return found
        except FileNotFoundError:
            return {}
        except OSError as error:
            problem, advice = str(error.strerror), ""
        except (ValueError, RecursionError) as error:
            problem = str(error)

        raise Unusable(f"{home}/{self.file} cannot be read ({problem}){advice}")

    @contextmanager
    def changing(self, home: str, patience: float = PATIENCE, sync: str = "all") -> Iterator[Any]:
        """The rows, to be changed in the block; after an exception nothing is written. patience, sync: of `locked`, of
        `replace_file`."""
        with locked(home, self.file, patience) as path:
            found = self.read(home)
            before = json.dumps(found)
            yield found

            if json.dumps(found) != before:
                replace_file(path, json.dumps(found, ensure_ascii=False).encode() + b"\n", sync=sync)
