// The dialog with the key map.

import { element } from './formatting.js';
import { KEY_GROUPS } from './keys.js';

/** Fills the dialog. A click beside it closes it. */
export function fillHelp(dialog) {
  const heading = element('h2', '', 'Keys');
  heading.id = 'help-heading';
  const close = element('button', 'help-close', 'Close');
  close.type = 'button';
  close.addEventListener('click', () => dialog.close());
  dialog.append(element('div', 'panel-head', heading, close), element('div', 'key-groups', ...KEY_GROUPS.map(keyGroup)),
    element('p', 'quiet', 'All of it works without keys, too: with the buttons, and by mouse or touch on the timeline. '
      + 'Drag to move it, turn the wheel or pinch to zoom, click a mark to select it.'));
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
}

function keyGroup({ title, rows }) {
  const list = element('dl', 'key-list');
  for (const { shown, text } of rows) {
    list.append(element('div', '', element('dt', '', ...shown.map((key) => element('kbd', '', key))),
      element('dd', '', text)));
  }
  return element('section', '', element('h3', '', title), list);
}
