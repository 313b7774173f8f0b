# SPDX-License-Identifier: LGPL-3.0-or-later
"""Names what panels, editors and shells did to a pasted URL, where it is not forgiven, so that its owner knows what to
change. Only requests of such a shape load it. A leaf.

The rule: what it says depends on the request alone, and holds at most one character of it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 4096  # characters that are looked at
# A pattern of the path, decoded, or of the query as it came: what stands there, and what should.
IN_PATH = ((r"\?", "%3F", "?"), ("&", "&", "?"))
IN_QUERY = (
    (r"(\\|%5[Cc])(&|$)", r"\&", "&"),
    ("%26", "%26", "&"),
    ("&amp;amp;", "&amp;", "&"),
    (r";(sig|ts)=", ";", "&"),
    (r"=3D[0-9A-Fa-f]{32}", "=3D", "="),
    (r"(^|[&;])(task|sig|ts)%3[Dd]", "%3D", "="),
    (r"(^|[&;])S(IG|ig)=", "SIG", "sig"),
)  # fmt: skip
# What stands beside a slug or a signature: as above, the sentence with the character.
BESIDE_IN_PATH = ((r"/run/[0-9A-Fa-f]{32}([^0-9A-Fa-f/].*)", "`{}` follows the slug"),)
BESIDE_IN_QUERY = (
    (r"(?:^|&)task=[0-9A-Fa-f]{32}([^0-9A-Fa-f&])", "`{}` follows the slug"),
    (r"(?:^|&)sig=[0-9A-Fa-f]{64}([^0-9A-Fa-f&])", "`{}` follows the signature"),
    (r"(?:^|&)sig=([^0-9A-Fa-f&])[^0-9A-Fa-f&]*[0-9A-Fa-f]{64}", "`{}` stands before the signature"),
)


def slip(environ: dict[str, Any]) -> str:
    """What was done to the URL of a request for /run, in words; empty if it is nothing that is known."""
    path = unquote(environ.get("PATH_INFO", "")[:MOST], "latin-1")  # Passenger leaves it as it came
    query = environ.get("QUERY_STRING", "")[:MOST]

    for table, text in ((IN_PATH, path), (IN_QUERY, query)):
        for pattern, seen, meant in table:
            if re.search(pattern, text):
                return f"`{seen}` stands where `{meant}` should"

    for beside, text in ((BESIDE_IN_PATH, path), (BESIDE_IN_QUERY, unquote(query.replace("+", " ")))):
        for pattern, sentence in beside:
            found = re.search(pattern, text, re.DOTALL)

            if found:
                return sentence.format(_shown(found[1]))

    cut = not path.strip("/") and re.fullmatch("task=[0-9A-Fa-f]{32}", query)
    return "there is no signature: where a command calls it, the URL must stand in quotes" if cut else ""


def _shown(text: str) -> str:
    """The first character, as it can be read. text: of a path each character is a byte."""
    try:
        text = text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        pass

    return text[0] if text[0].isprintable() else ascii(text[0])[1:-1]
