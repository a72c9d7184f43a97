// The keys of the page, and the commands that they call.

/**
 * The key map, in groups. `keys` are values of `KeyboardEvent.key`, with `Shift+` before arrows.
 * @type {Array<{title: string, rows: Array<{command: string, keys: string[], shown: string[], text: string}>}>}
 */
export const KEY_GROUPS = [
  { title: 'Step', rows: [
    { command: 'next-entry', keys: ['ArrowRight'], shown: ['→'], text: 'next entry' },
    { command: 'previous-entry', keys: ['ArrowLeft'], shown: ['←'], text: 'previous entry' },
    { command: 'next-in-lane', keys: ['Shift+ArrowRight'], shown: ['Shift', '→'], text: 'next entry of this lane' },
    { command: 'previous-in-lane', keys: ['Shift+ArrowLeft'], shown: ['Shift', '←'],
      text: 'previous entry of this lane' },
    { command: 'next-turn', keys: [']', 'PageDown'], shown: [']'], text: 'next turn; also Page Down' },
    { command: 'previous-turn', keys: ['[', 'PageUp'], shown: ['['], text: 'this turn, then the previous; also Page Up' },
    { command: 'next-finding', keys: ['f'], shown: ['f'], text: 'next finding' },
    { command: 'previous-finding', keys: ['F'], shown: ['Shift', 'f'], text: 'previous finding' },
    { command: 'first-entry', keys: ['Home'], shown: ['Home'], text: 'first entry' },
    { command: 'last-entry', keys: ['End'], shown: ['End'], text: 'last entry' },
    { command: 'play', keys: [' '], shown: ['Space'], text: 'play or pause' },
  ] },
  { title: 'Timeline', rows: [
    { command: 'lane-up', keys: ['ArrowUp'], shown: ['↑'], text: 'lane above' },
    { command: 'lane-down', keys: ['ArrowDown'], shown: ['↓'], text: 'lane below' },
    { command: 'zoom-in', keys: ['+', '='], shown: ['+'], text: 'zoom in' },
    { command: 'zoom-out', keys: ['-', '_'], shown: ['-'], text: 'zoom out' },
    { command: 'fit', keys: ['0'], shown: ['0'], text: 'show the whole run' },
    { command: 'axis', keys: ['t'], shown: ['t'], text: 'axis of steps or of time' },
  ] },
  { title: 'Page', rows: [
    { command: 'search', keys: ['/'], shown: ['/'], text: 'search' },
    { command: 'theme', keys: ['d'], shown: ['d'], text: 'theme: automatic, light, dark' },
    { command: 'help', keys: ['?'], shown: ['?'], text: 'this key map' },
    { command: 'escape', keys: ['Escape'], shown: ['Esc'], text: 'close what is open; stop playing' },
  ] },
];

const COMMANDS = new Map(KEY_GROUPS.flatMap(({ rows }) => rows)
  .flatMap(({ command, keys }) => keys.map((key) => [key, command])));

/** Keys that scroll a focused region. */
const SCROLL_KEYS = ['ArrowUp', 'ArrowDown', 'PageUp', 'PageDown', 'Home', 'End'];

/**
 * Returns the command of a key, or null: with a modifier, in a text field or dialog, or if the focused element uses the
 * key.
 * @param {KeyboardEvent} event
 * @returns {string|null}
 */
export function commandOf(event) {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return null;
  const { key, target } = event;
  const isIn = (selector) => target?.closest?.(selector) != null;
  if (isIn('dialog') || (key !== 'Escape' && isIn('input, textarea, select, [contenteditable]'))) return null;
  if (key === ' ' && isIn('button, summary, a')) return null;
  if (SCROLL_KEYS.includes(key) && target?.matches?.('[data-scrolls]')) return null;
  return COMMANDS.get(event.shiftKey && key.startsWith('Arrow') ? `Shift+${key}` : key) ?? null;
}
