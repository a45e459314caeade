"""axe-core's verdict on the page that is open: what it finds serious or critical, in both themes."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

AXE = (Path(__file__).parents[1] / "vendor" / "axe.min.js").read_text()
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# A theme is colours and nothing else: in the other one, only these rules can say something new.
ABOUT_COLORS = ["color-contrast", "link-in-text-block"]
FIND = """async ({ within, runOnly, rules }) => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  for (let still = 0; still < 3; still += 1) {
    await frame();
    if (document.getAnimations().some((animation) => animation instanceof CSSTransition)) still = 0;
  }
  const found = await axe.run(within, { runOnly, rules, preload: false, resultTypes: ["violations"] });
  return found.violations
    .filter((violation) => ["serious", "critical"].includes(violation.impact))
    .map((violation) => [violation.id, ...violation.nodes.map((node) => node.failureSummary + " " + node.html)]);
}"""


def violations(page: Page, *, within: str = "html", left_out: tuple[str, ...] = ()) -> list[Any]:
    """Leaves the page in the light theme. For pages whose theme is the system's."""
    page.emulate_media(color_scheme="light")
    page.evaluate(AXE)
    options = {"within": within, "runOnly": STANDARDS, "rules": {rule: {"enabled": False} for rule in left_out}}
    found: list[Any] = page.evaluate(FIND, options)
    page.emulate_media(color_scheme="dark")
    colors = {"type": "rule", "values": ABOUT_COLORS}
    found += [["in the dark", *each] for each in page.evaluate(FIND, options | {"runOnly": colors, "rules": {}})]
    page.emulate_media(color_scheme="light")
    return found
