# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files of the panel and the API that are a JSON object of rows by name: people, keys, counters.

The rules: each file is changed under its own lock. A damaged file, or one of a newer version, is never treated as
empty.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager

from ..errors import Unusable
from . import change_lock
from .files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Callable

PATIENCE = 10.0  # seconds that a change waits for another


def read(home: str, file: str, sound: Callable[[Any], bool], cure: str) -> dict[str, Any]:
    """The rows by name; empty if there is no file. sound: whether a value can be a row; cure: what to do once the
    file is removed. Raises Unusable if it is damaged."""
    problem, advice = "it does not hold what it should", f": mend it, or remove it and {cure}"

    try:
        with open(os.path.join(home, file), "rb") as source:
            found = json.loads(source.read())

        if isinstance(found, dict):
            if isinstance(found.get("version"), int):  # no row is a number
                raise Unusable(f"{home}/{file} was written by a newer webscheduler: update this one")

            if all(map(sound, found.values())):
                return found
    except FileNotFoundError:
        return {}
    except OSError as error:
        problem, advice = str(error.strerror), ""
    except (ValueError, RecursionError) as error:
        problem = str(error)

    raise Unusable(f"{home}/{file} cannot be read ({problem}){advice}")


@contextmanager
def locked(home: str, file: str, patience: float = PATIENCE) -> Iterator[str]:
    """The path of a file, locked against other writers. Raises Busy, and Unusable for an OSError."""
    path = os.path.join(home, file)

    with change_lock.locked(path, patience):
        try:
            yield path
        except OSError as error:
            raise Unusable(f"{path} cannot be written: {error.strerror}")


@contextmanager
def changing(home: str, file: str, sound: Callable[[Any], bool], cure: str,
             patience: float = PATIENCE, sync: str = "all") -> Iterator[Any]:
    """The rows, to be changed in the block; after an exception nothing is written. patience, sync: of `locked`, of
    `replace_file`."""
    with locked(home, file, patience) as path:
        found = read(home, file, sound, cure)
        before = json.dumps(found)
        yield found

        if json.dumps(found) != before:
            replace_file(path, json.dumps(found, ensure_ascii=False).encode() + b"\n", sync=sync)
