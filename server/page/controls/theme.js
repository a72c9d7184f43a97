// The theme: automatic, light or dark.

const THEMES = ['auto', 'light', 'dark'];
const THEME_KEY = 'halloo-theme';

/** Reads a value that an earlier visit has stored. Some browsers store nothing for a file. */
export function storedValue(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Stores a value for the next visit, if the browser does that. */
export function storeValue(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // The next visit begins as the first.
  }
}

/** The choice of the theme. `onChange` is called after each change of the colours. */
export class Theme {
  constructor(select) {
    this.select = select;
    this.onChange = () => {};
    const stored = storedValue(THEME_KEY);
    this.apply(THEMES.includes(stored) ? stored : 'auto');
    select.addEventListener('change', () => this.choose(select.value));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.onChange());
    matchMedia('(forced-colors: active)').addEventListener('change', () => this.onChange());
  }

  /** Chooses the theme after the present one. */
  next() {
    this.choose(THEMES[(THEMES.indexOf(this.select.value) + 1) % THEMES.length]);
  }

  choose(theme) {
    storeValue(THEME_KEY, theme);
    this.apply(theme);
    this.onChange();
  }

  apply(theme) {
    this.select.value = theme;
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }
}
