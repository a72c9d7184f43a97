// The dialog with the key map, and mouse and touch.

import { element } from '../words/formatting.js';
import { KEY_GROUPS } from '../controls/keys.js';

/** What the mouse and fingers do on the timeline. */
const POINTER_ROWS = [
  ['wheel', 'scrolls the lanes'],
  ['Ctrl and wheel', 'zooms'],
  ['Shift and wheel', 'moves along the run'],
  ['drag', 'moves along the run'],
  ['click', 'selects the step; on a name, the nearest step of its lane'],
  ['double click', 'zooms in'],
  ['one finger', 'moves along the run, or scrolls the lanes'],
  ['two fingers', 'zoom'],
  ['tap', 'selects the step'],
];

/** Fills the dialog. A click beside it closes it. */
export function fillHelp(dialog) {
  const heading = element('h2', '', 'Keys, mouse and touch');
  heading.id = 'help-heading';
  const close = element('button', 'help-close', 'Close');
  close.type = 'button';
  close.addEventListener('click', () => dialog.close());
  const keyGroups = KEY_GROUPS.map(({ title, rows }) => (
    helpGroup(title, rows.map(({ shown, text }) => [shown.map((key) => element('kbd', '', key)), text]))
  ));
  const pointers = helpGroup('Mouse and touch, on the timeline', POINTER_ROWS.map(([name, text]) => [[name], text]));
  dialog.append(element('div', 'panel-head', heading, close), element('div', 'key-groups', ...keyGroups, pointers));
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
}

function helpGroup(title, rows) {
  const list = element('dl', 'key-list');
  for (const [term, text] of rows) {
    list.append(element('div', '', element('dt', '', ...term), element('dd', '', text)));
  }
  return element('section', '', element('h3', '', title), list);
}
