# SPDX-License-Identifier: LGPL-3.0-or-later
"""What holds when anything may be killed at any time. WEBSCHEDULER_FULL=1 makes these as long as they should be."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest

from tests import CHECKOUT
from tests.installation import Installation

FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))


def torment(installation: Installation, module: str, *words: object) -> dict[str, Any]:
    """Run a program of this package on the home; what it prints."""
    program = [sys.executable, "-m", f"tests.torture.{module}", str(installation.home), *map(str, words)]
    done = subprocess.run(program, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.timeout(1800)
def test_swarm(installation: Installation) -> None:
    """Ten thousand triggers from 8 processes while requests, supervisors and commands are killed at random: each
    accepted run has exactly one line, none is lost, none overlaps."""
    triggers, seed = 10000 if FULL else 800, random.randrange(10**6)
    found = torment(installation, "swarm", triggers, 8, seed)
    assert found["problems"] == [], f"seed {seed}: {found}"
    assert sum(found["answers"].values()) == triggers
    assert found["answers"]["killed"] > triggers * 0.05
    assert found["accepted"] > triggers * 0.05
    assert found["statuses"]["interrupted"] > 0
    assert found["statuses"]["success"] > 0


@pytest.mark.timeout(1800)
def test_each_step(installation: Installation) -> None:
    """Killed before or within any of its steps, a run has exactly one line, and the next trigger works."""
    found = torment(installation, "steps", "single", 0, 0)
    assert found["problems"] == []
    assert found["steps"] > 50
    assert found["kills"] == found["plan"] > found["steps"]


@pytest.mark.timeout(1800)
def test_two_steps(installation: Installation) -> None:
    """The same when the one that finds the dead run is killed, too."""
    count, seed = 2000 if FULL else 60, random.randrange(10**6)
    found = torment(installation, "steps", "double", count, seed)
    assert found["problems"] == [], f"seed {seed}"
    assert found["kills"] > count


@pytest.mark.timeout(1800)
def test_chain(installation: Installation) -> None:
    """Processes of chains, after success and after failure, are killed at random while ticks come: each run has one
    line, each success and each failure is followed by one run, and nothing is followed twice."""
    kills, seed = 1000 if FULL else 60, random.randrange(10**6)
    found = torment(installation, "chain", kills, seed)
    assert found["problems"] == [], f"seed {seed}: {found}"
    assert found["kills"] >= kills
    assert sum(found["followed"].values()) > kills / 2
    assert min(found["followed"].values()) > 0
