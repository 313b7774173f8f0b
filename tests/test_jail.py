# SPDX-License-Identifier: LGPL-3.0-or-later
"""A jail, as shared hosts make one for each account (chroot(2), CageFS): /proc tells of no mount at `/`, or there is no
/proc at all.

Rule: the jail is real: a directory that is no mount, into which what a Python needs is mounted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import PACKAGE
from tests.commandline import Done, environment
from tests.installation import PATIENCE

PLACES = ("/usr", "/bin", "/lib", "/lib64", "/etc", "/dev", sys.prefix, sys.base_prefix, str(PACKAGE.parent))
MADE = """
jail=$1; shift
for place in $1; do
    [ -e "$place" ] || continue
    mkdir -p "$jail$place" && mount --rbind "$place" "$jail$place" || exit 99
done
shift
exec chroot "$jail" "$@"
"""


def inside(jail: Path, proc: bool, *words: str) -> Done:
    """`webscheduler WORDS` in the jail, where its home is /account/home."""
    places = " ".join(dict.fromkeys((*PLACES, *["/proc"] * proc)))
    variables = {**environment(Path("/account/home")), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", MADE, "sh", str(jail), places, sys.executable, "-m", "webscheduler", *words],
        env=variables, capture_output=True, text=True, timeout=PATIENCE, cwd="/", stdin=subprocess.DEVNULL)  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("proc", [True, False], ids=["no mount at /", "no proc"])
def test_works_in_a_jail(tmp_path: Path, proc: bool) -> None:
    """An installation is made, a task runs, and `doctor` finds no fault."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")

    (tmp_path / "account").mkdir(0o711)
    assert inside(tmp_path, proc, "init", "--timezone", "UTC").status == 0
    assert inside(tmp_path, proc, "add", "task", "--", "echo", "hello").status == 0
    ran = inside(tmp_path, proc, "run", "task")
    assert (ran.status, "hello" in ran.out) == (0, True), ran
    assert inside(tmp_path, proc, "list").status == 0
    checked = inside(tmp_path, proc, "doctor")
    assert checked.status == 0 and "failed" not in checked.out, checked
    assert inside(tmp_path, proc, "status").status == 0
