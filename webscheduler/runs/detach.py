"""How a job is laid around an HTTP response. A leaf: it knows jobs, descriptors and responses, and nothing of tasks.

- fork, under CGI: `detach` first, then respond. The job must be out of the server's sight before the response ends,
  since some servers signal the script as soon as they have its last byte.
- fork, under WSGI: `spawn` a freshly exec'd process. A fork that went on in Python would keep the server's sockets and
  is fatal in sub-interpreters.
- close: `AfterResponse` runs the job in the iterable's close(), which a server must call (PEP 3333); under CGI
  `silence` ends the response and the script goes on.
- sync: the job runs first. That needs no code.

The standard library alone; `subprocess` only where a process is spawned.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence
    from typing import Callable


def detach(job: Callable[[], object], keep: Sequence[int]) -> bool:
    """Run `job` in a process that neither session, terminal, pipes nor parent tie to this one. True once it stands.

    A handshake through a pipe tells, never a timer: a byte says that the process stands, end of file that it never
    will, and then the job has not begun. A process that cannot write its byte exits without running the job.
    Descriptors in `keep` stay open in it. Raises OSError when there is no process to be had.
    """
    reading, writing = os.pipe()

    try:
        child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise

    if child == 0:
        status = 1

        try:
            os.setsid()
            # Before anything else: who waits for this byte is a request. A leader of a session that opens no terminal
            # gets none, so one fork is enough.
            if os.write(writing, b"+") == 1:
                close_descriptors(set(keep))
                job()
                status = 0
        finally:
            os._exit(status)  # without a byte written, SIGPIPE being ignored in Python, the job has not begun

    os.close(writing)

    try:
        return os.read(reading, 1) == b"+"
    finally:
        os.close(reading)


def close_descriptors(keep: set[int]) -> None:
    """Point 0, 1 and 2 at /dev/null and close all others but `keep`: a server waits for every copy of its pipes, and
    some leak their listening socket."""
    silence()

    try:
        others = [int(entry) for entry in os.listdir("/proc/self/fd")]
    except OSError:
        others = list(range(3, 1024))

    for descriptor in others:
        if descriptor > 2 and descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                pass


def silence() -> None:
    """Point 0, 1 and 2 at /dev/null: what waits for the end of our output need not wait any more."""
    null = os.open(os.devnull, os.O_RDWR)

    for standard in (0, 1, 2):
        os.dup2(null, standard)

    if null > 2:
        os.close(null)


def start_child(job: Callable[[], int], keep: Sequence[int] = ()) -> int:
    """Run `job` in a child in a session of its own that inherits no descriptor but `keep`; its pid. The job's result is
    its exit status. Raises OSError when there is no process to be had."""
    child = os.fork()

    if child == 0:
        status = 1

        try:
            os.setsid()
            close_descriptors(set(keep))
            status = job()
        finally:
            os._exit(status)

    return child


_spawned: list[subprocess.Popen[bytes]] = []


def _leave_running() -> None:
    """At the end of this process: what it started goes on, and is no resource that was left open."""
    for child in _spawned:
        child.returncode = 0


def spawn(argv: Sequence[str], keep: Sequence[int], wait: bool = False) -> bytes:
    """Start `argv` in a session of its own with nothing of ours open but `keep`; it stands when exec succeeded.

    With `wait` its end is awaited and what it wrote to standard output is returned. Raises OSError when it cannot be
    started.
    """
    import atexit
    import subprocess

    # Children of earlier calls that ended since: reaped here, so a long-lived worker gathers no zombies.
    _spawned[:] = [child for child in _spawned if child.poll() is None]

    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if wait else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=keep,
        start_new_session=True,
        cwd="/",
    )

    if wait:
        return child.communicate()[0]

    _spawned.append(child)
    atexit.unregister(_leave_running)
    atexit.register(_leave_running)
    return b""


class AfterResponse:
    """A response body whose `close` runs the job, once; a server that forgets to call it does so by dropping it."""

    __slots__ = ("_body", "_job")

    def __init__(self, body: bytes, job: Callable[[], object]) -> None:
        self._body, self._job = [body], [job]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return 1

    def close(self) -> None:
        """Run the job if it has not run."""
        if self._job:
            self._job.pop()()

    def __del__(self) -> None:
        self.close()
