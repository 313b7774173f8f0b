#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-3.0-or-later
# The CGI entry of webscheduler. Works beside an installed package and from a checkout.
# Editable lines, for hosts that set no environment:
HOME = ""  # e.g. "/home/account/.webscheduler"; empty: WEBSCHEDULER_HOME, else ~/.webscheduler
LIBRARIES = []  # where webscheduler and filelock are, if Python does not look there by itself

import gc
import sys

gc.disable()  # a request is over before it pays; a supervisor turns it on again
sys.path += LIBRARIES

try:
    if sys.version_info < (3, 9):
        raise ImportError("it needs Python 3.9 or later")

    if not LIBRARIES:
        import os

        checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

        if os.path.isfile(os.path.join(checkout, "webscheduler", "cgi.py")):
            sys.path.insert(0, checkout)

    from webscheduler.cgi import main
except (ImportError, OSError, MemoryError) as error:  # OSError: no more open files, a disk that cannot be read
    import os

    os.write(1, b"Status: 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 19\r\n"
                b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n{\"accepted\": false}")

    try:
        sys.stderr.write("webscheduler: the package cannot be loaded by %s: %s\n" % (sys.executable, error))
        sys.stderr.flush()
    finally:
        os._exit(0)

main(HOME or None)
