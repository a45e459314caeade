// nav[data-contents]: marks the section being read.
const nav = document.querySelector("nav[data-contents]");

function watch() {
  const links = new Map([...nav.querySelectorAll('a[href^="#"]')].map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    const passed = sections.filter((section) => section.getBoundingClientRect().top < 140);
    const current = (passed.at(-1) ?? sections[0]).id;
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  const observer = new IntersectionObserver(mark, { rootMargin: "-140px 0px 0px 0px", threshold: [0, 1] });
  for (const section of sections) observer.observe(section);
  mark();
}

if (nav) watch();
