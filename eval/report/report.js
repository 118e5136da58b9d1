// Adds sorting, hiding a configuration, and reading a chart's values under the pointer. The page
// works without it.
document.documentElement.classList.add("js");
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const press = (button, on) => button.setAttribute("aria-pressed", on);

for (const button of all(".legend button"))
  button.addEventListener("click", () => {
    const hidden = document.body.classList.toggle("hide-" + button.dataset.entry);
    press(button, !hidden);
  });

for (const button of all(".order button"))
  button.addEventListener("click", () => {
    for (const other of all(".order button")) press(other, other === button);
    const key = button.dataset.key;
    const compare = (a, b) => key === "name"
      ? a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true })
      : a.dataset.rank - b.dataset.rank;
    for (const list of all(".sorted"))
      list.append(...[...list.children].sort(compare));
  });

for (const table of all("table.sortable"))
  all("thead th", table).forEach((head, column) => {
    let sign = -1;
    head.addEventListener("click", () => {
      const value = row => {
        const text = row.cells[column].textContent;
        return isNaN(parseFloat(text)) ? text : parseFloat(text);
      };
      const body = table.tBodies[0];
      const step = sign;
      body.append(...[...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (typeof x !== typeof y) return typeof x === "string" ? 1 : -1;
        return step * (x < y ? -1 : x > y ? 1 : 0);
      }));
      sign = -sign;
    });
  });

for (const figure of all(".charts figure")) {
  const chart = figure.querySelector("svg"), cursor = chart.querySelector(".cursor");
  const readout = figure.querySelector(".readout");
  const frames = JSON.parse(figure.closest("article").dataset.frames);
  const [left, right, top, bottom] = JSON.parse(document.body.dataset.plot);
  const last = frames.length - 1;
  const scale = Number(document.body.dataset.scale), digits = scale === 1 ? 2 : 0;
  const place = step => left + (right - left) * (last ? step / last : .5);
  const lines = all("g[data-name]", chart).reverse().map(group => {
    const points = all("polyline", group).flatMap(line => [...line.points]);
    const dots = all(".dot", group).map(dot => (
      { x: dot.cx.baseVal.value, y: dot.cy.baseVal.value }));
    return { group, points: [...points, ...dots] };
  });
  chart.addEventListener("pointermove", event => {
    const pointer = new DOMPoint(event.clientX, event.clientY);
    const at = pointer.matrixTransform(chart.getScreenCTM().inverse());
    const share = Math.min(1, Math.max(0, (at.x - left) / (right - left)));
    const step = Math.round(share * last), x = place(step);
    const readings = lines.filter(line => line.group.getBoundingClientRect().width).map(line => {
      const point = line.points.find(p => Math.abs(p.x - x) < .06);
      const value = point ? (scale * (bottom - point.y) / (bottom - top)).toFixed(digits) : "-";
      return line.group.dataset.name + " " + value;
    });
    readout.textContent = frames[step] + ": " + readings.join(", ");
    cursor.setAttribute("x1", x); cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
  });
  chart.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden"); readout.textContent = "";
  });
}

addEventListener("keydown", event => {
  if (event.key === "Escape" && document.querySelector(".shot:target")) location.hash = "#-";
});
