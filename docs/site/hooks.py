# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the site needs beyond mkdocs: the pages at the top of the repository, and the language of French pages.

Rule: a Markdown page is for its readers in the repository; what a site needs otherwise is changed on its way here.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
PROJECT = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)([^)\s]*\))")
LOADED = re.compile(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*\bhref=\"?(?:https?:)?//")


def on_config(config: Any) -> Any:
    """Names anchors as GitHub does, so that a link works in both places."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages at the top of the repository, below project/."""
    for name in PROJECT:
        files.append(File.generated(config, f"project/{name}", content=(ROOT / name).read_text(encoding="utf-8")))

    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links as they are in the repository into those of the site."""
    here = page.file.src_uri
    place = posixpath.dirname(here.removeprefix("project/") if here.startswith("project/") else f"docs/{here}")

    def moved(found: re.Match[str]) -> str:
        before, target, rest = found.groups()
        path = posixpath.normpath(posixpath.join(place, target))

        if re.match(r"[a-z]+:", target):
            return found[0]

        if os.path.isdir(ROOT / path):
            path = posixpath.join(path, "README.md")

        path = f"docs/project/{path}" if path in PROJECT else path
        return before + posixpath.relpath(path, posixpath.dirname(f"docs/{here}")) + rest

    return LINK.sub(moved, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Says to browsers and screen readers that a French page is French; no page may load anything from elsewhere."""
    if LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from the network")

    return output.replace('<html lang="en"', '<html lang="fr"', 1) if ".fr." in page.file.src_uri else output
