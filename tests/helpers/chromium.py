"""Pages in headless Chromium: what a script found in them, and what the console said."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(BROWSER is None, reason=f"no Chromium here: none of {', '.join(NAMES)}")

PROBE = """
<script>
window.addEventListener("error", (event) => { document.documentElement.dataset.broken = event.message; });
window.addEventListener("load", async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const drawn = async (part) => {
    for (const box of part.querySelectorAll(".plot")) {
      if (!box.dataset.drawn) await box.draw();
    }
    return part.querySelectorAll(".plot[data-drawn]").length;
  };
  const found = {};
  try { await (async () => { %s })(); } catch (error) { found.error = String(error); }
  const place = document.createElement("pre");
  place.id = "found";
  place.textContent = JSON.stringify(found);
  document.body.append(place);
});
</script></body>"""


@dataclass(frozen=True)
class Seen:
    """What the script found, and the lines that the page wrote to the console."""

    found: dict[str, Any]
    console: list[str]


def visit(page: str, folder: Path, script: str, address: str = "") -> Seen:
    """Open `page` and run `script`, which fills `found` and may `await drawn(element)` and `pause(ms)`."""
    path = folder / "page.html"
    path.write_text(page.replace("</body>", PROBE % script), encoding="utf-8")
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--window-size=1280,1000",
        "--virtual-time-budget=20000", "--dump-dom", f"{path.as_uri()}{address}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told, f"the script never ended: {done.stderr[-2000:]}"
    return Seen(json.loads(html.unescape(told[1])), [x for x in done.stderr.splitlines() if "CONSOLE" in x])
