# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs a job before a response, after it, or detached from it. It knows descriptors and responses, not tasks.

- fork, under CGI: `detach` first, then respond, since some servers send the script a signal as soon as they have its
  last byte.
- fork, under WSGI: a new program (`spawned`). A forked child would keep the server's sockets, and crashes in
  sub-interpreters.
- close: `AfterResponse` runs the job in the iterable's close(), which a server must call (PEP 3333). Under CGI,
  `silence` ends the response and the script continues.
- sync: the job runs before the response. That needs no code.
"""

from __future__ import annotations

import faulthandler  # before the fork: what a child imports copies pages while a request waits for it
import os

from ..store.files import close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Callable, Iterator, Sequence

TO_END = (1, 2, 15)  # HUP, INT, TERM: what tells a supervisor to end


def detach(job: Callable[[], object], keep: Sequence[int]) -> bool:
    """Run `job` in a process with a session of its own and no descriptor of ours but `keep`, the first of which takes
    notes of signals. True once it is detached.

    A pipe tells, never a timer: a byte means that the process is detached, end of file that it failed before the job
    began. A process that cannot write its byte exits without running the job. Raises OSError if no process can be made.
    """
    reading, writing = os.pipe()

    try:
        child = os.fork()
    except OSError:
        close(reading)
        close(writing)
        raise

    if child == 0:
        status = 1

        try:
            os.setsid()
            note_signals(keep[0])
            # Before anything else, since a request waits for this byte. One fork is enough: the leader of a session
            # gets a terminal only by opening one.
            if os.write(writing, b"+") == 1:
                close_descriptors(set(keep))
                job()
                status = 0
        finally:
            os._exit(status)

    close(writing)

    try:
        return os.read(reading, 1) == b"+"
    except OSError:
        return True  # nobody knows; a job that began after all must not be run again
    finally:
        close(reading)


def note_signals(descriptor: int) -> None:
    """From now on, a signal to end only writes lines into an open file, which `noted_signal` finds, until
    `supervisor.Signals` takes over, which needs imports that a request has no time for."""
    for number in TO_END:
        faulthandler.register(number, descriptor, all_threads=False)


def noted_signal(descriptor: int) -> int | None:
    """A signal to end, if one has come since `note_signals`."""
    return 15 if b"(most recent call first)" in os.pread(descriptor, os.fstat(descriptor).st_size, 0) else None


def close_descriptors(keep: set[int]) -> None:
    """Point 0, 1 and 2 to /dev/null and close all others but `keep`: a server waits for every copy of its pipes, and
    scripts of some servers inherit the listening socket."""
    silence()

    for descriptor in others():
        if descriptor not in keep:
            close(descriptor)


def others() -> list[int]:
    """The descriptors of this process but 0, 1 and 2; where /proc does not show them, all that there may be."""
    try:
        return [number for entry in os.listdir("/proc/self/fd") if (number := int(entry)) > 2]
    except OSError:
        return list(range(3, 1024))


def silence() -> None:
    """Point 0, 1 and 2 to /dev/null, so that nobody waits for the end of our output any more."""
    null = os.open(os.devnull, os.O_RDWR)

    for standard in (0, 1, 2):
        os.dup2(null, standard)

    if null > 2:
        close(null)


class AfterResponse:
    """A response body whose `close` runs the job, once; if a server never calls it, the job runs when it is deleted.
    What it raises is reported in one line."""

    def __init__(self, body: bytes, job: Callable[[], object], report: Callable[[str], object]) -> None:
        self._body, self._job, self._report = [body], [job], report

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return 1

    def close(self) -> None:
        """Run the job, unless it has run."""
        if self._job:
            try:
                self._job.pop()()
            except Exception as error:
                from ..errors import foreseen

                self._report(foreseen(error) or f"webscheduler: {type(error).__name__}: {error}")

    def __del__(self) -> None:
        self.close()
