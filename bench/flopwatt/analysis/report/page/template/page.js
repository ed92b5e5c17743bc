// The page: its data, the order in which it comes to life, and its buttons.

const DATA = JSON.parse(document.getElementById("data").textContent);
const plotter = figurePlotter(DATA);
const main = document.getElementById("content");
const pause = () => new Promise((done) => setTimeout(done));

if (document.getElementById("table")) caseTable(DATA.columns, DATA.rows);

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = document.getElementById("theme");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

function themed() {
  theme.setAttribute("aria-pressed", String(isDark()));
  plotter.recolour();
}

theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  themed();
});
dark.addEventListener("change", themed);
addEventListener("beforeprint", () => plotter.printing(true));
addEventListener("afterprint", () => plotter.printing(false));

const traceChoice = document.getElementById("trace");
const tracePlaces = [...document.querySelectorAll("#traces .plot")];

async function drawTrace() {
  if (!traceChoice) return;
  const trace = DATA.traces[Number(traceChoice.value)];
  for (const [index, place] of tracePlaces.entries()) {
    plotter.forget(`trace-${index}`);
    place.replaceChildren();
    place.hidden = index >= trace.figures.length;
    if (!place.hidden) await plotter.draw(place, `trace-${index}`, trace.figures[index].spec);
  }
  const note = trace.stride > 1 ? `One in ${trace.stride} readings is drawn.` : "";
  document.getElementById("trace-note").textContent = note;
}

traceChoice?.addEventListener("change", drawTrace);

const copy = document.getElementById("copy-methods");
copy?.addEventListener("click", async () => {
  const text = document.getElementById("methods-text");
  const status = document.getElementById("copied");
  try {
    await navigator.clipboard.writeText(text.innerText);
    status.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(text);
    status.textContent = "Selected: copy it with the keyboard.";
  }
});

for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", () => plotter.save(button.dataset.save));
}

async function drawAll() {
  themed();
  for (const { name, spec } of DATA.figures) {
    await plotter.draw(document.getElementById(`plot-${name}`), name, spec);
    await pause();
  }
  await drawTrace();
  main.setAttribute("aria-busy", "false");
}

drawAll();
