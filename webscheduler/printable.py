# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which characters are invisible or turn the direction of text, and how they are shown instead.

The rule: what a command printed, a file holds or somebody typed reaches a terminal or a page only through here. An
escape sequence can rewrite what was said before it, and a mark of direction can make a name read as another one.
"""

from __future__ import annotations

import re

# By general category (Unicode, UAX 44); line break and tab stay.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # Cc: C0, DEL, C1
    "\ud800-\udfff"  # Cs: surrogates without their other half
    "\u2028\u2029"  # Zl and Zp
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Cf: marks of direction (UAX 9)
    "\u200b-\u200d\u2060-\u2065\ufeff"  # Cf: what has no width
    "\U000e0000-\U000e007f"  # Cf: tags, which can carry a text that nobody sees
)
_IN_TEXT, _IN_LINE = f"[{_HIDDEN}]", f"[{_HIDDEN}\t\n]"  # compiled when first needed


def escaped(text: str, one_line: bool = False) -> str:
    """The text for a terminal, with each such character written as its escape, like `\\x1b`. one_line: those of tab and
    line break, too."""
    if text.isprintable():  # as most texts are, and none of these characters is
        return text

    return re.sub(_IN_LINE if one_line else _IN_TEXT,
                  lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def pictured(text: str) -> str:
    """The text for a page, with each such character as a sign that readers see: control pictures for C0, code points
    like ⟨U+202E⟩ for the rest."""
    return text if text.isprintable() else re.sub(_IN_TEXT, _picture, text)


def _picture(found: re.Match[str]) -> str:
    return chr(0x2400 + ord(found[0])) if found[0] < " " else f"⟨U+{ord(found[0]):04X}⟩"
