"""A widget's own script in a plain page, without a notebook: the kernel's part is played from what it would say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PAGE = """<!doctype html><meta charset="utf-8">
<style>__CSS__</style>
<body __ATTRIBUTES__ style="margin:12px;background:__PAPER__;__VARIABLES__"><div id="here"></div>
<script type="module">
__ESM__
const said = __SAID__, traits = __TRAITS__, heard = {};
const tell = (event, ...rest) => (heard[event] ?? []).forEach(hear => hear(...rest));
window.model = {
  asked: [],
  get: name => traits[name],
  set(name, value) { traits[name] = value; if (name === "place") { traits.shown = said.explained[value] ?? ""; } },
  save_changes() { tell("change:shown"); },
  send(message) {
    this.asked.push(message);
    if (message.type === "hint") {
      const { place } = message;
      setTimeout(() => tell("msg:custom", { type: "hint", place, lines: said.hints[place] }), 20);
    }
  },
  on(event, hear) { (heard[event] ??= []).push(hear); },
  off() {},
  tell, traits,
};
window.leave = esmDefault.render({ model: window.model, el: document.getElementById("here") });
</script>"""
LIGHT = ("data-jp-theme-light='true'", "#ffffff", "--jp-content-font-color1:#1a1a1a;--jp-content-font-color2:#5c5c5c")
DARK = ("data-jp-theme-light='false'", "#111111", "--jp-content-font-color1:#fff;--jp-content-font-color2:#b8b8b8")
SYSTEM = ("", "Canvas", "")
"""Attributes of the body, its background and variables: JupyterLab's two themes, and a page without any."""


def write_page(widget: Any, path: Path, look: tuple[str, str, str] = LIGHT, places: int = 200) -> str:
    """Write the page and return its URL; the first `places` messages can be opened."""
    count = len([row for row in widget.rows if len(row) > 1])
    said = {
        "explained": {place: widget.explained(place) for place in range(min(count, places))},
        "hints": {place: widget.hint(place) for place in range(min(count, places))},
    }
    names = ("title", "nodes", "groups", "calls", "rows", "palette", "live", "place", "shown")
    traits = {name: getattr(widget, name) for name in names}
    attributes, paper, variables = look
    if variables:
        variables += f";--jp-layout-color0:{paper}"
    page = _PAGE
    for mark, text in {
        "__CSS__": str(widget._css), "__ESM__": str(widget._esm).replace("export default", "const esmDefault ="),
        "__ATTRIBUTES__": attributes, "__PAPER__": paper, "__VARIABLES__": variables,
        "__SAID__": _script(said), "__TRAITS__": _script(traits),
    }.items():  # fmt: skip
        page = page.replace(mark, text)
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


def _script(value: object) -> str:
    return json.dumps(value).replace("</", "<\\/")
