// The table of all cases: one page of rows at a time, so that ten thousand of them cost the browser nothing.

const raw = (column, row) => (column.kind === "text" ? column.words[column.codes[row]] : column.values[row]);

const digits = (value, count) => {
  if (value === 0) return "0";
  const places = Math.max(0, count - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(places, 12));
};

const seconds = (value) => {
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) {
    if (value >= size) return `${digits(value / size, 4)} ${unit}`;
  }
  return `${digits(value / 1e-9, 4)} ns`;
};

const printed = {
  text: (value) => value,
  number: (value) => digits(value, 3),
  whole: (value) => String(Math.round(value)),
  percent: (value) => `${digits(value * 100, value >= 0.1 ? 3 : 2)} %`,
  time: seconds,
};

const cell = (column, row) => {
  const value = raw(column, row);
  return value === null || value === undefined ? "" : printed[column.kind](value);
};

const element = (name, text, className) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};

const looks = (column) =>
  [column.kind === "text" ? "" : "number", column.paper ? "" : "screen"].filter(Boolean).join(" ");

const COMPARED = {
  "=": (a, b) => a === b,
  "!=": (a, b) => a !== b,
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
};
const UNITS = { ns: 1e-9, µs: 1e-6, us: 1e-6, ms: 1e-3, s: 1, "%": 0.01 };

function caseTable(columns, count) {
  const body = document.querySelector("#table tbody");
  const headings = document.querySelector("#table thead tr");
  const filter = document.getElementById("filter");
  const size = document.getElementById("page-size");
  const button = (name) => document.getElementById(name);
  let order = Array.from({ length: count }, (_, row) => row);
  let sorted = { column: null, descending: false };
  let page = 0;
  let texts = null;

  const named = (name) =>
    columns.find((column) => column.key === name || column.title.toLowerCase().replaceAll(" ", "") === name);

  // A condition on one column, or null where the word is no such condition.
  function condition(word) {
    const found = /^(.+?)(<=|>=|!=|=|<|>)(.+)$/u.exec(word);
    const column = found && named(found[1]);
    if (!column) return null;
    const compared = COMPARED[found[2]];
    if (column.kind === "text") return (row) => compared((raw(column, row) ?? "").toLowerCase(), found[3]);
    const quantity = /^(-?[\d.]+(?:e[-+]?\d+)?)\s*(ns|µs|us|ms|s|%)?$/u.exec(found[3]);
    if (!quantity) return null;
    const scale = quantity[2] ? UNITS[quantity[2]] : column.kind === "percent" ? 0.01 : 1;
    const wanted = Number(quantity[1]) * scale;
    return (row) => raw(column, row) !== null && compared(raw(column, row), wanted);
  }

  function select() {
    const words = filter.value.toLowerCase().split(/\s+/u).filter(Boolean);
    const conditions = [];
    const plain = [];
    for (const word of words) {
      const found = condition(word);
      if (found) conditions.push(found);
      else plain.push(word);
    }
    if (plain.length && !texts) {
      const shown = columns.filter((column) => column.kind === "text");
      texts = Array.from({ length: count }, (_, row) =>
        shown.map((column) => raw(column, row) ?? "").join("\n").toLowerCase());
    }
    const kept = [];
    for (let row = 0; row < count; row += 1) {
      if (plain.every((word) => texts[row].includes(word)) && conditions.every((holds) => holds(row))) kept.push(row);
    }
    order = arranged(kept);
    page = 0;
    show();
  }

  function arranged(rows) {
    const { column, descending } = sorted;
    if (!column) return rows;
    const sign = descending ? -1 : 1;
    const having = rows.filter((row) => raw(column, row) !== null);
    const without = rows.filter((row) => raw(column, row) === null);
    const text = new Intl.Collator("en", { numeric: true });
    having.sort((a, b) => {
      const [left, right] = [raw(column, a), raw(column, b)];
      return sign * (column.kind === "text" ? text.compare(left, right) : left - right) || a - b;
    });
    return having.concat(without);
  }

  function show() {
    const most = Number(size.value);
    const pages = Math.max(1, Math.ceil(order.length / most));
    page = Math.min(Math.max(page, 0), pages - 1);
    const rows = order.slice(page * most, (page + 1) * most);
    body.replaceChildren(...rows.map(tableRow));
    const range = rows.length ? `${page * most + 1} to ${page * most + rows.length} of ` : "";
    const all = order.length === count ? "" : ` (of ${count.toLocaleString("en")} in all)`;
    document.getElementById("shown").textContent = `${range}${order.length.toLocaleString("en")} rows${all}`;
    button("first").disabled = button("previous").disabled = page === 0;
    button("next").disabled = button("last").disabled = page === pages - 1;
  }

  function tableRow(row) {
    const made = element("tr");
    for (const column of columns) {
      const text = cell(column, row);
      made.append(element("td", text, looks(column)));
      if (column.key === "status" && text !== "ok") made.className = "bad";
    }
    return made;
  }

  function sort(column, heading) {
    const descending = sorted.column === column ? !sorted.descending : column.kind !== "text";
    sorted = { column, descending };
    for (const other of headings.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    order = arranged(order);
    page = 0;
    show();
  }

  for (const column of columns) {
    const heading = element("th", undefined, looks(column));
    heading.scope = "col";
    const sorter = element("button", column.title);
    sorter.type = "button";
    sorter.title = column.hint;
    sorter.addEventListener("click", () => sort(column, heading));
    heading.append(sorter);
    headings.append(heading);
  }
  filter.addEventListener("input", select);
  size.addEventListener("change", () => { page = 0; show(); });
  const turn = (name, to) => button(name).addEventListener("click", () => { page = to(); show(); });
  turn("first", () => 0);
  turn("previous", () => page - 1);
  turn("next", () => page + 1);
  turn("last", () => Infinity);
  show();
}
