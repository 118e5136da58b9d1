/** Dark and light: as the system says, until a person chooses. */

const KEY = "propagate-theme";

/** Apply the theme that was chosen before, if any. */
export function restoreTheme() {
  const chosen = localStorage.getItem(KEY);
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset["theme"] = chosen;
}

/** @returns {"dark"|"light"} */
function shown() {
  const chosen = document.documentElement.dataset["theme"];
  if (chosen === "dark" || chosen === "light") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** Change to the other theme and remember it. */
export function toggleTheme() {
  const next = shown() === "dark" ? "light" : "dark";
  document.documentElement.dataset["theme"] = next;
  localStorage.setItem(KEY, next);
}
