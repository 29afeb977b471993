// Tables that sort by the column whose heading is pressed.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  headings.forEach((heading, column) => {
    const button = rl.make("button", heading.textContent);
    button.type = "button";
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.classList.contains("num") ? heading.ariaSort !== "descending" : heading.ariaSort === "ascending";
      const rows = [...body.rows], values = new Map(rows.map(row => [row, key(row, column)]));
      const numbers = [...values.values()].every(value => value === "" || value === "nan" || !Number.isNaN(Number(value)) || /^-?inf$/.test(value));
      const rank = value => (value === "" || value === "nan" ? -Infinity : /inf$/.test(value) ? (value[0] === "-" ? -Infinity : Infinity) : Number(value));
      rows.sort((a, b) => {
        const x = values.get(a), y = values.get(b);
        const order = numbers ? (rank(x) === rank(y) ? 0 : rank(x) - rank(y)) : x.localeCompare(y);
        return down ? -order : order;
      });
      headings.forEach(each => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.replaceChildren(...rows);
    });
  });
}
