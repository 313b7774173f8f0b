# SPDX-License-Identifier: LGPL-3.0-or-later
"""Input that a careless parser would need minutes for is read within a CPU time that a small part of it once took.

The limit is the kernel's (RLIMIT_CPU), and far from what each needs. Work that is counted in lines of Python is in
test_inputs.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from tests.commandline import Done, finished, start
from tests.installation import Installation
from webscheduler.interchange.crontab import LONGEST_LINE, MOST_LINES, MOST_VARIABLES
from webscheduler.store import state
from webscheduler.store.task import new_task

SECONDS = 20


def limited(home: Path, *words: str) -> Done:
    """A call that may use SECONDS of the CPU."""
    return finished(start(home, *words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))))


BLANKS, LONG = " " * 60000, "x" * 60000
CRONTABS = {
    "blanks": "".join(f"{line}\n" for line in (f"A=x{BLANKS}y", f"A={BLANKS}y", f"A{BLANKS}", f"{BLANKS}x",
                                               f"*{BLANKS}*", f"* * * * *{BLANKS}x{BLANKS}y") * 10),
    "one word": f"{LONG}\n'{LONG}\n{LONG}=\"\n* * * * * {LONG}\n* * * * * '{LONG}\n" * 5,
    "blanks below the limit": ("A=x" + " " * (LONGEST_LINE - 10) + "y\n") * 100,
    "digits": ("* * * * * " + "1" * (LONGEST_LINE - 20) + "x\n") * 100,
    "backslashes": ("* * * * * x " + "\\" * (LONGEST_LINE - 20) + "\n") * 100,
    "percent signs": ("* * * * * x " + "%" * (LONGEST_LINE - 20) + "\n") * 100,
    "jobs of one name": "".join(f"{number % 60} * * * * /bin/true {number}\n" for number in range(MOST_LINES)),
    "unknown zones": "".join(f"CRON_TZ=Europe/{number:x}aris\n0 0 * * * true\n" for number in range(MOST_LINES)),
    "variables": "".join(f"A{number}=x\n* * * * * true {number}\n" for number in range(MOST_LINES)),
}


@pytest.mark.parametrize("name", CRONTABS)
def test_a_crontab_is_read_in_linear_time(name: str, installation: Installation) -> None:
    """A line of 60,000 blanks took six seconds. What is longer than any crontab is left out, and said."""
    file = installation.home.parent / "crontab"
    file.write_text(CRONTABS[name])
    done = limited(installation.home, "import", "crontab", str(file), "--dry-run")
    assert done.status == 0, done.err[-300:]

    if name in ("blanks", "one word"):
        assert f"line 1 is left out: it is longer than {LONGEST_LINE} characters" in done.err

    if name == "variables":
        assert f"there are more than {MOST_VARIABLES} variables" in done.err
        assert f"lines from {MOST_LINES + 1} on are left out" in done.err


def test_names_that_become_the_same_are_told_apart_in_linear_time(installation: Installation) -> None:
    """Of tasks whose names hold no character that Kubernetes takes."""
    row = {"enabled": True, "argv": ["/bin/true"], "expression": "@daily"}
    names = [f"{'-' * (number % 90)}{chr(0x4e00 + number // 90)}" for number in range(2000)]
    state.update(str(installation.home), lambda tasks: tasks.update({
        f"x{name}": new_task(1.0, row) for name in names}))

    for kind in ("kubernetes", "crontab", "systemd"):
        assert limited(installation.home, "export", kind).status == 0


def test_a_file_that_is_too_large_to_be_tasks(installation: Installation, tmp_path: Path) -> None:
    """It is not read to its end, which may be never."""
    said = "is larger than 16 MiB: import it in parts"
    assert limited(installation.home, "import", "/dev/zero").complaint == f"/dev/zero {said}"
    (tmp_path / "state.json").write_text(json.dumps({"task": {"description": "x" * 17 * 2 ** 20}}))
    assert said in limited(installation.home, "import", str(tmp_path)).complaint
