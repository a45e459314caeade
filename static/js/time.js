// time[data-relative] keeps saying how long ago it was; the exact moment is in its title, in the reader's own zone.
const UNITS = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const exact = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "long" });

function relative(moment) {
  let seconds = (moment - Date.now()) / 1000;
  if (seconds > 0) seconds += 59; // what was just set to a day from now is "tomorrow", not "in 23 hours"
  const unit = UNITS.find(([, length]) => Math.abs(seconds) >= length);
  return unit ? words.format(Math.trunc(seconds / unit[1]), unit[0]) : "just now";
}

function refresh(root = document) {
  for (const element of root.querySelectorAll("time[data-relative]")) {
    const moment = new Date(element.dateTime);
    const text = relative(moment);
    if (element.textContent !== text) element.textContent = text;
    element.title = exact.format(moment);
  }
}

refresh();
setInterval(refresh, 30_000);
document.addEventListener("htmx:afterSwap", () => refresh());
