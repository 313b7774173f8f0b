# SPDX-License-Identifier: LGPL-3.0-or-later
"""System calls that fail where no real disk makes them fail when it is wanted: strace says EIO in their place.

Rule: what a test aims at is one call of one process, found in a trace of the same thing without a fault. For close(2),
which frees the number also when it fails, strace leaves the file open; so here only what follows is looked at.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest

from tests.installation import Installation, answered, until
from tests.test_witnesses import STRACE, needs_strace, script


class Traced:
    """What was run under strace: how it was answered, and its calls, each with its number among those of its name."""

    def __init__(self, installation: Installation, fault: str = "", call: str = "") -> None:
        with tempfile.TemporaryDirectory() as folder:
            options = ["-y", "-s", "60", "-e", "signal=none", "-o", f"{folder}/of"]
            options += ["-e", f"inject={fault}"] if fault else ["-e", f"trace={call}"]
            words = [str(STRACE), *options, sys.executable, "-I", "-S"]

            with installation.start_cgi(installation.signed(), words=words, script=script(installation)) as process:
                self.answer = answered(process)

            until(lambda: not installation.processes(), "the end of what it started")
            self.lines = Path(folder, "of").read_text("utf-8", "replace").splitlines()

    def number(self, call: str, about: str) -> int:
        """Which of the calls of that name is about this."""
        calls = [line for line in self.lines if line.startswith(f"{call}(")]
        (found,) = [place for place, line in enumerate(calls, 1) if re.search(about, line)]
        return found


@pytest.mark.parametrize("error", ["EIO", "EDQUOT"])
@pytest.mark.parametrize("what", [r"runs/task@", r"locks/task\.lock"])
def test_closing_fails_after_a_run_was_accepted(installation: Installation, what: str, error: str) -> None:
    """On a network file system close(2) may say that something was not written. A run that goes on was accepted."""
    needs_strace()
    installation.add()
    Traced(installation, call="close")  # once to make the index, and what Python keeps of modules
    number = Traced(installation, call="close").number("close", what)
    traced = Traced(installation, fault=f"close:error={error}:when={number}")
    (failed,) = [line for line in traced.lines if "INJECTED" in line]
    assert re.search(what, failed)
    assert (traced.answer.status, traced.answer.document["status"]) == (202, "running")
    installation.idle()
    assert [run["status"] for run in installation.runs()] == ["success"] * 3
