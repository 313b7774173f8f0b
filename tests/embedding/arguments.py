# SPDX-License-Identifier: LGPL-3.0-or-later
"""A command that takes arguments.

Rule: what stands between the two lines of dashes is shown in docs/reference/commands.md, word for word.
"""

# -------------------------------------------------------------------------------------------------------------------

from webscheduler import schedulable


@schedulable("app:cleanup:expired", expression="0 3 * * *")
def cleanup(*arguments: str) -> int:
    """Remove what has expired."""
    print("removed:", *arguments)
    return 0

# -------------------------------------------------------------------------------------------------------------------
