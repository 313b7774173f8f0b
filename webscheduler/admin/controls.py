# SPDX-License-Identifier: LGPL-3.0-or-later
"""Forms made from a table of fields: what the controls show, which of them were changed, and their HTML.

The rules: only controls that were changed are saved, so that a value that a form cannot show exactly stays as it is.
A form carries a stamp of what it showed. What somebody else saved meanwhile is shown beside what was typed before
anything is saved, and is kept where nothing was typed.
Errors are shown beside their fields, and nothing typed is lost. The help beside a control is the sentence of its field,
the same as on the command line and in the docs.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from typing import Any, Callable

from .. import zones
from ..errors import BadInput
from ..store.fields import Field, from_text
from .show import field, options
from .web import Html, Visit, error_text, escape, h

SEVERAL_LINES = ("description", "ipAllowlist", "onSuccess", "onFailure", "privateHosts")
CHECKED = Html(" checked")
CHANGED = "Somebody else changed this in the meantime. Look at it, and save again."


class Form:
    """A form with stored values, or with what somebody typed.

    rules: the field of each control. start: the stored values as a browser would send them back; typed: what the
    controls hold now. errors: by control; "" is for the whole form. choices, about: options (values and texts) and help
    of a control, if they differ from those of its field. fills: the `autocomplete` word of a control (HTML, autofill),
    which then must not be empty. beside: what a control does not show, or ("") what the form is about besides its
    controls, for its stamp.
    """

    def __init__(self, visit: Visit, rules: dict[str, Field], values: dict[str, Any]) -> None:
        self.visit, self.rules = visit, rules
        self.start = {name: _shown(name, rule, values[name]) for name, rule in rules.items()}
        self.typed = {name: visit.form.get(name, "") for name in rules} if visit.method == "POST" else dict(self.start)
        self.errors: dict[str, Html] = {}
        self.choices: dict[str, Sequence[tuple[str, object]]] = {}
        self.about: dict[str, Html] = {}
        self.fills: dict[str, str] = {}
        self.beside: dict[str, str] = {}

    def changed(self, every: bool = False, parse: Callable[[str, Field, str], Any] = from_text) -> dict[str, Any]:
        """The values of the changed controls, or of all; what is wrong goes to `errors`."""
        found = {}

        for name, rule in self.rules.items():
            if every or self.typed[name] != self.start[name]:
                off = "false" if rule.kind == "bool" and not rule.nullable else ""

                try:
                    found[name] = parse(name, rule, self.typed[name].strip() or off)
                except BadInput as error:
                    self.errors.setdefault(name, error_text(self.visit, error))

        return found

    def stamp(self) -> str:
        """What the form shows, for its hidden field `was`."""
        return " ".join([*(f"{name}:{mark(text)}" for name, text in self.start.items()),
                         *(f"{name}*:{mark(text)}" for name, text in self.beside.items())])

    def meet(self, message: Html | None = None, together: Sequence[str] = (), row: str = "", said: object = "") -> None:
        """Say what somebody else saved after the sent form was made, each at its control, and take it over where
        nothing was typed. together: controls that make one value, which is shown as `said` at `row`."""
        was = {name: text for name, _, text in (pair.partition(":") for pair in self.visit.form.get("was", "").split())}
        typed = {name for name, text in self.typed.items() if mark(text) != was.get(name)}
        typed.update(together if typed & set(together) else ())
        theirs = [name for name, stored in self.start.items()
                  if mark(stored) != was.get(name) and stored != self.typed[name]]

        for name in theirs:
            self.errors[row if name in together else name] = self.visit.t(
                "Somebody else saved this in the meantime: {value}",
                value=said if name in together else self._said(name, self.start[name]))
            self.typed[name] = self.typed[name] if name in typed else self.start[name]

        for name, text in self.beside.items():
            if mark(text) != was.get(f"{name}*") and (name in typed or not name):
                self.errors.setdefault(name, self.visit.t(CHANGED))

        if theirs:
            self.errors[""] = message or self.visit.t(CHANGED)

    def _said(self, name: str, text: str) -> object:
        if self.rules[name].kind == "bool":
            return self.visit.t({"true": "yes", "false": "no"}.get(text, "as in the settings" if self.rules[
                name].nullable else "no"))

        return text or "–"

    def problem(self) -> Html | None:
        """The message at the top of the page, if something is wrong."""
        marked = self.visit.t("Not saved yet: correct the fields marked below.") if self.errors else None
        return self.errors.get("") or marked

    def sections(self, table: dict[str, dict[str, str]], made: dict[str, Html]) -> list[Html]:
        """The controls under their headings. table: heading -> control -> label. made: rows that the caller made."""
        parts = []

        for heading, labels in table.items():
            rows = [made[name] if name in made else self.row(name, label) for name, label in labels.items()
                    if name in made or name in self.rules]
            parts += [self.visit.html("section", name=self.visit.t(heading), rows=rows)] if rows else []

        return parts

    def row(self, name: str, label: str) -> Html:
        visit, rule, value = self.visit, self.rules[name], self.typed[name]
        pairs = self.choices.get(name, ())
        template = "field"

        if rule.kind == "choice":
            pairs = pairs or [(each, each) for each in rule.limit]
        elif rule.kind == "bool" and rule.nullable:
            pairs = ("", visit.t("as in the settings")), ("true", visit.t("yes")), ("false", visit.t("no"))

        if pairs:
            control = h("<select common>{options}</select>", options=options(pairs, value))
        elif rule.kind == "bool":
            template = "check"
            control = h('<input common type="checkbox" value="true"{checked}>', checked=CHECKED if value else "")
        elif name == "timezone":
            control = h('<input common value="{value}" list="zones" autocomplete="off"><datalist id="zones">{zones}'
                        "</datalist>", value=value, zones=[h('<option value="{zone}">', zone=zone)
                                                           for zone in zones.known()])
        elif name in SEVERAL_LINES:
            control = h('<textarea common rows="3">\n{value}</textarea>', value=value)
        elif name in self.fills:
            secret = self.fills[name].endswith("password")
            control = h('<input common type="{kind}" value="{value}" autocomplete="{fill}" autocapitalize="none" '
                        "required>", kind="password" if secret else "text", value="" if secret else value,
                        fill=self.fills[name])
        else:
            control = h('<input common value="{value}" autocomplete="off"{more}>', value=value, more=Html(
                ' inputmode="numeric" class="short"') if rule.kind in ("int", "seconds") else "")

        about = self.about.get(name) or visit.t(rule.sentence)
        return field(visit, name, label, control, about, self.errors.get(name), template)


def mark(text: str) -> str:
    """A short hash of a control's value: a form's field is no place for all that it shows, twice."""
    return hashlib.sha256(text.replace("\r\n", "\n").strip("\n").encode("utf-8", "replace")).hexdigest()[:8]


def _shown(name: str, rule: Field, value: Any) -> str:
    """A value as a browser sends it back: invisible characters are shown, and one line has no line breaks."""
    if isinstance(value, bool):
        return "true" if value else "false" if rule.nullable else ""

    text = "" if value is None else "\n".join(value) if isinstance(value, list) else str(value)
    return html.unescape(escape(text if name in SEVERAL_LINES else text.replace("\n", "␊")))
