# SPDX-License-Identifier: LGPL-3.0-or-later
"""A module of a site's, whose function is a command.

Rule: what stands between the two lines of dashes is shown in docs/how-to/embedding.md, word for word.
"""

# -------------------------------------------------------------------------------------------------------------------

from webscheduler import schedulable


@schedulable("shop:clean", expression="0 3 * * *")
def clean() -> None:
    """Remove carts that nobody came back for."""

# -------------------------------------------------------------------------------------------------------------------
