# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs on a disk that is full: no line is lost, doubled or torn, and nobody hears that nothing ran of what has run.

Rule: the disks are real. A file system in memory (tmpfs) is full at once, when something is written. With ext4 on a
loop device, whose sparse file lies on a full tmpfs, each write goes well, and fsync(2) says later that it was lost, as
on a disk that is broken, a thin volume or a network file system.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.admin.client import Browser, populate
from tests.commandline import call
from tests.installation import DOORS, Installation, asking, until
from webscheduler.store import keys

REQUIRED = bool(os.environ.get("WEBSCHEDULER_REQUIRE_ALL"))
PRINTS = ["sh", "-c", "head -c 20000 /dev/zero | tr '\\0' x; exit 3"]


def system(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)

    if done.returncode:
        why = f"{words[0]}: {done.stderr.strip()}"
        (pytest.fail if REQUIRED and os.geteuid() == 0 else pytest.skip)(why)


@contextmanager
def mounted(place: Path, *options: object) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("needs the right to mount")

    place.mkdir()
    system("mount", *options, place)

    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


class Disk:
    """A file system that can be filled."""

    def __init__(self, place: Path, source: Path, image: Path | None = None) -> None:
        self.place, self.filling, self.image = place, source / "filling", image

    def fill(self, leave: int = 0) -> None:
        """Take all room, but `leave` bytes."""
        if self.image:
            system("fstrim", self.place)  # what is free here is a hole in the image

        with open(self.filling, "ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass

            file.truncate(max(0, file.tell() - leave))

    def free(self) -> None:
        self.filling.unlink()

    def read_anew(self) -> None:
        """Forget what was not written to it."""
        # What ended just now may keep a file of it open for a moment.
        until(lambda: subprocess.run(["umount", self.place], capture_output=True).returncode == 0, "the unmounting")
        system("mount", "-o", "loop", self.image, self.place)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Disk]:
    """A file system that is full when something is written."""
    with mounted(tmp_path / "memory", "-t", "tmpfs", "-o", "size=4m", "none") as place:
        yield Disk(place, place)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Disk]:
    """A file system that is full when something is synced: tables and journal have their room, data has none."""
    if not shutil.which("mkfs.ext4"):
        (pytest.fail if REQUIRED else pytest.skip)("mkfs.ext4 is missing (Debian package: e2fsprogs)")

    with mounted(tmp_path / "memory", "-t", "tmpfs", "-o", "size=40m", "none") as below:
        image = below / "image"
        image.write_bytes(bytes(32 * 1024 * 1024))
        # With blocks smaller than a page, fsync(2) was seen to say that all is well (Linux 6.18).
        system("mkfs.ext4", "-q", "-F", "-b", 4096, "-E", "nodiscard", "-J", "size=4", image)
        image.write_bytes(image.read_bytes())  # it makes holes of what is to be zeros

        with mounted(tmp_path / "loop", "-o", "loop,errors=continue", image) as place:
            yield Disk(place, below, image)


def test_readers_know_how_a_run_ended_that_nobody_could_record(memory: Disk) -> None:
    """State says that it runs and history nothing, for both are on the full disk; its claim knows better."""
    go_on = memory.place.parent / "go-on"
    installation = Installation(memory.place / "home")
    installation.configure(baseUrl="https://example.org/cron")
    populate(installation)
    installation.add(argv=["sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.02; done; echo out; exit 3', str(go_on)])
    browser = Browser(installation)
    browser.sign_in()
    run = installation.trigger().document["run"]
    until(lambda: installation.row()["lastRunStatus"] == "running")
    memory.fill()
    go_on.touch()
    installation.gone()
    assert (len(installation.claims()), installation.history()) == (1, [])
    assert installation.row()["lastRunStatus"] == "running"

    home = installation.home
    (listed,) = (task for task in call(home, "list", "--json").document if task["name"] == "task")
    shown = call(home, "show", "task", "--json").document
    (unhealthy,) = call(home, "status", "--json").document["unhealthy"]
    status = installation.wsgi(installation.asking_status()).document
    assert [each["lastRunStatus"] for each in (listed, shown, unhealthy, status)] == ["failed"] * 4
    assert [(each["lastRunExitCode"], each["lastRunId"]) for each in (listed, shown)] == [(3, run)] * 2
    (logged,) = call(home, "logs", "--run", run, "--json").document
    assert (logged["status"], logged["output"], logged["recorded"]) == ("failed", "out\n", False)

    for page in (browser.get(), browser.get("task", name="task"), browser.get("run", name="task", run=run)):
        assert "Failed" in page
        assert "Interrupted" not in page

    assert "could not be recorded yet" in page
    memory.free()
    installation.trigger("wsgi")
    installation.idle()
    assert [(line["status"], line["run"] == run) for line in installation.runs()] == [
        ("failed", True), ("failed", False)]  # fmt: skip


def told(answer: object) -> tuple[object, ...]:
    document = answer.document  # type: ignore[attr-defined]
    return (answer.status, document["accepted"], document.get("status"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("door", [*DOORS, "cli"])
def test_a_disk_that_says_so_when_it_syncs(loop: Disk, door: str) -> None:
    """Each run that was answered as such has its line, once, on the disk itself, and with what it printed."""
    installation = Installation(loop.place / "home")
    installation.add(argv=PRINTS, strategy="sync")
    ran = 0

    def trigger() -> None:
        nonlocal ran

        if door == "cli":
            done = call(installation.home, "run", "task")
            ran += "failed, exit status 3" in done.err
            assert done.status == 1
        else:
            answer = installation.trigger(door)
            ran += answer.status == 200
            assert told(answer) in ((200, True, "failed"), (503, False, None))

    trigger()
    assert ran == 1
    loop.fill()

    for _ in range(5):
        trigger()

    assert ran > 1
    loop.free()

    for _ in range(2):
        installation.gone()
        loop.read_anew()
        trigger()

    installation.gone()
    loop.read_anew()
    lines = installation.runs()
    assert len({line["run"] for line in lines}) == len(lines) == ran
    assert [(line["status"], line["exitCode"], len(line["output"])) for line in lines] == [("failed", 3, 20000)] * ran
    assert installation.claims() == []


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_key_works_where_its_use_cannot_be_written(memory: Disk, how: str) -> None:
    """When it was used last is not worth a refusal. A wrong key that cannot be counted gets 503, so that nobody may try
    without limit; what is there stays as it was."""
    installation = Installation(memory.place / "home")
    home = str(installation.home)
    key = keys.add(home, "ci", "viewer", 1000.0)
    before = keys.listed(home)

    if how == "full":
        memory.fill()
    else:
        system("mount", "-o", "remount,ro", memory.place)

    def ask(given: str) -> int:
        return installation.wsgi(asking("/api/v1/tasks", REMOTE_ADDR="127.0.0.1", HTTP_X_WEBSCHEDULER_KEY=given)).status

    assert [ask(given) for given in (key, key, "wsk_x", "")] == [200, 200, 503, 401]
    assert keys.listed(home) == before
    assert sorted(name for name in os.listdir(home) if ".tmp" in name) == []
