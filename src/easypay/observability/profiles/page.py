"""A profile as one HTML file that needs nothing else: a flame graph with search and zoom. Pure."""

import json
from html import escape
from typing import Any, Final

from easypay.observability.profiles.model import Profile

_TITLES: Final = {
    "cpu": "CPU time: samples by where the process was running",
    "wait": "Waiting: samples of every task by what it waits for",
    "memory": "Memory: bytes taken meanwhile and not given back, by line",
}
_STYLE: Final = """
body { font: 13px system-ui, sans-serif; margin: 16px; color: #222; background: #fff }
h1 { font-size: 16px; margin: 0 0 8px } #bar { margin: 8px 0 } input { width: 22em; padding: 3px }
#graph { position: relative } #said { min-height: 1.4em; white-space: pre-wrap }
#graph button { position: absolute; height: 17px; font: 11px monospace; border: 0; margin: 0;
  padding: 0 3px; text-align: left; overflow: hidden; white-space: nowrap; cursor: pointer;
  border-radius: 2px; box-shadow: inset 0 0 0 1px #fff }
#graph .found { background: #7a3ff2 !important; color: #fff }
@media (prefers-color-scheme: dark) {
  body { background: #16181d; color: #ddd } #graph button { color: #111 } }
"""
_SCRIPT: Final = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const graph = document.getElementById("graph"), said = document.getElementById("said");
const search = document.getElementById("search"), back = document.getElementById("back");
const root = {name: "all", value: 0, children: new Map(), up: null};
for (const [frames, value] of data.stacks) {
  let node = root;
  node.value += value;
  for (const name of frames) {
    let next = node.children.get(name);
    if (!next) node.children.set(name, next = {name, value: 0, children: new Map(), up: node});
    next.value += value;
    node = next;
  }
}
let shown = root;
const part = (node) => (100 * node.value / (root.value || 1)).toFixed(1) + " %";
const text = (node) =>
  `${node.name}: ${node.value.toLocaleString("en")} ${data.unit}, ${part(node)}`;
const hue = (name) => {
  const ours = name.includes("(easypay/") || !name.includes("(");
  let hash = 0;
  for (const letter of name.split(":")[0]) hash = (hash * 31 + letter.charCodeAt(0)) % 997;
  return ours ? `hsl(${20 + hash % 30} 90% ${62 + hash % 14}%)`
              : `hsl(${190 + hash % 40} 45% ${70 + hash % 12}%)`;
};
function draw() {
  const wanted = search.value.toLowerCase();
  const found = (node) => wanted !== "" && node.name.toLowerCase().includes(wanted);
  graph.textContent = "";
  let deepest = 0, total = 0;
  const place = (node, left, width, depth, counted) => {
    const hit = found(node);
    if (hit && !counted) total += node.value;
    if (width < 0.08) {
      if (!hit && !counted) for (const each of node.children.values()) place(each, 0, 0, 0, false);
      return;
    }
    deepest = Math.max(deepest, depth);
    const box = document.createElement("button");
    box.textContent = node.name;
    box.title = text(node);
    box.style.cssText =
      `left:${left}%;width:${width}%;top:${depth * 18}px;background:${hue(node.name)}`;
    if (hit) box.className = "found";
    box.onclick = () => { shown = node; draw(); };
    box.onmouseenter = box.onfocus = () => { said.textContent = text(node); };
    graph.append(box);
    const children = [...node.children.values()].sort((a, b) => b.value - a.value);
    for (const each of children) {
      const part = width * each.value / node.value;
      place(each, left, part, depth + 1, counted || hit);
      left += part;
    }
  };
  place(shown, 0, 100, 0, false);
  graph.style.height = `${(deepest + 1) * 18}px`;
  back.disabled = shown === root;
  said.textContent = wanted === "" ? text(shown)
    : `found: ${total.toLocaleString("en")} ${data.unit}, ` +
      `${(100 * total / (shown.value || 1)).toFixed(1)} % of what is shown`;
}
search.oninput = draw;
back.onclick = () => { shown = root; draw(); };
onkeydown = (event) => { if (event.key === "Escape") { search.value = ""; shown = root; draw(); } };
draw();
"""


def page(profile: Profile) -> str:
    """Return the file."""
    data: dict[str, Any] = {
        "unit": profile.unit,
        "stacks": [[stack.frames, stack.value] for stack in profile.stacks],
    }
    # Within a script only "<" could end it.
    inside = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    about = f"process {profile.pid}, {profile.seconds:g} s"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="content-security-policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{escape(profile.what)} profile, {about}</title>
<style>{_STYLE}</style>
<h1>{escape(_TITLES[profile.what])} ({about})</h1>
<div id="bar"><input id="search" placeholder="Search functions, files, routes" type="search">
<button id="back">Show all</button></div>
<div id="said"></div>
<div id="graph"></div>
<p>A box is a call; below it is what it called; its width is its part. Click one to zoom in; Escape
shows all. Routes and tasks come first. Warm: EasyPay's own code. Cold: everybody else's.</p>
<script id="data" type="application/json">{inside}</script>
<script>{_SCRIPT}</script>
</html>
"""
