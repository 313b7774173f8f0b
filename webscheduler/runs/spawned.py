# SPDX-License-Identifier: LGPL-3.0-or-later
"""Supervises a run in a new Python process, for servers whose workers have threads, which keep neither signals nor the
claim: `spawn`, `resume_argv` and `supervise_elsewhere` are called in the worker, and `resume` is what is started.
"""

from __future__ import annotations

import json
import os
import select
import time

from .. import vocabulary as words
from ..store.files import close, is_same_file
from ..store.locks import Claim, claim_path, facts_of
from ..store.settings import load_settings
from . import detach, supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Callable, Result, Sequence
    from ..store.lookup import View

REPORTED = 3800  # characters of each stream that a waiting request can use
_spawned: set[int] = set()  # pids of children that have not been waited for


def spawn(argv: Sequence[str], claim: Claim, wait: bool = False) -> bytes:
    """Start `argv`, with the number of the one descriptor of ours that it gets, which has the lock of the claim, in a
    session of its own. The claim is closed here as soon as the exec has succeeded: this process is not of the run.
    Signals that tell it to end are blocked until it takes them (`supervisor.Signals`).

    wait: wait for the end of its standard output, and return what it wrote there. Raises OSError.
    """
    for earlier in tuple(_spawned):  # a long-lived worker collects no zombies
        _reap(earlier, os.WNOHANG)

    reading, writing = os.pipe() if wait else (-1, -1)
    # Another number: a copy to the same one is not inherited. A server may have left 0, 1 or 2 free for those of ours.
    target = next(number for number in (3, 4, 5) if number not in (claim.lock, writing))
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, claim.lock, target)]
    actions += [(os.POSIX_SPAWN_DUP2, writing, 1)] * wait
    actions += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in ((0, 2) if wait else (0, 1, 2))]
    most = os.sysconf("SC_OPEN_MAX")  # higher numbers, of before the limit was lowered, cannot be named; see `resume`
    actions += [(os.POSIX_SPAWN_CLOSE, number) for number in detach.others()
                if number != target and number < most and _inherited(number)]

    try:
        pid = _start([*argv, str(target)], actions)
    except OSError:
        close(reading)
        raise
    finally:
        close(writing)

    _spawned.add(pid)
    claim.close()

    if not wait:
        return b""

    try:
        select.select([reading], [], [])  # which gevent and eventlet replace, so as to serve others meanwhile
    except ValueError:
        pass  # a number too high for select(2)

    try:
        with open(reading, "rb") as output:
            return output.read()
    except OSError:  # it was started, whatever became of its answer
        _reap(pid, 0)
        return b""


def _start(argv: list[str], actions: list[tuple[Any, ...]]) -> int:
    """posix_spawn(3), which copies nothing of a large worker: on some Pythons `Popen` costs a request six times as
    much."""
    try:
        return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True, setsigmask=detach.TO_END)
    except NotImplementedError:  # a C library before glibc 2.26: `resume` makes its session itself
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsigmask=detach.TO_END)

        try:
            while os.getsid(pid) != pid and not os.waitpid(pid, os.WNOHANG)[0]:
                time.sleep(0.001)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has ended, and the server takes no notice of its children

        return pid


def _reap(pid: int, options: int) -> None:
    try:
        ended = os.waitpid(pid, options)[0]
    except ChildProcessError:
        ended = pid  # another thread was first, or the server

    if ended:
        _spawned.discard(pid)


def _inherited(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False  # closed meanwhile


_programs: dict[str, tuple[str, list[str]]] = {}  # home -> (identity of config.json; argv without the descriptor)


def resume_argv(home: str, view: View) -> list[str]:
    """argv of a new Python process that supervises the run instead of this one. Most of it is kept while the settings,
    which name the interpreter, are the same; what an index was made from is identified without a doubt."""
    settings, argv = _programs.get(home, ("", []))

    if not view.signed or settings != view.sources[1] or not os.access(argv[0], os.X_OK):
        from ..commands.registry import python

        argv = python(load_settings(home), "webscheduler.runs.spawned:resume", home, site=False)
        _programs[home] = view.sources[1], argv

    return argv


def supervise_elsewhere(home: str, claim: Claim, clock: Callable[[], float], view: View) -> Result:
    """Pass the claim to such a process, and wait for the line of history that it prints."""
    argv = resume_argv(home, view)
    seen = Claim(claim.path, -1, claim.name, claim.run)

    try:
        seen.descriptor = os.open(claim.path, os.O_RDONLY | os.O_CLOEXEC)
        reported = spawn(argv, claim, wait=True)
    except OSError as error:
        from . import recorder

        seen.close()
        why = f"the host gave no process: {argv[0]}: {error.strerror}\n"
        return recorder.finish(home, claim, recorder.outcome(words.FAILED, words.NO_PROCESS, error_output=why),
                               load_settings(home)["timezone"], clock())[0]

    result: Result = {"run": claim.run, "status": words.INTERRUPTED, "reason": words.FOUND_DEAD, "exitCode": None,
                      "duration": None, "output": "", "errorOutput": ""}

    try:
        result.update(json.loads(reported))
    except ValueError:  # it was killed
        try:
            # The claim of a run that is recorded is unlinked, but can be read here.
            result["recorded"] = not is_same_file(seen.descriptor, seen.path)
            result.update(seen.facts().get("outcome", {}))  # type: ignore[typeddict-item]
        except OSError as error:
            result["problem"] = str(error)

    seen.close()
    return result


def resume(home: str, descriptor: str) -> None:
    """What `resume_argv` runs: supervise the run whose claim `descriptor` locks, and print its line of history."""
    if os.getsid(0) != os.getpid():
        os.setsid()

    os.chdir("/")  # a folder of the server's may be unmounted meanwhile

    for other in detach.others():  # opened by another thread of the server while this process was started
        if other != int(descriptor):
            close(other)

    facts = facts_of(int(descriptor))
    name, run = facts["name"], facts["run"]
    path = claim_path(home, name, run)
    claim = Claim(path, os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW), name, run)
    claim.lock = int(descriptor)

    def tell(entry: Result) -> None:
        short = {stream: entry[stream][:REPORTED] for stream in ("output", "errorOutput")}

        try:
            print(json.dumps({**entry, **short}), flush=True)
        except OSError:
            pass  # who asked is gone

        detach.silence()  # the end of the output, for which the request waits

    supervisor.supervise(home, claim, time.time, tell)
    os._exit(0)  # all is written, and to take an interpreter down costs as much as half of its start
