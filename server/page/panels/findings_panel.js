// The list of findings.

import { countedNoun, element, instantText } from '../words/formatting.js';

/** Findings that are listed at first. */
const FINDINGS_SHOWN_MAX = 50;

/** Lists the findings of a recording. `onSelect` gets the entry where one began. */
export class FindingsPanel {
  /** `help` has for each kind `{ what, look, remedy }`. */
  constructor(parent, recording, help, { onSelect }) {
    this.recording = recording;
    this.help = help;
    this.onSelect = onSelect;
    this.order = [...recording.findings].sort((one, other) => one.index - other.index);
    this.items = [];
    if (this.order.length === 0) {
      parent.append(...noFinding(recording, help));
      return;
    }
    this.list = element('ol', 'finding-list');
    parent.append(this.list);
    this.addItems(FINDINGS_SHOWN_MAX);
    const left = this.order.length - this.items.length;
    if (left > 0) {
      const more = element('button', '', `Show ${countedNoun(left, 'more finding', 'more findings')}`);
      more.type = 'button';
      more.addEventListener('click', () => {
        this.addItems(Infinity);
        more.remove();
      });
      parent.append(more);
    }
  }

  addItems(countMax) {
    for (const finding of this.order.slice(this.items.length, countMax)) {
      const item = this.item(finding);
      this.items.push(item);
      this.list.append(item);
    }
  }

  item(finding) {
    const { recording } = this;
    const go = element('button', 'go', `Go to entry ${recording.numberOf(finding.index)}`);
    go.type = 'button';
    go.addEventListener('click', () => this.onSelect(finding.index));
    const loop = recording.loops.length > 1 ? `${recording.loops[finding.loop].name}, ` : '';
    const repeated = finding.count > 1 ? `, ${countedNoun(finding.count, 'time')}` : '';
    const facts = `${loop}at ${instantText(finding.time)}${repeated}`;
    const item = element('li', 'finding', element('h3', '', element('span', 'finding-kind', finding.kind)),
      element('p', '', finding.sentence), element('p', 'quiet', facts), go);
    const help = this.help[finding.kind];
    if (help) {
      item.append(element('details', '', element('summary', '', 'What it means, and what to do'),
        ...[help.what, help.look, help.remedy].map((text) => element('p', '', text))));
    }
    return item;
  }

  /** Marks the findings that begin at an entry. */
  show(index) {
    this.items.forEach((item, at) => {
      const isHere = this.order[at].index === index;
      item.classList.toggle('is-here', isHere);
      if (isHere) item.setAttribute('aria-current', 'true');
      else item.removeAttribute('aria-current');
    });
  }
}

/** A recording without a finding names what was looked for. */
function noFinding(recording, help) {
  const sentence = recording.entryCount === 0
    ? 'The recording has no entry, so nothing could be found.'
    : 'No finding: nothing in this recording slowed the loop or a client for long.';
  const thresholds = recording.entryCount === 0 ? [] : [element('p', 'quiet', 'For long means: 1 s without service or '
    + 'accepted output; a callback of 50 ms; a turn, or a late poll or timer, of 100 ms; 100 ms of failing accepts or '
    + 'receives; 1,000 polls that did nothing.')];
  const kinds = Object.entries(help).map(([kind, { what }]) => (
    element('div', '', element('dt', '', kind), element('dd', '', what))
  ));
  if (kinds.length === 0) return [element('p', 'all-well', sentence), ...thresholds];
  return [element('p', 'all-well', sentence), ...thresholds, element('details', '', element('summary', '', 'What was looked for'),
    element('dl', 'looked-for', ...kinds))];
}
