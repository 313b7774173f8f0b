# SPDX-License-Identifier: LGPL-3.0-or-later
"""The index: whatever becomes of it, no valid URL is refused, no old secret accepted, and nothing is decided by it that
state.json does not say."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.commandline import call
from tests.installation import DOORS, Installation, asking, until
from webscheduler import signing
from webscheduler.errors import Unusable
from webscheduler.runs import indexing
from webscheduler.store import index, lookup, state

REQUIRED = bool(os.environ.get("WEBSCHEDULER_REQUIRE_ALL"))
FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
OF_THE_INDEX = ("place", "size", "since", "due", "next")  # what only a line of it says


@pytest.fixture
def indexed(installation: Installation) -> Installation:
    """Three tasks, and an index that is believed."""
    for name in ("one", "two", "three"):
        installation.add(name)

    assert indexing.refresh(str(installation.home))
    return installation


def finds(installation: Installation, name: str = "two") -> index.Known | None:
    """What the index says of the task; None where it is not believed, or does not know it."""
    found = index.open_index(str(installation.home))
    return found.find(installation.row(name)["slug"]) if found else None


def accepted(installation: Installation, environ: dict[str, str], door: str = "cgi", crowd: bool = False) -> bool:
    """Whether the request was let in, be it to run or to hear that the task is running. In a crowd, on a busy machine,
    the gate may not be had within a second, which is 503: who is told that asks again."""
    answer = installation.call(door, environ)

    while crowd and answer.status == 503:
        answer = installation.call(door, environ)

    assert answer.status == 202
    return bool(answer.document["accepted"])


def runs_and_refuses(installation: Installation, name: str = "two") -> None:
    """The task's URL is accepted, and one that is signed with another secret refused."""
    environ = installation.signed(name)
    slug = installation.row(name)["slug"]
    assert accepted(installation, environ)
    assert not accepted(installation, asking(f"/run/{slug}", f"sig={signing.sign('0' * 64, slug)}"))
    installation.idle()


def test_it_says_of_each_task_what_state_says(indexed: Installation) -> None:
    """Both ways of looking a task up give the same, for every kind of task."""
    indexed.add("timed", signature="timed", minIntervalSeconds=7, timeout=0, strategy="close")
    indexed.add("off", enabled=False, preventOverlap=False, timeout=None, strategy="auto")
    indexed.add("listed", ipAllowlist=["192.0.2.0/24"])
    indexed.add("naïve: ü" + "x" * 90)
    indexed.add("broken", priority="high", signature="either")
    indexed.add("keyless", secret=None)
    home = str(indexed.home)
    assert indexing.refresh(home)
    by_index, parsed = index.open_index(home), lookup.Parsed(home)
    assert by_index is not None

    for name, row in state.read(home).items():
        one, other = by_index.find(row["slug"]), parsed.find(row["slug"])
        assert one is not None and other is not None
        assert one.kind == other.kind  # which counts before anybody looks at the whole
        other = lookup.in_full(parsed, other)
        assert other is not None

        if one.unusual:
            assert name in ("listed", "naïve: ü" + "x" * 90, "broken")
            continue

        for field in set(index.Known.__slots__) - {"signature", "status", "allowlist", *OF_THE_INDEX}:
            assert getattr(one, field) == getattr(other, field), (name, field)

        if row["secret"]:
            assert one.signature == signing.sign(row["secret"], row["slug"])
            assert one.status == signing.sign(row["secret"], f"status:{row['slug']}")
        else:
            assert one.secret == one.signature == one.status == index.NO_KEY

    assert by_index.find("f" * 32) is None
    assert (by_index.window, by_index.timeout, by_index.proxies) == (300, 300, [])


@pytest.mark.parametrize("door", DOORS)
def test_unusual_tasks_are_decided_by_state(indexed: Installation, door: str) -> None:
    """What a line cannot say is looked up once the signature is valid: an allow-list holds."""
    indexed.add("listed", ipAllowlist=["198.51.100.0/24"])
    assert indexing.refresh(str(indexed.home))
    found = finds(indexed, "listed")
    assert found is not None and found.unusual
    assert not accepted(indexed, indexed.signed("listed"), door)
    assert accepted(indexed, {**indexed.signed("listed"), "REMOTE_ADDR": "198.51.100.7"}, door)
    indexed.idle()


def test_the_second_trigger_after_a_change_uses_it(indexed: Installation) -> None:
    """Who supervised the first refreshes it at the end, whoever changed what."""
    for change in (lambda: indexed.edit("two", priority=1), lambda: indexed.configure(defaultTimeout=60),
                   lambda: (indexed.home / "index").unlink(), lambda: (indexed.home / "index").write_bytes(b"")):
        change()
        assert finds(indexed) is None
        assert accepted(indexed, indexed.signed("two"))
        indexed.idle()
        until(lambda: finds(indexed), "a fresh index")


def test_the_command_line_refreshes_it(indexed: Installation) -> None:
    """After an edit, the first request needs to parse nothing, even where nothing runs."""
    for words in (("edit", "two", "--title", "other"), ("add", "new", "--", "true"), ("rotate-secret", "two")):
        assert call(indexed.home, *words).status == 0
        found = finds(indexed)
        assert found is not None and found.secret == indexed.row("two")["secret"]


def lines(installation: Installation) -> dict[str, dict[str, Any]]:
    """What each line of the index says, by the slug of its task, with the row that it leads to."""
    found = index.open_index(str(installation.home))
    assert found is not None
    each = [known for row in state.read(str(installation.home)).values() if (known := found.find(row["slug"]))]
    return {one.slug: {**{field: getattr(one, field) for field in index.Known.__slots__}, "row": found.row(one)}
            for one in each}  # fmt: skip


def test_it_outlives_the_notes_of_runs(indexed: Installation) -> None:
    """A run changes the line of its task, and where later rows are; the index is then what it would be made anew."""
    indexed.edit("two", argv=["/bin/sh", "-c", "sleep 0.2; exit 3"], retries=1)
    indexed.edit("three", expression="@hourly")
    assert indexing.refresh(str(indexed.home))
    made = index.identity((indexed.home / "index").stat())

    for name in ("two", "three", "one", "two"):
        before = lines(indexed)
        assert accepted(indexed, indexed.signed(name))
        indexed.idle()
        until(lambda: finds(indexed), "a fresh index")
        after, slug = lines(indexed), indexed.row(name)["slug"]
        assert after[slug]["row"] != before[slug]["row"]

        for other in set(after) - {slug}:
            assert {**after[other], "place": 0} == {**before[other], "place": 0}

        (indexed.home / "index").unlink()
        assert indexing.refresh(str(indexed.home))
        assert lines(indexed) == after

    assert index.identity((indexed.home / "index").stat()) != made  # the number of an inode alone may come again


def test_it_leads_to_each_row(indexed: Installation) -> None:
    """One read gives a task's row, of a state.json as the program writes it; of another form it says that it cannot."""
    indexed.add("naïve: ü", title="{", environment={"slug": "}"})
    home, file = str(indexed.home), indexed.home / "state.json"
    tasks = json.loads(file.read_text())

    def leads() -> dict[str, Any]:
        assert indexing.refresh(home)
        found = index.open_index(home)
        assert found is not None
        rows = (lookup.one_row(found.row(known)) for row in tasks.values() if (known := found.find(row["slug"])))
        return dict(filter(None, rows))

    assert leads() == tasks
    swapped = file.read_text().replace('"one": {', '"one": {"x": {\n"two": {}}, ', 1)

    for form in (json.dumps(tasks), json.dumps(tasks, indent=2), file.read_text() + "\n", swapped):
        file.write_text(form)
        assert set(json.loads(form)) == set(tasks)
        assert leads() == {}

        for name in ("two", "naïve: ü"):
            assert accepted(indexed, indexed.signed(name))
            assert indexed.call("cgi", indexed.asking_status(name)).document["task"] == name
            indexed.idle()

        assert leads() == {name: indexed.row(name) for name in tasks}  # a run has written it


def test_a_row_that_was_replaced_is_not_read(indexed: Installation) -> None:
    """The place of a row means nothing in a newer state.json."""
    found = index.open_index(str(indexed.home))
    assert found is not None
    known = found.find(indexed.row("two")["slug"])
    assert known is not None and found.row(known)
    state.update(str(indexed.home), lambda tasks: tasks["one"].update(title="longer"))
    assert found.row(known) is None


def test_lines_of_unchanged_rows_are_kept(indexed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an edit of one task of many, one line is made; after a change of the settings, which count for all, all."""
    home, made = str(indexed.home), list[str]()
    real = indexing.line
    monkeypatch.setattr(indexing, "line", lambda entry, *rest: made.append(entry.name) or real(entry, *rest))
    before = lines(indexed)
    indexed.edit("two", title="A longer title")
    assert indexing.refresh(home)
    assert made == ["two"]
    assert {slug: line["row"] for slug, line in lines(indexed).items() if line["name"] != "two"} == {
        slug: line["row"] for slug, line in before.items() if line["name"] != "two"}
    indexed.configure(timezone="Asia/Tokyo")
    made.clear()
    assert indexing.refresh(home)
    assert set(made) == set(state.read(home))


@pytest.mark.parametrize("proxies", [0, 3, 200])
def test_a_header_of_any_length(indexed: Installation, proxies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation behind as many proxies as the settings take has an index like any other."""
    addresses = [f"2001:0db8:0000:0000:0000:0000:{number:04x}:0000/112" for number in range(proxies)]
    indexed.configure(trustedProxies=addresses)
    assert indexing.refresh(str(indexed.home))
    assert ((indexed.home / "index").stat().st_size > 8192 + 5 * index.LINE) == (proxies == 200)

    for first, whole in ((index.FIRST_READ, False), (index.FIRST_READ, True), (512, False), (512, True)):
        monkeypatch.setattr(index, "FIRST_READ", first)
        found = index.open_index(str(indexed.home), whole)
        assert found is not None
        assert found.proxies == addresses
        known = found.find(indexed.row("two")["slug"])
        assert known is not None and known.name == "two" and found.row(known)

    runs_and_refuses(indexed)


def rotate(installation: Installation) -> None:
    state.update(str(installation.home), lambda tasks: tasks["two"].update(secret="e" * 64))


def edit_by_hand(installation: Installation) -> None:
    file = installation.home / "state.json"
    edit_in_place(file, installation.row("two")["secret"], "e" * 64)


@pytest.mark.parametrize("change", [rotate, edit_by_hand])
def test_a_change_after_the_note_of_a_run_counts(indexed: Installation, change: Any) -> None:
    """A run notes its end, sends a mail for seconds, and then keeps the lines of the index. A secret that was changed
    meanwhile is not among them."""
    home = str(indexed.home)
    _, before = state.update_row(home, "one", lambda row: row.update(lastRunStatus="success"))
    assert before is not None
    change(indexed)
    assert indexing.refresh(home, before)
    found = finds(indexed)
    assert found is not None and found.secret == "e" * 64


def test_a_change_just_before_the_note_of_a_run_counts(indexed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same between the look at the index and the reading of state.json."""
    home = str(indexed.home)

    def opened(*arguments: Any, **named: Any) -> Any:
        found = index.open_index(*arguments, **named)
        edit_by_hand(indexed)
        return found

    monkeypatch.setattr(state, "open_index", opened)
    _, before = state.update_row(home, "one", lambda row: row.update(lastRunStatus="success"))
    assert indexing.refresh(home, before)
    found = finds(indexed)
    assert found is not None and found.secret == "e" * 64


def test_a_run_copies_nothing_that_is_broken(indexed: Installation) -> None:
    """A slip in another task's line, made by hand while a run lives: the run's end does not carry it into the copy, and
    what is asked of the scheduler is answered from that."""
    home, file = str(indexed.home), indexed.home / "state.json"
    environ, good = indexed.signed("one"), file.read_text()
    broken = good.replace('"two": {"enabled": true,', '"two": {"enabled": true')
    assert broken != good
    file.write_text(broken)

    with pytest.raises(Unusable, match="cannot be parsed"):
        state.update_row(home, "one", lambda row: row.update(lastRunStatus="success"))

    assert file.read_text() == broken
    assert (indexed.home / "state.json.bak").read_text() == good
    assert accepted(indexed, environ)
    indexed.idle()
    assert (indexed.home / "state.json.bak").read_text() == good


def test_it_is_valid_while_a_run_lasts(indexed: Installation) -> None:
    """That state says `running` costs the requests of the next hour nothing."""
    go_on = indexed.home / "go-on"
    indexed.edit("two", argv=["sh", "-c", f"while [ ! -e {go_on} ]; do sleep 0.02; done"])
    assert accepted(indexed, indexed.signed("two"))
    until(lambda: indexed.row("two")["lastRunStatus"] == "running", "a run that lasts")
    until(lambda: finds(indexed), "a valid index")
    go_on.touch()
    indexed.idle()


def test_refusals_and_readers_do_not_write_it(indexed: Installation) -> None:
    """Who has no signature, or only asks, makes nobody write."""
    indexed.edit("two", title="changed")
    before = (indexed.home / "index").read_bytes()

    for environ in (asking("/run/" + "0" * 32, "sig=" + "0" * 64), indexed.asking_status("two")):
        for door in DOORS:
            indexed.call(door, environ)

    assert (indexed.home / "index").read_bytes() == before


def test_cut_at_every_byte(indexed: Installation) -> None:
    """Whatever is left of it, at the end of a line too, each task is found or it is not believed."""
    file = indexed.home / "index"
    whole = file.read_bytes()
    rows = {name: row["slug"] for name, row in state.read(str(indexed.home)).items()}

    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert index.open_index(str(indexed.home)) is None, length

    file.write_bytes(whole + b"\n")
    assert index.open_index(str(indexed.home)) is None
    file.write_bytes(whole)
    found = index.open_index(str(indexed.home))
    assert found is not None
    assert all((known := found.find(slug)) and known.name == name for name, slug in rows.items())


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "an older package": lambda data: data.replace(b"-index 4 ", b"-index 4 0.0.", 1).replace(b" \n", b"\n", 1),
    "a newer format": lambda data: data.replace(b"-index 4 ", b"-index 9 ", 1),
    "another boot": lambda data: data.replace(index.boot().encode(), index.boot().encode()[::-1], 1),
    "a line less": lambda data: data[: -index.LINE],
    "not ASCII": lambda data: b"\xff" + data[1:],
    "a number that is none": lambda data: data.replace(b"\n4\n", b"\nx\n", 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_or_foreign(indexed: Installation, damage: str) -> None:
    """An index that is not ours is not believed, and costs time only."""
    file = indexed.home / "index"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert index.open_index(str(indexed.home)) is None
    runs_and_refuses(indexed)


def test_swapped_with_that_of_another_home(indexed: Installation, tmp_path: Path) -> None:
    """The index of another installation names other files, even that of a copy of this one."""
    copy = tmp_path / "copy"
    shutil.copytree(indexed.home, copy)
    assert index.open_index(str(copy)) is None
    assert indexing.refresh(str(copy))
    shutil.copy(copy / "index", indexed.home / "index")
    assert index.open_index(str(indexed.home)) is None
    runs_and_refuses(indexed)


def test_a_link_is_not_followed(indexed: Installation, tmp_path: Path) -> None:
    """An index that is a link is not read, and not written through."""
    target = tmp_path / "elsewhere"
    shutil.move(indexed.home / "index", target)
    (indexed.home / "index").symlink_to(target)
    before = target.read_bytes()
    assert finds(indexed) is None
    assert indexing.refresh(str(indexed.home))
    assert target.read_bytes() == before
    assert finds(indexed)


# Edits by hand


def edit_in_place(file: Path, old: str, new: str) -> None:
    """Change a file as nobody would notice: in place, of the same size, and with its time put back."""
    before = file.stat()
    descriptor = os.open(file, os.O_WRONLY)

    try:
        os.pwrite(descriptor, new.encode(), file.read_bytes().index(old.encode()))
    finally:
        os.close(descriptor)

    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def small_inodes() -> Iterator[Path]:
    """A file system whose times are whole seconds: ext4 with inodes of 128 bytes."""
    if not shutil.which("mkfs.ext4"):
        (pytest.fail if REQUIRED else pytest.skip)("mkfs.ext4 is missing (Debian package: e2fsprogs)")

    with ordinary() as folder:
        image, place = folder / "image", folder / "place"
        place.mkdir()

        with image.open("wb") as file:
            file.truncate(16 * 1024 * 1024)

        done = subprocess.run(["mkfs.ext4", "-q", "-F", "-I", "128", str(image)], capture_output=True, text=True)
        done = done if done.returncode else subprocess.run(["mount", "-o", "loop", str(image), str(place)],
                                                           capture_output=True, text=True)  # fmt: skip

        if done.returncode:
            (pytest.fail if REQUIRED and os.geteuid() == 0 else pytest.skip)(f"no loop device: {done.stderr.strip()}")

        try:
            yield place
        finally:
            # What was killed just now may keep a file of it open for a moment.
            until(lambda: subprocess.run(["umount", str(place)], capture_output=True).returncode == 0, "the unmounting")


@contextmanager
def memory() -> Iterator[Path]:
    """A file system in memory (tmpfs)."""
    with TemporaryDirectory(prefix="webscheduler-", dir="/dev/shm") as place:
        yield Path(place)


@contextmanager
def ordinary() -> Iterator[Path]:
    with TemporaryDirectory(prefix="webscheduler-", dir="/var/tmp") as place:
        yield Path(place)


@pytest.mark.parametrize("where", [ordinary, memory, small_inodes], ids=lambda where: where.__name__)
@pytest.mark.parametrize("door", DOORS)
def test_an_edit_within_the_tick_of_the_clock(where: Any, door: str) -> None:
    """A secret that is changed by hand right after it was read, in place and with its time put back, counts at once:
    the old URL is refused and the new accepted, by the index and by what a WSGI process keeps."""
    with where() as place:
        installation = Installation(place / "home")

        try:
            installation.add("two", minIntervalSeconds=0)
            home = str(installation.home)
            slow = where is small_inodes

            for number in range(3 if slow else 15):
                secret, other = installation.row("two")["secret"], f"{number:064x}"
                slug = installation.row("two")["slug"]
                installation.edit("two", title=f"{number:04}")  # a file of a new time, to be read at once

                if number % 3:
                    assert not accepted(installation, asking(f"/run/{slug}", "sig=" + "0" * 64), door)

                refresher = threading.Thread(target=indexing.refresh, args=(home,))
                refresher.start()
                time.sleep(random.random() * (1.2 if slow else 0.03))
                edit_in_place(installation.home / "state.json", secret, other)
                assert not accepted(installation, asking(f"/run/{slug}", f"sig={signing.sign(secret, slug)}"), door)
                assert accepted(installation, asking(f"/run/{slug}", f"sig={signing.sign(other, slug)}"), door)
                refresher.join()
                assert not accepted(installation, asking(f"/run/{slug}", f"sig={signing.sign(secret, slug)}"), door)
                installation.idle()
                installation.gone()
        finally:
            installation.end()


@pytest.mark.parametrize("door", DOORS)
def test_a_file_that_is_put_back_counts(indexed: Installation, door: str) -> None:
    """An older copy of state.json that is moved in place, with its old time, is read at once."""
    file, old = indexed.home / "state.json", indexed.home / "older"
    shutil.copy2(file, old)
    before = indexed.signed("two")
    indexed.edit("two", secret="e" * 64)
    assert indexing.refresh(str(indexed.home))
    assert not accepted(indexed, before, door)
    assert accepted(indexed, indexed.signed("two"), door)
    indexed.idle()
    os.replace(old, file)
    assert accepted(indexed, before, door)
    indexed.idle()


# Kills and crowds


KILLED = """
import os, signal, sys
from webscheduler.runs import indexing
from webscheduler.store import state
steps = int(sys.argv[2])

def count(module, name):
    real = getattr(module, name)

    def step(*arguments, **named):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(module, name, step)

for name in ("open", "write", "pwrite", "fsync", "replace", "unlink", "fchmod", "close", "pread", "fstat"):
    count(os, name)

state.update(sys.argv[1], lambda tasks: tasks["two"].update(secret=sys.argv[3]))
indexing.refresh(sys.argv[1])
os._exit(0)
"""


def test_killed_at_each_step_of_a_save(indexed: Installation) -> None:
    """A writer that is killed anywhere between the first write of state.json and the last of the index leaves an index
    that agrees with state.json, or none that is believed."""
    home, slug = str(indexed.home), indexed.row("two")["slug"]

    for number in range(200):
        secret = f"{number:064x}"
        done = subprocess.run([sys.executable, "-c", KILLED, home, str(number), secret])
        found, now = finds(indexed), indexed.row("two")["secret"]
        assert found is None or found.secret == now
        assert done.returncode or (found is not None and now == secret)

        if not done.returncode:
            break

        old = secret if now != secret else f"{number - 1:064x}"
        assert not accepted(indexed, asking(f"/run/{slug}", f"sig={signing.sign(old, slug)}"))

        if number % 10 == 0:
            runs_and_refuses(indexed)
    else:
        pytest.fail("it never ends")

    assert number > 20
    runs_and_refuses(indexed)


def turn(indexed: Installation) -> list[str]:
    """Give a task another secret; what is wrong then."""
    before = indexed.signed("turning")
    state.update(str(indexed.home), lambda tasks: tasks["turning"].update(secret=secrets.token_hex(32)))
    after = indexed.signed("turning")
    problems = []

    for door in ("cgi", "wsgi"):
        problems += ["an old secret was accepted"] if accepted(indexed, before, door, crowd=True) else []
        problems += [] if accepted(indexed, after, door, crowd=True) else ["a new secret was refused"]

    return problems


def test_eight_writers_and_eight_triggers(indexed: Installation) -> None:
    """While state.json is changed all the time, every valid URL is accepted and no invalid one, nor one whose secret
    was replaced; by a script and by the threads of a server that keeps what it read."""
    home, rows = str(indexed.home), state.read(str(indexed.home))
    triggers = {name: indexed.signed(name) for name in ("one", "two", "three")}
    slugs = [rows[name]["slug"] for name in triggers]
    wrong = [asking(f"/run/{slug}", f"sig={signing.sign('9' * 64, slug)}") for slug in slugs]
    end, problems = time.monotonic() + (60 if FULL else 4), []

    indexed.add("turning")

    def write(number: int) -> None:
        while time.monotonic() < end:
            state.update(home, lambda tasks: tasks["one"].update(description=f"{number} {time.monotonic()}"))

            problems.extend([] if number else turn(indexed))

            if number % 2:
                indexing.refresh(home)

    def trigger(number: int) -> None:
        chance = random.Random(number)

        while time.monotonic() < end:
            door = chance.choice(("cgi", "wsgi"))

            if not accepted(indexed, triggers[chance.choice(list(triggers))], door, crowd=True):
                problems.append("a valid URL was refused")

            if accepted(indexed, chance.choice(wrong), door, crowd=True):
                problems.append("an invalid one was accepted")

    threads = [threading.Thread(target=act, args=(number,)) for act in (write, trigger) for number in range(8)]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join()

    assert problems == []
    indexed.idle()
    runs = [line["run"] for name in triggers for line in indexed.history(name) if line["run"]]
    assert len(runs) == len(set(runs)) > 0


# What a WSGI process keeps


def test_a_wsgi_process_parses_once(indexed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals parse nothing while the files are the same, with an index or without."""
    parsed: list[str] = []
    real = state.parse
    monkeypatch.setattr(state, "parse", lambda content, name: parsed.append(name) or real(content, name))
    (indexed.home / "index").unlink()

    for _ in range(20):
        assert not accepted(indexed, asking("/run/" + "0" * 32, "sig=" + "0" * 64), "wsgi")

    assert len(parsed) == 1
    indexed.edit("two", title="other")

    for _ in range(5):
        assert not accepted(indexed, asking("/run/" + "0" * 32, "sig=" + "0" * 64), "wsgi")

    assert len(parsed) == 3  # by the edit itself, and once more


def test_two_threads_that_prove_the_same_parse_once(
    indexed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one thread has proven, and then forgets, does not look changed to another in the midst of its own look."""
    view = lookup.Parsed(str(indexed.home))
    time.sleep(lookup.CLOCK_TICK + 0.1)
    real, nested = lookup._contents, []

    def contents(home: str) -> Any:
        if not nested:
            nested.append(True)
            nested.append(view.is_current())
        return real(home)

    monkeypatch.setattr(lookup, "_contents", contents)
    assert view.is_current()
    assert nested == [True, True]


def test_a_task_a_line_is_what_a_run_replaces(indexed: Installation) -> None:
    """A file that somebody has formatted otherwise, or with a row twice, is parsed and written whole: no other row is
    touched, and nothing of it is lost."""
    file = indexed.home / "state.json"
    tasks = json.loads(file.read_text())
    tricky = {"description": '},\n"two": {"enabled": true}', "title": '{\n"two": {', **tasks["one"]}
    forms = [json.dumps({**tasks, "one": tricky}, indent=2), json.dumps(tasks),
             json.dumps(tasks).replace('"two": {', '\n"two": {').replace(', "three"', ',\n"three"'),
             file.read_text().replace("{", "{ ", 2), file.read_text() + "\n\n"]

    for form in forms:
        file.write_text(form)
        wanted = json.loads(form)
        state.update_row(str(indexed.home), "two", lambda row: row.update(lastRunStatus="success"))
        found = json.loads(file.read_text())
        wanted["two"]["lastRunStatus"] = "success"
        assert found == wanted
        assert list(found) == list(wanted)

