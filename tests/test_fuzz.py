# SPDX-License-Identifier: LGPL-3.0-or-later
"""The targets of the guided search (`python -m tests.fuzz`): their seeds, and some changes of them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator

import pytest

from tests.fuzz.targets import TARGETS, Ground, changed, ground

CHANGES = 60


@pytest.fixture(scope="module")
def on() -> Iterator[Ground]:
    """One ground for all: each rule leaves it as it was."""
    with tempfile.TemporaryDirectory() as folder, ground(folder) as made:
        yield made


@pytest.mark.parametrize("name", TARGETS)
def test_the_rules_hold_for_seeds_and_changes_of_them(on: Ground, name: str) -> None:
    """For each target, whatever a part of an input becomes; the same ones each time."""
    target, chance = TARGETS[name], random.Random(name)
    seeds = target.seeds(on)
    assert seeds

    for data in (*seeds, *(changed(chance, seeds, target.words) for _ in range(CHANGES))):
        try:
            target.check(on, data)
        except BaseException:
            print(f"{name}: {data!r}")
            raise
