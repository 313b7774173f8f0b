# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which time may be believed when old history is removed: the clock is compared with the time since boot.

The rules:
- Since the last clean-up, the clock must have moved as far as the time since boot (clock_gettime(2), CLOCK_BOOTTIME),
  which nobody can set. If the machine was started again, or is another one, nothing tells how far: then by a day at
  most, and not back. Else it has jumped.
- A clock is good once it has not jumped for a day.
- Clean-up counts ages from the horizon, which follows a good clock, forward by a day at most for each clean-up: so many
  lines more are removed at most if the clock is wrong all the same.
- Once a clock is good, lines later than it are from a clock that was ahead. That is noted, since in some days they
  would not be later any more.
- Of a home that has no such notes, the last clean-up was at the time of the file.
"""

from __future__ import annotations

import os
import time

from .files import read_json, replace_file
from .index import boot as boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import ClockNotes

    Boot = tuple[str, float]  # what is the same until the next boot; seconds since that

FILE = os.path.join("locks", ".housekeeping")  # its mtime: when the last clean-up was
DAY = 86400.0
TOLERANCE = 600.0  # seconds by which a clock may be corrected: no jump
MOST_SET_BACK = 8


def boot() -> Boot:
    """The boot of this machine, and seconds since then, as this process sees them."""
    try:
        namespace = os.readlink("/proc/self/ns/time")  # in another one, they count from another moment
    except OSError:
        namespace = ""

    return f"{boot_id()} {namespace}", time.clock_gettime(time.CLOCK_BOOTTIME)


def last_clean_up(home: str) -> float | None:
    """When somebody last cleaned up, Unix seconds."""
    try:
        return os.stat(os.path.join(home, FILE)).st_mtime
    except FileNotFoundError:
        return None


def read(home: str) -> ClockNotes | None:
    """What is noted; None if nothing is, or nothing that makes sense."""
    try:
        notes: ClockNotes = read_json(os.path.join(home, FILE))
        numbers = [notes["boot"], notes["wall"], notes["last"], notes["since"], notes["horizon"], notes["highest"],
                   notes["jump"], *(number for back, good, highest in notes["setBack"]
                                    for number in (back, good, highest))]
        words = isinstance(notes["id"], str) and isinstance(notes["setBack"], list)
        return notes if words and all(isinstance(number, (int, float)) for number in numbers) else None
    except (ValueError, KeyError, TypeError):
        return None


def write(home: str, notes: ClockNotes, now: float) -> None:
    """Note it, as of the clean-up that begins now. Raises OSError."""
    import json

    path = os.path.join(home, FILE)
    replace_file(path, json.dumps(notes).encode() + b"\n", sync="none")
    os.utime(path, (now, now))


def jump(notes: ClockNotes, now: float, boot: Boot) -> float:
    """By how many seconds the clock is off from what it should show after the notes; 0: it has not jumped."""
    if _same_boot(notes, boot):
        off = now - notes["wall"] - (boot[1] - notes["boot"])
        return off if abs(off) > TOLERANCE else 0.0

    off = now - notes["last"]
    return 0.0 if -TOLERANCE <= off <= DAY else off


def _same_boot(notes: ClockNotes, boot: Boot) -> bool:
    return boot[0] == notes["id"] and boot[1] >= notes["boot"]


def is_good(notes: ClockNotes) -> bool:
    """Whether the clock was good when it was noted."""
    return notes["last"] - notes["since"] >= DAY


def observe(notes: ClockNotes | None, cleaned: float | None, now: float, boot: Boot) -> ClockNotes:
    """The notes after another look at the clock. cleaned: when somebody last cleaned up."""
    if notes is None:
        horizon = now if cleaned is None else min(cleaned, now)
        return {"id": boot[0], "boot": boot[1], "wall": now, "last": now, "since": now, "horizon": horizon,
                "highest": now, "jump": 0.0, "setBack": []}

    off = jump(notes, now, boot)
    new: ClockNotes = {**notes, "last": now, "highest": max(notes["highest"], now)}

    if off or not _same_boot(notes, boot):
        new = {**new, "id": boot[0], "boot": boot[1], "wall": now}

    if off:
        new = {**new, "since": now, "jump": off}

    if is_good(new):
        new["horizon"] = min(now, notes["horizon"] + DAY)

        if new["jump"] > 0.0:
            new["setBack"] = []  # it was behind when it was set back, and what came before was right

        if new["highest"] > now + DAY:
            new["setBack"] = [*new["setBack"], [new["since"], now, new["highest"] + DAY]][-MOST_SET_BACK:]
            new["highest"] = now

    return new
