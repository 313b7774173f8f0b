# SPDX-License-Identifier: LGPL-3.0-or-later
"""The output of a run in pieces: who follows it gets each byte once, whatever happens meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.installation import Installation, until, waits_for
from webscheduler.runs import output, retention
from webscheduler.runs.output import BOTH, Piece
from webscheduler.runs.recorder import live_file
from webscheduler.store.settings import load_settings


def followed(installation: Installation, run: str, stream: str = BOTH, most: int = output.MOST,
             pause: float = 0.0) -> list[Piece]:
    """The pieces until the end, each begun where the one before ended."""
    home, found = str(installation.home), [Piece(0, 0, 0, b"", 0, 0, False)]

    def ended() -> bool:
        _, entry = output.look(home, "task", ["task"], run)
        found.append(output.piece(home, run, stream, found[-1].next, entry, most))
        time.sleep(pause)
        return found[-1].ended

    until(ended, "the end of the output")
    return found


def data_of(pieces: list[Piece]) -> bytes:
    return b"".join(piece.data[piece.first:piece.last] for piece in pieces)


@pytest.mark.parametrize("most", [5, 1000, output.MOST])
def test_a_follower_gets_each_byte_once(installation: Installation, most: int) -> None:
    """The run writes to both streams, with characters and bytes that are none, while it is followed, and ends at once
    after its last bytes."""
    program = r"""
        for i in $(seq 40); do printf 'é%s\n' $i; printf '\xff€%s' $i >&2; sleep 0.005; done
        printf 'the end\xe2\x82'
    """
    installation.add(argv=["bash", "-c", program])
    run = installation.trigger("wsgi").document["run"]
    pieces = followed(installation, run, most=most)
    whole = data_of(pieces)
    out = b"".join(b"\xc3\xa9%d\n" % number for number in range(1, 41)) + b"the end\xe2\x82"
    err = b"".join(b"\xff\xe2\x82\xac%d" % number for number in range(1, 41))
    assert len(whole) == len(out) + len(err) and sorted(whole) == sorted(out + err)
    assert whole.endswith(b"the end\xe2\x82")
    assert max(piece.last - piece.first for piece in pieces) <= most
    assert all(piece.skipped == 0 for piece in pieces)
    assert "\\x82\\xac" not in "".join(piece.text() for piece in pieces), "a character is cut"
    installation.idle()
    assert output.piece(str(installation.home), run, BOTH, pieces[-1].next, installation.runs()[0]).ended


def test_what_started_again_meanwhile_is_said(installation: Installation) -> None:
    """A follower that is too slow for a long output is told how many bytes it missed, and what it gets is in order."""
    go = installation.home / "go"
    program = 'echo begun; while [ ! -e "$0" ]; do sleep 0.02; done; seq 400000; sleep 0.3; echo over'
    installation.add(argv=["bash", "-c", program, str(go)])
    home, run = str(installation.home), installation.trigger("wsgi").document["run"]
    until(lambda: Path(live_file(home, run)).exists() and Path(live_file(home, run)).stat().st_size == 6)
    assert output.piece(home, run, BOTH, 0, None).text() == "begun\n"
    go.touch()
    until(lambda: Path(home, "output", run + ".followed").read_bytes().endswith((b"400000\n", b"over\n")))
    entry = until(lambda: output.look(home, "task", ["task"], run)[1])
    whole = b"begun\n" + b"".join(b"%d\n" % number for number in range(1, 400001)) + b"over\n"
    first = output.piece(home, run, BOTH, 6, entry)
    assert first.skipped > 0 and first.offset == 6 + first.skipped
    assert first.text().startswith(f"... [truncated] {first.skipped} bytes ...\n")
    at, rest = first.next, first.data[first.first:first.last]

    while at < len(whole):
        piece = output.piece(home, run, BOTH, at, entry)
        at, rest = piece.next, rest + piece.data[piece.first:piece.last]
        assert piece.skipped == 0

    assert piece.ended and rest == whole[first.offset:]


def test_streams_are_apart_once_they_are_recorded(installation: Installation, tmp_path: Path) -> None:
    """Nothing before, then each of them as history has it; so one who asks for both streams loses nothing either."""
    installation.add(argv=[*waits_for(tmp_path / "go")[:2], waits_for(tmp_path / "go")[2] + "; echo wrong >&2",
                           str(tmp_path / "go")])
    run = installation.trigger("wsgi").document["run"]
    installation.command_runs()
    piece = output.piece(str(installation.home), run, "stdout", 0, None)
    assert (piece.next, piece.ended) == (0, False)
    (tmp_path / "go").touch()
    assert data_of(followed(installation, run, "stdout", 4)) == b"begun\nended\n"
    assert data_of(followed(installation, run, "stderr")) == b"wrong\n"
    assert data_of(followed(installation, run)) == b"begun\nended\nwrong\n"


def test_a_run_without_a_command_says_why(installation: Installation) -> None:
    """What the program itself says is in history alone."""
    installation.add(argv=["/no/such/program"])
    run = installation.trigger("wsgi").document["run"]
    assert b"/no/such/program" in data_of(followed(installation, run))


def test_a_followed_output_is_cleaned_up(installation: Installation, tmp_path: Path) -> None:
    """It outlives its run by a day; a run that nobody followed leaves nothing."""
    installation.add(argv=waits_for(tmp_path / "go"))
    (tmp_path / "go").touch()
    installation.trigger("wsgi")
    installation.idle()
    until(lambda: os.listdir(installation.home / "output") == [])
    (tmp_path / "go").unlink()
    run = installation.trigger("wsgi").document["run"]
    until(lambda: output.piece(str(installation.home), run, BOTH, 0, None).data == b"begun\n")
    (tmp_path / "go").touch()
    assert data_of(followed(installation, run)) == b"begun\nended\n"
    installation.idle()
    until(lambda: os.listdir(installation.home / "output") == [f"{run}.followed"])
    settings = load_settings(str(installation.home))
    retention.clean(settings, time.time() + 80000)
    assert os.listdir(installation.home / "output") == [f"{run}.followed"]
    retention.clean(settings, time.time() + 90000)
    assert os.listdir(installation.home / "output") == []


@pytest.mark.parametrize("run", ["../../secret", "/etc/secret", "..", "a/b"])
def test_an_id_is_no_path(installation: Installation, run: str) -> None:
    """An imported history may hold any text as the id of a run."""
    (installation.home.parent / "secret.log").write_text("secret")
    entry = {"command": "task", "run": run, "output": "out", "errorOutput": ""}
    piece = output.piece(str(installation.home), run, BOTH, 0, entry)  # type: ignore[arg-type]
    assert (piece.text(), piece.ended) == ("out", True)
