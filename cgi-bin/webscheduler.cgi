#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-3.0-or-later
# The CGI entry of webscheduler. Works beside an installed package and from a checkout.
# Editable lines, for hosts that set no environment:
HOME = ""  # e.g. "/home/account/.webscheduler"; empty: WEBSCHEDULER_HOME, else ~/.webscheduler
LIBRARIES = []  # where webscheduler and filelock are, if Python does not look there by itself

import os
import sys


def unavailable(why):
    sys.stderr.write("webscheduler: %s\n" % why)
    sys.stderr.flush()
    os.write(1, b"Status: 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 19\r\n"
                b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n{\"accepted\": false}")
    os._exit(0)


if sys.version_info < (3, 9):
    unavailable("needs Python 3.9 or later, not %s: change the first line of %s" % (sys.version.split()[0], __file__))

checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path += LIBRARIES

if os.path.isfile(os.path.join(checkout, "webscheduler", "cgi.py")):
    sys.path.insert(0, checkout)

try:
    from webscheduler.cgi import main
except ImportError as error:
    unavailable("the package is not installed for %s: %s" % (sys.executable, error))
except (OSError, MemoryError) as error:  # no more open files, a disk that cannot be read
    unavailable("the package cannot be loaded: %s" % error)

main(HOME or None)
