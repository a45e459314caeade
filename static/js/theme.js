// Blocking and tiny: runs in <head>, before the first paint, so that a chosen theme never flashes.
(function () {
  var root = document.documentElement;
  root.dataset.js = "";
  try {
    var theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch (_) {
    // Storage may be forbidden; then the system's scheme counts.
  }
})();
