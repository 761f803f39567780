// The filters above long tables. Without this script the tables stand whole and the form is hidden.
"use strict";

for (const form of document.querySelectorAll("form.dlc-filters")) {
  const tables = [...document.querySelectorAll(form.dataset.tables)];
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
  const texts = rows.map((row) => row.textContent.toLowerCase().replace(/\s+/g, " "));
  const count = form.querySelector("[role=status]");
  const menus = [...form.querySelectorAll("select")];

  const apply = () => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, at) => {
      const fits = menus.every(
        (menu) => !menu.value || (row.dataset[menu.name] ?? "").split(" ").includes(menu.value),
      );
      row.hidden = !(fits && words.every((word) => texts[at].includes(word)));
      shown += row.hidden ? 0 : 1;
    });
    for (const table of tables) {
      table.hidden = [...table.tBodies[0].rows].every((row) => row.hidden);
    }
    const noun = rows.length === 1 ? form.dataset.one : form.dataset.many;
    count.textContent = `${shown} of ${rows.length} ${noun}`;
  };

  // A link to a row that is filtered away shows all rows again.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && rows.some((row) => row.hidden && row.contains(target))) {
      form.reset();
      apply();
      target.scrollIntoView();
    }
  };

  // An address such as ledger.html?kind=refute arrives filtered.
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements.namedItem(name);
    if (field) field.value = value;
  }
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  window.addEventListener("hashchange", reveal);
  form.hidden = false;
  apply();
  reveal();
}
