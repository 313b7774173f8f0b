# SPDX-License-Identifier: LGPL-3.0-or-later
"""A sample of the faults of `python -m tests.faults`, which does them all in half an hour; and that it finds faults."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys

import pytest

from tests import CHECKOUT
from tests.faults import listening, power_cut

SAMPLE = 1000
# Faults that once lost or doubled a run, left something, or made an answer wrong: each stands for its kind.
ONCE_BROKEN = [
    "cgi-imports lasting EMFILE at 1: open module webscheduler/cgi.",
    "cgi-imports lasting EMFILE at 1: open module webscheduler/store/files.",  # nor could what says so be loaded
    "cgi-sync lasting ENOMEM at 1: stat home/state.json.lock",  # answered by 503 though it had run
    "wsgi-close once EIO at 1: read home/config.json",  # raised into the server from the response's close()
    "clean-up kill at 1.1: close home/locks/.housekeeping",  # left a temporary file in locks/ for ever
    "rotate lasting EACCES at 1: open",  # state.json could not be read for the new secret that it held
]


def inject(*words: object) -> subprocess.CompletedProcess[str]:
    why = listening.usable()

    if why:
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)(why)

    return subprocess.run([sys.executable, "-m", "tests.faults", *map(str, words)], cwd=CHECKOUT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # fmt: skip


@pytest.mark.timeout(600)
def test_a_sample_of_all_faults_loses_and_doubles_nothing() -> None:
    """A system call of a run fails, or its process is killed before it: no run is lost or doubled, nothing is left, no
    answer is wrong, and the next trigger works."""
    done = inject("--sample", SAMPLE, "--seed", random.randrange(10**6), "--workers", 6)
    assert done.returncode == 0, done.stdout
    assert f"\n{SAMPLE} of " in done.stdout


@pytest.mark.parametrize("fault", ONCE_BROKEN)
def test_what_once_broke(fault: str) -> None:
    """A fault that once broke something breaks nothing."""
    done = inject("--only", fault)
    assert done.returncode == 0, done.stdout
    assert not re.search(r"^all +0 ", done.stdout, re.M), "no fault is called so"


@pytest.mark.parametrize("kind", list(power_cut.KINDS))
def test_a_disk_that_is_cut_off(kind: str) -> None:
    """Cut off a moment after the answer, an ext4 has a run whole or not at all, and the next trigger works."""
    why = power_cut.possible()

    if why:
        pytest.skip(why)  # no container has loop devices

    loss = power_cut.cut(kind)
    assert loss.usable
    assert loss.line <= (kind == "ended")
    assert not loss.known or loss.line or loss.claim
