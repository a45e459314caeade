// A search field over a list of choices: [data-filter] names the list. What is ticked stays, seen or not.

for (const box of document.querySelectorAll("[data-filter]")) {
  const items = [...document.getElementById(box.dataset.filter).children];
  const field = box.querySelector("input");
  const count = box.querySelector("[data-filter-count]");
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const item of items) {
      const text = item.textContent.toLowerCase();
      item.hidden = !words.every((word) => text.includes(word));
    }
    count.textContent = `${items.filter((item) => !item.hidden).length} of ${items.length}`;
  };
  field.addEventListener("input", show);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault(); // it would send the form
  });
  box.hidden = false;
  show();
}
