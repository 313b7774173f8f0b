# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the API says of itself."""

from __future__ import annotations

from .. import __version__
from ..times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .table import Call


def about(call: Call) -> dict[str, Any]:
    """GET /api/v1."""
    return {"version": __version__, "api": 1, "key": call.person.name.partition(" ")[2], "role": call.person.role,
            "time": format_time(call.now)}
