// The search field and the list of its results.

import { countedNoun, element } from '../words/formatting.js';
import { Search } from './search.js';

/** A search is made when no key was pressed for this long, in milliseconds. */
const SEARCH_DELAY_MS = 80;

/** Fills its element with a field and a list. `onTarget` gets `{ lane }` or `{ index }` of the chosen result. */
export class SearchBox {
  constructor(parent, recording, { selected, onTarget }) {
    this.search = new Search(recording);
    this.recording = recording;
    this.selected = selected;
    this.onTarget = onTarget;
    this.field = element('input');
    Object.assign(this.field, { type: 'search', placeholder: 'Search: address, #id, read…', autocomplete: 'off',
      spellcheck: false, title: 'Search (/): a peer address, #17, slot 3, a kind of entry or finding, failed, an error, an entry number' });
    this.field.setAttribute('aria-label', 'Search');
    this.count = element('p', 'search-count');
    this.count.setAttribute('role', 'status');
    this.list = element('ul', 'search-list');
    this.results = element('div', 'search-results', this.count, this.list);
    this.results.hidden = true;
    parent.append(this.field, this.results);
    this.field.addEventListener('input', () => this.schedule());
    this.field.addEventListener('focus', () => this.schedule());
    parent.addEventListener('keydown', (event) => this.onKey(event));
    parent.addEventListener('focusout', (event) => {
      if (!parent.contains(event.relatedTarget)) this.close();
    });
  }

  focus() {
    this.field.focus();
    this.field.select();
  }

  get isOpen() {
    return !this.results.hidden;
  }

  close() {
    clearTimeout(this.timer);
    this.results.hidden = true;
  }

  schedule() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.show(), SEARCH_DELAY_MS);
  }

  show() {
    clearTimeout(this.timer);
    const query = this.field.value;
    const { results, laneCount } = this.search.find(query, this.recording.loopOf(this.selected()) ?? 0);
    this.results.hidden = query.trim() === '';
    const lanesShown = results.filter(({ type }) => type === 'lane').length;
    const more = laneCount > lanesShown ? `, the first ${lanesShown} of them here` : '';
    this.count.textContent = results.length === 0
      ? 'Nothing found. Search for a peer address, #17, slot 3, read, failed, ECONNRESET, or the number of an entry.'
      : `${countedNoun(laneCount, 'lane')}${more}; ${countedNoun(results.length - lanesShown, 'other result')}`;
    this.list.replaceChildren(...results.map((result) => this.row(result)));
  }

  row(result) {
    const button = element('button', 'search-result', element('span', '', result.label),
      element('span', 'quiet', result.type === 'entries' ? `${result.detail}, go to the next` : result.detail));
    button.type = 'button';
    button.addEventListener('click', () => {
      this.onTarget(result.target(this.selected()));
      // A group leads from entry to entry, so its list stays.
      if (result.type !== 'entries') this.close();
    });
    return element('li', '', button);
  }

  onKey(event) {
    const buttons = [...this.list.querySelectorAll('button')];
    const at = buttons.indexOf(document.activeElement);
    if (event.key === 'Escape' && this.isOpen) {
      this.field.focus();
      this.close();
    } else if (event.key === 'Enter' && event.target === this.field) {
      this.show();
      this.list.querySelector('button')?.click();
    } else if (event.key === 'ArrowDown' && this.isOpen) {
      buttons[Math.min(at + 1, buttons.length - 1)]?.focus();
    } else if (event.key === 'ArrowUp' && at >= 0) {
      (buttons[at - 1] ?? this.field).focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
