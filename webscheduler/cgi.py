# SPDX-License-Identifier: LGPL-3.0-or-later
"""The CGI door (RFC 3875): one process, one request.

The rules: the whole response goes out in one write, and then the process ends at once, since a server waits for its
end. The client learns nothing of an internal error; one line in the server's error log tells it.
"""

from __future__ import annotations

import os
import sys
import time

from . import trigger
from .http import Request, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_DROPPED = 64 * 1024 * 1024  # bytes


def main(home: str | None = None) -> None:
    """Answer the request in the environment, and end the process."""
    for descriptor in (0, 1, 2):  # else a claim would take the number of a standard stream that was closed
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)

    environ: dict[str, Any] = {key.decode("latin-1"): value.decode("latin-1") for key, value in os.environb.items()}
    scheme = "https" if environ.get("HTTPS", "").lower() in ("on", "1") else "http"
    environ.update({"webscheduler.input": 0, "wsgi.errors": sys.stderr, "wsgi.url_scheme": scheme})  # see `body`

    try:
        request = Request(environ)

        if request.kind in ("admin", ""):
            from .admin import answer

            response = answer(environ, home, in_process=True)
        elif request.kind == "api":
            from .http_api import answer as answer_api

            response = answer_api(environ, home or _home(), time.time, True)
        else:
            response = trigger.answer(request, home or _home(), True, time.time, report)
    except Exception as error:
        report(_line(error))
        response = trigger.unavailable()

    headers = [("Status", response.line), *response.all_headers()]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    sent = head.encode("latin-1") + (b"" if environ.get("REQUEST_METHOD") == "HEAD" else response.body)

    try:
        if environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ:
            _drop_body()

        if response.after:
            _write_all(sent)

            from .runs.detach import silence

            silence()  # ends the response; the script continues
            response.after()
        else:
            _write_all(sent)
    finally:
        os._exit(0)


def _line(error: Exception) -> str:
    try:
        from .errors import foreseen

        line = foreseen(error)
    except (ImportError, OSError, MemoryError):  # it is that nothing can be opened
        line = ""

    return line or f"webscheduler: {type(error).__name__}: {error} ({_place(error)})"


def _home() -> str:
    from .store.files import find_home

    return find_home()


def _write_all(data: bytes) -> None:
    """Write everything to standard output. If nobody reads it any more, the run continues all the same."""
    view = memoryview(data)

    try:
        while view:
            view = view[os.write(1, view):]
    except OSError:
        pass


def _drop_body() -> None:
    """Read what has arrived of a body that nobody read. Under mod_cgid, standard input is a socket. Closed with unread
    data, it is reset and the response is lost (tried). But it is not read for ever: a client can send for hours."""
    try:
        os.set_blocking(0, False)

        for _ in range(MOST_DROPPED // 65536):
            if not os.read(0, 65536):
                break
    except OSError:
        pass

    try:
        os.set_blocking(0, True)  # standard output may be the same socket, and must block when it is full
    except OSError:
        pass


def report(line: str) -> None:
    """One line for the server's error log."""
    log(sys.stderr, line)  # None where the server closed it


def _place(error: BaseException) -> str:
    trace = error.__traceback__

    while trace and trace.tb_next:
        trace = trace.tb_next

    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"
