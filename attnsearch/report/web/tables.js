for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.children) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[head.cellIndex].dataset.v;
    const order = head.classList.contains("num")
      ? (a, b) => Number(value(a)) - Number(value(b))
      : (a, b) => value(a).localeCompare(value(b), undefined, { numeric: true });
    const known = [...body.rows].filter((row) => value(row) !== "");
    const unknown = [...body.rows].filter((row) => value(row) === "");
    known.sort((a, b) => (up ? 1 : -1) * order(a, b));
    body.append(...known, ...unknown);
  });
}
