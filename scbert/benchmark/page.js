// Sorting and downloads of every table of the page. Without this script the tables are still whole.
"use strict";

const LAST = null; // cells without a value come last, whichever way a column is sorted

function valueOf(cell) {
  const text = cell.dataset.value;
  if (text === undefined || text === "") return LAST;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(table, column, head) {
  const numbers = head.classList.contains("n");
  const before = head.getAttribute("aria-sort");
  const descending = before ? before === "ascending" : numbers; // numbers: the largest first
  for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, value: valueOf(row.cells[column]) }));
  rows.sort((a, b) => {
    if (a.value === LAST || b.value === LAST) return (a.value === LAST) - (b.value === LAST);
    return descending ? compare(b.value, a.value) : compare(a.value, b.value);
  });
  body.append(...rows.map((one) => one.row));
}

function makeSortable(table) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.title = head.title || "Sort by this column";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column, head));
    head.append(button);
  });
}

function quoted(text) {
  // A spreadsheet would take text that begins so for a formula.
  const safe = /^[=+@\t\r-]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function asCsv(table) {
  const heads = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent.trim());
  const rows = Array.from(table.tBodies[0].rows, (row) =>
    Array.from(row.cells, (cell) => cell.dataset.csv || ""),
  );
  return [heads, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function download(table) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([asCsv(table)], { type: "text/csv;charset=utf-8" }));
  link.download = `${table.id.replace("table-", "benchmark-")}.csv`;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
for (const button of document.querySelectorAll("button.download")) {
  button.hidden = false;
  button.addEventListener("click", () => download(document.getElementById(button.dataset.table)));
}
for (const box of document.querySelectorAll(".scroll")) {
  // Only what scrolls needs to be reached by keyboard.
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
}
