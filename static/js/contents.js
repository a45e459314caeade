// nav[data-contents]: marks the section being read, the last whose heading has passed under the page's header.
const PASSED_PX = 120;
const nav = document.querySelector("nav[data-contents]");

// The page's last sections can't come up that far: at its end the one that was asked for counts, else the last.
function atEnd(sections) {
  if (scrollY + innerHeight < document.documentElement.scrollHeight - 2) return undefined;
  const asked = sections.find((section) => `#${section.id}` === location.hash);
  return asked && asked.getBoundingClientRect().top >= 0 ? asked : sections.at(-1);
}

function watch() {
  const links = new Map([...nav.querySelectorAll('a[href^="#"]')].map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  let waiting = false;
  const mark = () => {
    waiting = false;
    const passed = sections.findLast((section) => section.getBoundingClientRect().top < PASSED_PX);
    const current = atEnd(sections) ?? passed ?? sections[0];
    for (const [id, link] of links) {
      if (id === current.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  const markSoon = () => {
    if (!waiting) requestAnimationFrame(mark);
    waiting = true;
  };
  addEventListener("scroll", markSoon, { passive: true });
  addEventListener("resize", markSoon, { passive: true });
  addEventListener("hashchange", markSoon);
  mark();
}

if (nav) watch();
