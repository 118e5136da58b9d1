/** The space bar: held, it moves the picture; tapped, it plays. */

/**
 * @param {import("./pointer.js").PointerInput} pointer
 * @param {() => void} tapped
 */
export function listenToSpace(pointer, tapped) {
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || event.repeat || !(event.target === document.body || event.target instanceof HTMLCanvasElement)) return;
    if (document.querySelector("dialog[open]")) return;
    event.preventDefault();
    pointer.spaceDown = true;
    pointer.dragged = false;
    pointer.element.classList.add("pannable");
  });
  document.addEventListener("keyup", (event) => {
    if (event.key !== " " || !pointer.spaceDown) return;
    pointer.spaceDown = false;
    pointer.element.classList.remove("pannable");
    if (!pointer.dragged) tapped();
  });
}
