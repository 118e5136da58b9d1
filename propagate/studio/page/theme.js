/**
 * Dark and light: as the system says, until a person chooses.
 *
 * The choice is a cookie: each start of the program may have another port, and what a browser
 * stores otherwise belongs to one port. The server ignores it.
 */

const NAME = "propagate_theme";
const SECONDS = 400 * 24 * 3600;

/** Apply the theme that was chosen before, if any. */
export function restoreTheme() {
  const [, chosen] = document.cookie.match(new RegExp(`(?:^|;\\s*)${NAME}=(dark|light)(?:;|$)`)) ?? [];
  if (chosen) document.documentElement.dataset["theme"] = chosen;
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
  document.cookie = `${NAME}=${next}; path=/; max-age=${SECONDS}; samesite=strict`;
}
