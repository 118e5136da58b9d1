"""The frame of an HTML report: one document that needs no other file, no network and no script.

The script only adds: sorting, hiding a configuration, reading a chart's numbers under the pointer.
"""

from html import escape

# Okabe and Ito's colours, which stay apart for colour-blind readers; on dark their lighter kin.
COLOURS_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b5539a", "#b07c00", "#3f9fd8")
COLOURS_DARK = ("#5cb8f0", "#ff8a4c", "#2fc99a", "#e79bd0", "#f2c14e", "#a9b8ff")

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --panel: #f6f7f9; --text: #16191d;
  --quiet: #5b6470; --rule: #dde1e6; --warn: #b3261e; KEYS_LIGHT }
@media (prefers-color-scheme: dark) { :root { --page: #131619; --panel: #1c2125; --text: #e8eaed;
  --quiet: #a0a8b2; --rule: #343b42; --warn: #ff8a80; KEYS_DARK } }
* { box-sizing: border-box; }
html { scroll-padding-top: 4rem; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 0 20px 60px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 2rem 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; }
h3 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
h4 { font-size: .85rem; font-weight: 600; margin: 1rem 0 .4rem; }
p { margin: .3rem 0; }
a { color: inherit; }
.quiet, figcaption, th { color: var(--quiet); }
.warn { border-left: 4px solid var(--warn); background: var(--panel); padding: .6rem 1rem;
  margin: 1.2rem 0; overflow-wrap: anywhere; }
.warn strong { color: var(--warn); }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  background: var(--c); margin-right: .45em; vertical-align: -.05em; }

.legend { position: sticky; top: 0; z-index: 2; background: var(--page);
  border-bottom: 1px solid var(--rule); display: flex; flex-wrap: wrap; gap: .2rem 1.2rem;
  padding: .5rem 0; margin-top: 1rem; }
.legend button { font: inherit; color: inherit; background: none; border: 0; padding: .15rem 0;
  cursor: pointer; }
.legend button[aria-pressed=false] { opacity: .4; text-decoration: line-through; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { font-weight: 600; font-size: .82rem; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.best { font-weight: 700; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9rem;
  vertical-align: top; }
.facts th { text-align: left; }
.facts td:first-child { color: var(--quiet); white-space: nowrap; min-width: 0; }
.sortable thead th { cursor: pointer; }
.sortable thead th:hover { color: var(--text); }

.bars { display: grid; gap: .55rem; }
.bars > div { display: grid; grid-template-columns: minmax(7rem, 13rem) 1fr; gap: .8rem;
  align-items: center; }
.bars a { text-decoration: none; overflow-wrap: anywhere; }
.bars a:hover { text-decoration: underline; }
.bar { display: grid; grid-template-columns: 1fr 3rem; align-items: center; gap: .5rem;
  font-size: .78rem; line-height: 1.15; font-variant-numeric: tabular-nums; }
.bar span { height: .62rem; background: var(--panel); border-radius: 2px; }
.bar i { display: block; height: 100%; background: var(--c); border-radius: 2px; }
.bar b { font-weight: 500; text-align: right; color: var(--quiet); }
.order { display: none; margin-bottom: .8rem; }
.js .order { display: block; }
.order button { font: inherit; font-size: .85rem; color: inherit; background: var(--panel);
  border: 1px solid var(--rule); border-radius: 5px; padding: .15rem .6rem; cursor: pointer; }
.order button[aria-pressed=true] { border-color: var(--text); }

article { border-top: 1px solid var(--rule); padding: 1.4rem 0 1rem; }
article header { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; align-items: baseline;
  margin-bottom: .7rem; }
article header span { font-variant-numeric: tabular-nums; font-size: .88rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr));
  gap: .8rem 1.6rem; }
.many { grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); }
.many .chart text { font-size: 16px; }
.charts figure { margin: 0; }
.charts i { display: inline-block; width: .7em; height: .7em; border-radius: 50%;
  border: 1px solid var(--rule); }
.charts figcaption { display: flex; justify-content: space-between; gap: 1rem; font-size: .82rem;
  min-height: 1.3rem; }
.readout { text-align: right; color: var(--text); font-variant-numeric: tabular-nums; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { fill: var(--quiet); font-size: 10px; }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart .cursor { stroke: var(--quiet); stroke-width: 1; }
.chart polyline { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round;
  stroke-dasharray: var(--dash, none); }
.many .chart polyline { stroke-width: 2.6; }
.chart .dot { fill: var(--c); }
.chart .mark { fill: var(--page); stroke: var(--c); stroke-width: 1.8; }
.chart .mark:hover { fill: var(--c); }

.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr));
  gap: .8rem; }
.shot { margin: 0; }
.shot figcaption { font-size: .8rem; font-variant-numeric: tabular-nums; }
.shot .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 3px; cursor: zoom-in; }
.shot img { display: block; width: 100%; height: auto; background: var(--panel);
  border-radius: 3px; }
.shot .close, .shot figcaption span { display: none; }
.shot:target figcaption span { display: inline; }
.shot:target { position: fixed; inset: 0; z-index: 5; background: var(--page); padding: 1rem;
  display: flex; flex-direction: column; justify-content: center; gap: .6rem; }
.shot:target .pair { gap: 8px; pointer-events: none; }
.shot:target img { max-height: 84vh; object-fit: contain; background: none; }
.shot:target figcaption { font-size: 1rem; text-align: center; }
.shot:target .close { display: block; position: absolute; inset: 0; cursor: zoom-out;
  text-align: right; padding: .6rem 1.2rem; font-size: 1.6rem; text-decoration: none; }
@media (max-aspect-ratio: 1/1) { .shot:target .pair { grid-template-columns: 1fr; }
  .shot:target img { max-height: 42vh; } }

dl { display: grid; grid-template-columns: minmax(6rem, 13rem) 1fr; gap: .35rem 1.2rem; margin: 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--panel); padding: .8rem 1rem; overflow-x: auto; border-radius: 5px; }
@media (max-width: 600px) { main { padding: 0 12px 40px; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .5rem; } .bars > div { grid-template-columns: 1fr; gap: .15rem; }
  th, td { padding: .35rem .45rem; } }
@media print { .legend { position: static; } .order { display: none !important; } }
"""

_SCRIPT = """
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
    const told = lines.filter(line => line.group.getBoundingClientRect().width).map(line => {
      const point = line.points.find(p => Math.abs(p.x - x) < .06);
      const value = point ? (100 * (bottom - point.y) / (bottom - top)).toFixed(0) : "-";
      return line.group.dataset.name + " " + value;
    });
    readout.textContent = frames[step] + ": " + told.join(", ");
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
"""


def page(title: str, body: str, *, entry_styles: str, plot: str) -> str:
    """Put a body into the document.

    Args:
        title: Plain text.
        body: HTML; whoever wrote it escaped what came from outside.
        entry_styles: CSS that gives each configuration its colour.
        plot: JSON of the left, right, top and bottom of the plot inside a chart.
    """
    style = _STYLE.replace("KEYS_LIGHT", _keys(COLOURS_LIGHT))
    style = style.replace("KEYS_DARK", _keys(COLOURS_DARK))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}{entry_styles}</style>\n</head>\n"
        f'<body data-plot="{escape(plot)}">\n<main>\n{body}\n</main>\n'
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def entry_style(index: int, *, is_baseline: bool) -> str:
    """Give the configuration of that position its colour, and a way to be hidden.

    Baselines are grey. When the colours are used up they begin again, with dashed lines.
    """
    again, key = divmod(index, len(COLOURS_LIGHT))
    colour = "var(--quiet)" if is_baseline else f"var(--key{key})"
    dash = " --dash: 4 3;" if is_baseline or again else ""
    return (
        f".c{index} {{ --c: {colour};{dash} }} "
        f".hide-{index} :is(.bars, .charts, .shown) .c{index} {{ display: none; }}\n"
    )


def _keys(colours: tuple[str, ...]) -> str:
    return " ".join(f"--key{index}: {colour};" for index, colour in enumerate(colours))
