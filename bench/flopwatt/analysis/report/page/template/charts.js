// Figures: drawn one after the other on canvas, recoloured with the page, described on hover.

const HOVER_COLUMNS = [
  "board", "role", "phase", "shape", "dtype", "layout", "backend", "config", "regime", "inputs", "time_s", "tflops",
  "peak_fraction", "power_w", "tflops_per_w", "clock_mhz",
];
const NARROW = 560;

function figurePlotter(data) {
  const views = new Map();
  const hover = document.getElementById("hover");
  const shown = HOVER_COLUMNS.map((key) => data.columns.find((column) => column.key === key)).filter(Boolean);
  let light = false;

  const colours = () => {
    if (light) return data.light;
    const style = getComputedStyle(document.documentElement);
    return Object.fromEntries(Object.keys(data.light).map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  };

  const coloured = (view) => {
    for (const [name, colour] of Object.entries(colours())) view.signal(name, colour);
    return view;
  };

  function describe(handler, event, item, value) {
    const datum = item && item.datum;
    if (value === null || value === undefined || !datum || (datum.i === undefined && datum.t === undefined)) {
      hover.hidden = true;
      return;
    }
    hover.replaceChildren();
    if (typeof datum.t === "string") hover.append(element("p", datum.t));
    if (datum.i !== undefined) {
      const list = element("dl");
      for (const column of shown) {
        const text = cell(column, datum.i);
        if (text !== "") list.append(element("dt", column.title), element("dd", text));
      }
      hover.append(list);
    }
    hover.hidden = false;
    const beside = event.clientX + 16 + hover.offsetWidth < innerWidth;
    hover.style.left = `${Math.max(4, beside ? event.clientX + 16 : event.clientX - hover.offsetWidth - 12)}px`;
    hover.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - hover.offsetHeight - 8))}px`;
  }

  async function draw(place, name, spec) {
    const narrow = place.clientWidth < NARROW;
    const legend = { ...data.config.legend, columns: narrow ? 1 : 3, ...(narrow && { layout: { top: { anchor: "start", direction: "vertical" } } }), labelLimit: narrow ? 240 : 420 };
    const axis = { ...data.config.axis, labelLimit: narrow ? 110 : 260 };
    const made = await vegaEmbed(place, { ...spec, config: { ...data.config, legend, axis } }, {
      mode: "vega-lite", renderer: "canvas", actions: false, ast: true, defaultStyle: false, tooltip: describe,
    });
    views.set(name, made);
    await coloured(made.view).runAsync();
  }

  function forget(name) {
    views.get(name)?.finalize();
    views.delete(name);
  }

  function recolour() {
    for (const { view } of views.values()) coloured(view).run();
  }

  // Printing is on white whatever the page is on.
  function printing(on) {
    light = on;
    recolour();
  }

  async function save(name) {
    const { view } = views.get(name);
    light = true;
    await coloured(view).background("#ffffff").runAsync();
    const link = element("a");
    link.href = await view.toImageURL("png", 2);
    link.download = `${name}.png`;
    link.click();
    light = false;
    await coloured(view).background(null).runAsync();
  }

  return { draw, forget, recolour, printing, save };
}
