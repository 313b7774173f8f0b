# SPDX-License-Identifier: LGPL-3.0-or-later
"""`python -m webscheduler`: the command line."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
