# SPDX-License-Identifier: LGPL-3.0-or-later
"""The command of the swarm: `witness.py FILE` notes there its start and end, and whether it is alone."""

import fcntl
import os
import sys
import time

file = sys.argv[1]
alone = os.open(file + ".alone", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    os.write(notes, b"overlap\n")

os.write(notes, b"start\n")
time.sleep((os.getpid() % 7) / 100)
os.write(notes, b"end\n")
