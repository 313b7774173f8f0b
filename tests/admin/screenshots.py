# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pictures of every page, on a desktop and a phone, light and dark: `python -m tests.admin.screenshots [DIRECTORY]`.

They go to docs/screenshots, one JPEG a page and surrounding. Run it after a change of the pages, and look at them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.admin import browsers
from tests.admin.client import OWNER, PASSWORD
from tests.admin.sample import fill
from tests.admin.test_browser import Visitor, serving

TALLEST = 1700
SIZES = {"desktop": (1280, 800), "phone": (390, 800)}


def shoot(page: Any, file: Path) -> None:
    """The page from its head on, but not the whole of a long history."""
    width, height = page.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, TALLEST)}
    page.screenshot(path=file, type="jpeg", quality=60, full_page=True, clip=clip)


def main(target: Path) -> int:
    target.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as work, browsers.browsers() as programs:
        chrome = programs("chromium")

        with serving("gunicorn-sync", Path(work), make=False) as site, Visitor(chrome, site, viewport=None) as visitor:
            for name, (width, height) in SIZES.items():
                for scheme in ("light", "dark"):
                    visitor.page.set_viewport_size({"width": width, "height": height})
                    visitor.page.emulate_media(color_scheme=scheme)
                    visitor.go()
                    shoot(visitor.page, target / f"begin-{name}-{scheme}.jpg")

        with serving("gunicorn-sync", Path(work)) as site:
            pages = fill(site.installation, "https://shop.example/cgi-bin/webscheduler.cgi")
            site.own()

            for name, (width, height) in SIZES.items():
                for scheme in ("light", "dark"):
                    size = {"width": width, "height": height}

                    with Visitor(chrome, site, viewport=size, color_scheme=scheme) as visitor:
                        shots = {"sign-in": "sign-in", "setup": "setup", **pages}

                        for what, path in shots.items():
                            visitor.go(path)

                            if what == "setup" and visitor.page.locator("#code").count() == 0:
                                visitor.page.click("button.main")

                            shoot(visitor.page, target / f"{what}-{name}-{scheme}.jpg")

                            if what == "setup":
                                visitor.sign_in(OWNER, PASSWORD)

    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/screenshots")))
