// [data-print] prints the page: recovery codes, statements.
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-print]")) window.print();
});
