"""state.json: no update is lost, no reader sees half, and what cannot be read is never overwritten."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.installation import CHECKOUT, python_options
from webscheduler import store
from webscheduler.errors import Busy, Unusable

FULL = "WEBSCHEDULER_FULL" in os.environ
UPDATES = 500 if FULL else 100
KILLS = 500 if FULL else 60

COUNT = """
import sys
sys.path.insert(0, sys.argv[1])
from webscheduler import store
for _ in range(int(sys.argv[3])):
    store.update(sys.argv[2], lambda tasks: tasks["counter"].update(value=tasks["counter"]["value"] + 1))
"""

# Each version differs from the last in every task, and says so on standard output once it stands.
WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
from webscheduler import store
version = store.read(sys.argv[2])["t0"]["value"]
while True:
    version += 1
    def change(tasks):
        for row in tasks.values():
            row["value"] = version
    store.update(sys.argv[2], change)
    print(version, flush=True)
"""


@pytest.fixture
def home(tmp_path):
    store.create(str(tmp_path))
    return str(tmp_path)


def python(code: str, *words: object, **popen):
    words = [sys.executable, "-c", code, str(CHECKOUT), *map(str, words)]
    return subprocess.Popen(words, env={**os.environ, **python_options()}, **popen)


def test_eight_processes_lose_no_update(home):
    """8 x 500 read-modify-writes (100 in the short form) are all there in the end."""
    store.update(home, lambda tasks: tasks.update(counter={"value": 0}))
    processes = [python(COUNT, home, UPDATES) for _ in range(8)]
    assert [process.wait(timeout=240) for process in processes] == [0] * 8
    assert store.read_strictly(home)["counter"]["value"] == 8 * UPDATES


def test_killed_at_any_moment_the_file_is_a_whole_version(home):
    """After each kill -9 of a writer state.json parses and is the last version it announced, or the one after that."""
    store.update(home, lambda tasks: tasks.update({f"t{i}": {"value": 0, "fill": "x" * 500} for i in range(200)}))
    chance = random.Random(1)

    for _ in range(KILLS):
        with python(WRITE, home, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            announced = int(writer.stdout.readline())
            time.sleep(chance.random() * 0.03)
            writer.kill()
            rest = writer.stdout.read().split()
            announced = int(rest[-1]) if rest else announced

        tasks = store.read_strictly(home)
        versions = {row["value"] for row in tasks.values()}
        assert len(tasks) == 200
        assert len(versions) == 1
        assert versions <= {announced, announced + 1}
        copy = json.loads(Path(home, "state.json.bak").read_bytes())
        assert {row["value"] for row in copy.values()} <= {announced - 1, announced, announced + 1}


BROKEN = [b"", b"{", b"[]", b"null", b'{"a": }', b"\xff\xfe", b'{"a": {}}trailing', b"[" * 100000]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_is_never_overwritten(home, content):
    """Whatever cannot be parsed stays as it is, to the byte; the error says how to go on; readers use the copy."""
    store.update(home, lambda tasks: tasks.update(task={"enabled": True}))
    Path(home, "state.json").write_bytes(content)

    with pytest.raises(Unusable, match=r"state\.json .*(mend it|copy state\.json\.bak)") as error:
        store.update(home, lambda tasks: tasks.update(other={}))

    assert "\n" not in str(error.value)
    assert Path(home, "state.json").read_bytes() == content
    assert store.read(home) == {"task": {"enabled": True}}


def test_file_and_copy_gone_is_an_error(home):
    """An installation without state is not an empty one."""
    Path(home, "state.json").unlink()
    Path(home, "state.json.bak").unlink(missing_ok=True)

    with pytest.raises(Unusable, match="missing"):
        store.read(home)


def test_the_copy_has_an_inode_of_its_own(home):
    """An editor that writes in place harms one of the two only."""
    store.update(home, lambda tasks: tasks.update(task={}))
    assert os.stat(home + "/state.json").st_ino != os.stat(home + "/state.json.bak").st_ino
    assert Path(home, "state.json").read_bytes() == Path(home, "state.json.bak").read_bytes()


def test_unknown_fields_and_tasks_survive(home):
    """What a newer version or another program put there is kept, in its place."""
    text = '{"b": {"zzz": [1, {"x": null}], "enabled": true}, "a": {"né": "ü\\u0000\\ud800"}}'
    Path(home, "state.json").write_text(text)
    store.update(home, lambda tasks: tasks["b"].update(enabled=False))
    found = json.loads(Path(home, "state.json").read_bytes().decode("utf-8", "surrogatepass"))
    expected = json.loads(text)
    expected["b"]["enabled"] = False
    assert found == expected
    assert list(found) == ["b", "a"]


def test_an_error_in_a_change_writes_nothing(home):
    """All or nothing: a change that fails half-way leaves the file as it was."""
    store.update(home, lambda tasks: tasks.update(task={"value": 1}))
    before = Path(home, "state.json").read_bytes()

    def change(tasks):
        tasks["task"]["value"] = 2
        raise KeyError("no")

    with pytest.raises(KeyError):
        store.update(home, change)

    assert Path(home, "state.json").read_bytes() == before


def test_no_change_is_no_write(home):
    """An update that changes nothing replaces nothing."""
    store.update(home, lambda tasks: tasks.update(task={"value": 1}))
    before = store.stamp(home)
    assert store.update(home, lambda tasks: tasks["task"]["value"]) == 1
    assert store.stamp(home) == before


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_are_for_the_owner_alone(home, umask):
    """Modes are explicit; the umask, which commands inherit, is neither believed nor changed."""
    before = os.umask(umask)

    try:
        store.update(home, lambda tasks: tasks.update(task={"value": umask}))
        assert os.umask(umask) == umask
    finally:
        os.umask(before)

    for name in ("state.json", "state.json.bak", "state.json.lock"):
        assert stat.S_IMODE(os.stat(os.path.join(home, name)).st_mode) == 0o600, name


def test_nothing_is_left_behind(home):
    """No temporary file remains after writes, and none after a write that failed."""
    for value in range(5):
        store.update(home, lambda tasks, value=value: tasks.update(task={"value": value}))

    assert sorted(os.listdir(home)) == ["state.json", "state.json.bak", "state.json.lock"]


def test_a_lock_held_for_long_is_said(home, monkeypatch):
    """Whoever cannot get the lock is told, and has written nothing."""
    monkeypatch.setattr(store, "PATIENCE", 0.2)
    inside, go_on = threading.Event(), threading.Event()

    def hold(tasks):
        inside.set()
        go_on.wait(30)

    thread = threading.Thread(target=store.update, args=(home, hold))
    thread.start()
    inside.wait(30)

    try:
        with pytest.raises(Busy, match="locked by another process"):
            store.update(home, lambda tasks: tasks.update(task={}))
    finally:
        go_on.set()
        thread.join()

    assert store.read(home) == {}


def test_a_killed_holder_leaves_no_lock(home):
    """kill -9 while the lock is held: the next writer gets it at once."""
    held = "def change(tasks):\n        print('in', flush=True); import time; time.sleep(60)"
    code = WRITE.replace("def change(tasks):", held)
    store.update(home, lambda tasks: tasks.update(t0={"value": 0}))

    with python(code, home, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"in\n"
        writer.send_signal(signal.SIGKILL)

    store.update(home, lambda tasks: tasks.update(task={}))
    assert "task" in store.read(home)


def test_without_filelock_the_error_says_so(home):
    """A Python that cannot import filelock changes nothing, and says which Python that is."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
sys.modules["filelock"] = None
from webscheduler import store
from webscheduler.errors import Unusable
try:
    store.update(sys.argv[2], lambda tasks: tasks.update(task={}))
except Unusable as error:
    print(error)
"""

    with python(code, home, stdout=subprocess.PIPE) as process:
        said = process.communicate(timeout=60)[0].decode()

    assert said.startswith("filelock cannot be imported")
    assert sys.executable in said
    assert store.read(home) == {}
