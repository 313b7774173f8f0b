# SPDX-License-Identifier: LGPL-3.0-or-later
"""demo and serve, and the reference that is made from the verbs."""

from __future__ import annotations

import os
import re
import runpy
import signal
import urllib.request
from pathlib import Path

import pytest

from tests import CHECKOUT
from tests.commandline import call, environment, finished, start
from tests.installation import REFUSED, Installation
from webscheduler.cli import demo, parser

REFERENCE = CHECKOUT / "docs" / "reference"


def test_the_demo_shows_the_main_job_and_leaves_nothing(tmp_path: Path) -> None:
    """Every expectation holds, each strategy and each refusal is seen, on one screen, and the place is gone."""
    done = call(tmp_path / "home", "demo", env={**environment(tmp_path / "home"), "TMPDIR": str(tmp_path)})
    assert (done.status, done.err) == (0, "")
    assert "BAD" not in done.out

    for word in ("fork", "close", "sync", "wrong signature", "unknown task", "HEAD", "skipped, locked", "Hello, fork!"):
        assert word in done.out

    assert len(done.out.splitlines()) <= 35
    assert max(map(len, done.out.splitlines())) <= 120
    assert os.listdir(tmp_path) == []


def test_the_demo_says_what_is_not_as_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task that fails is a line that says BAD, and status 1; the place is gone all the same."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(demo, "SLOW", "import sys, time; time.sleep(0.5); sys.exit(3)")
    assert demo.demo() == 1
    out = capsys.readouterr().out
    assert [line.split()[-2:] for line in out.splitlines() if line.startswith("  BAD")] == [["slow", "failed"]]
    assert os.listdir(tmp_path) == []


def test_serve_answers_and_logs_no_signature(installation: Installation) -> None:
    """A signed URL works; the log has address, method, path and status of each request, and nothing of its query."""
    installation.add(argv=["echo", "hi"], strategy="sync")
    process = start(installation.home, "serve", "--port", "0")
    assert process.stdout
    base = re.findall(r"http://127\.0\.0\.1:\d+", process.stdout.readline().decode())[0]
    url = call(installation.home, "url", "task", "--base", base).out.strip()

    with urllib.request.urlopen(url) as answer:
        assert b'"output": "hi\\n"' in answer.read()

    with urllib.request.urlopen(f"{base}/run/x%1b?sig=0&task=y", data=b"z") as answer:
        assert answer.read() == REFUSED

    assert process.stderr
    logged = [process.stderr.readline().decode() for _ in range(2)]  # each is written after its answer
    process.send_signal(signal.SIGINT)
    done = finished(process)
    assert (done.status, done.err) == (0, "")
    assert logged == [f"127.0.0.1 GET /run/{installation.row()['slug']} 200\n", "127.0.0.1 POST /run/x%1b 202\n"]


def test_serve_says_when_its_port_is_taken(installation: Installation) -> None:
    """The second server on a port is told to choose another."""
    process = start(installation.home, "serve", "--port", "0")
    assert process.stdout
    port = re.findall(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline().decode())[0]
    done = call(installation.home, "serve", "--port", port)
    process.terminate()
    finished(process)
    assert done.status == 1
    assert "--port" in done.complaint


def test_the_reference_is_what_the_parser_says() -> None:
    """docs/reference/cli.md is fresh; `python docs/reference/cli.py` writes it."""
    render = runpy.run_path(str(REFERENCE / "cli.py"))["render"]
    assert (REFERENCE / "cli.md").read_text(encoding="utf-8") == render(), "run python docs/reference/cli.py"


def test_the_reference_names_every_verb_and_option() -> None:
    """Nothing that the parser knows is missing from the page."""
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")

    for verb in parser.MODULES:
        assert f"## {verb}\n" in text
        section = text.split(f"## {verb}\n")[1].split("\n## ")[0]
        assert all(f"`{option}" in section for notation, *_ in parser.verb(verb)[2:]
                   for option in parser.split_notation(notation)[0])
