/** Finding and making elements. Nothing here writes HTML from a string. */

/**
 * Find an element of the page by its id.
 * @template {Element} T
 * @param {string} id
 * @param {new (...args: any[]) => T} type
 * @returns {T}
 */
export function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} "${id}".`);
  return found;
}

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string>} [attributes]
 * @param {(Node|string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Shapes on a grid of 24 x 24, drawn as lines. */
const ICONS = {
  smart: "M4 20 14 10M12.5 8.5l3 3M17 3v4M15 5h4M20 10v3M18.5 11.5h3M8 3v3M6.5 4.5h3",
  brush: "M19.5 4.5c-4 1-8.5 5-10.5 8.5l2 2c3.5-2 7.5-6.5 8.5-10.5ZM8.5 14c-2.5 0-3 2-3 3.5 0 1.5-1 2-2 2.5 3 1 7 .5 7-3.5Z",
  eraser: "M14 4.5 20 10.5 11.5 19H7l-3.5-3.5ZM8.5 10l6 6M11 19h9",
  polygon: "M5 8 13 4l6.5 6L16 19l-10-1ZM5 8h.01M13 4h.01M19.5 10h.01M16 19h.01M6 18h.01",
  box: "M5 4v2M5 10v4M5 18v2h2M11 20h3M18 20h1v-2M19 14v-4M19 6V4h-1M14 4h-3M7 4H5",
  undo: "M8 5 4 9l4 4M4 9h10a5.5 5.5 0 0 1 0 11h-3",
  redo: "m16 5 4 4-4 4M20 9H10a5.5 5.5 0 0 0 0 11h3",
  open: "M3 6.5A1.5 1.5 0 0 1 4.5 5H9l2 2.5h8.5A1.5 1.5 0 0 1 21 9v9a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 18Z",
  theme: "M12 4a8 8 0 1 0 0 16ZM12 4a8 8 0 0 1 0 16",
  help: "M9 9a3 3 0 1 1 4.5 2.600c-1 .6-1.5 1.200-1.5 2.400M12 17.5h.01M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z",
  labels: "M4 5h8l8 7.5-7.5 7.5L4 12ZM8 9h.01",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12ZM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6",
  solo: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6",
  lock: "M6 11h12v9H6ZM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6ZM8.5 11V8a3.5 3.5 0 0 1 6.800-1.200",
  more: "M5.5 12h.01M12 12h.01M18.5 12h.01",
  plus: "M12 5v14M5 12h14",
  close: "m6 6 12 12M18 6 6 18",
  play: "M8 5v14l11-7Z",
  pause: "M8.5 5v14M15.5 5v14",
  first: "M6 5v14M18 6l-8 6 8 6Z",
  back: "m14 6-6 6 6 6",
  forward: "m10 6 6 6-6 6",
  doubt: "m12 4 9 15.5H3ZM12 10v4.5M12 17h.01",
  reference: "m12 4 7 8-7 8-7-8Z",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  zoomin: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14M16 16l4.5 4.5M8 11h6M11 8v6",
  zoomout: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14M16 16l4.5 4.5M8 11h6",
  import: "M12 4v11M8 11l4 4 4-4M4 16v4h16v-4",
  export: "M12 15V4M8 8l4-4 4 4M4 16v4h16v-4",
  folder: "M3 6.5A1.5 1.5 0 0 1 4.5 5H9l2 2.5h8.5A1.5 1.5 0 0 1 21 9v9a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 18Z",
  video: "M4 6h16v12H4ZM10.5 9.5v5l4-2.5Z",
  images: "M7 4h13v12H7ZM4 8v12h13M7 13l4-4 5 5 2-2 2 2",
  up: "M12 19V5M6 11l6-6 6 6",
  watch: "M12 4v4M12 16v4M4 12h4M16 12h4M12 10.5a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3",
};

/** @typedef {keyof typeof ICONS} IconName */

/**
 * Draw an icon in the colour of the text around it.
 * @param {IconName} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * Make a button that shows an icon and says its name to screen readers and in a tip.
 * @param {IconName} name
 * @param {string} label
 * @param {() => void} act
 * @returns {HTMLButtonElement}
 */
export function iconButton(name, label, act) {
  const button = make("button", { type: "button", class: "quiet", "aria-label": label, title: label });
  button.append(icon(name));
  button.addEventListener("click", act);
  return button;
}

/**
 * Make a function that asks for work at the next refresh of the screen, once for each refresh.
 * @param {() => void} work
 * @returns {() => void}
 */
export function onceARefresh(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

/** Put the icon into every element that names one as `data-icon`. */
export function placeIcons() {
  for (const place of document.querySelectorAll("[data-icon]")) {
    const name = /** @type {IconName} */ (place.getAttribute("data-icon"));
    place.prepend(icon(name));
  }
}

/**
 * Set the icon of a button, if it is another one.
 * @param {Element} button
 * @param {IconName} name
 */
export function setIcon(button, name) {
  if (button.getAttribute("data-icon") === name) return;
  button.setAttribute("data-icon", name);
  button.querySelector("svg.icon")?.remove();
  button.prepend(icon(name));
}
