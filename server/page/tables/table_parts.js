// Parts of the tables: sections, rows, and changes of few elements.

import { element } from '../words/formatting.js';
import { TABLE_ROWS_MAX } from './table_rows.js';

/** A name with more characters may break anywhere, such as that of an IPv6 address. */
const LONG_NAME = 32;

/** A table with at most so many rows, each of an object. It keeps its elements, so the focus stays. */
export class RowTable {
  constructor(title, sentence, [first, ...headers], onSelectLane) {
    this.onSelectLane = onSelectLane;
    this.body = element('tbody');
    const heads = [first, ...headers].map((text) => {
      const head = element('th', '', text);
      head.scope = 'col';
      return head;
    });
    const table = element('table', '', element('thead', '', element('tr', '', ...heads)), this.body);
    this.table = table;
    this.note = element('p', 'table-note');
    this.section = tableSection(title, sentence, table, this.note);
    this.rows = Array.from({ length: TABLE_ROWS_MAX }, () => this.makeRow(headers.length));
  }

  makeRow(count) {
    const button = element('button', 'lane-link');
    button.type = 'button';
    const words = element('span', 'row-words');
    const head = element('th', '', button, words);
    head.scope = 'row';
    const cells = Array.from({ length: count }, () => {
      const [bar, text] = [element('span', 'level-bar'), element('span')];
      bar.setAttribute('aria-hidden', 'true');
      return { bar, text, cell: element('td', '', text, bar) };
    });
    const line = element('tr', '', head, ...cells.map(({ cell }) => cell));
    const row = { element: line, button, words, cells, object: null };
    button.addEventListener('click', () => this.onSelectLane(row.object));
    return row;
  }

  /** Shows rows, and a sentence below them. */
  show(rows, note) {
    rows.forEach(({ object, name, words = '', cells, isCurrent }, at) => {
      const row = this.rows[at];
      row.object = object;
      setText(row.button, name);
      setClass(row.button, name.length > LONG_NAME ? 'lane-link is-long' : 'lane-link');
      setText(row.words, words);
      setClass(row.element, isCurrent ? 'is-current' : '');
      if (isCurrent) row.element.setAttribute('aria-current', 'true');
      else row.element.removeAttribute('aria-current');
      row.cells.forEach(({ bar, text, cell }, column) => {
        const { text: content, level = null, className = '' } = cells[column];
        setText(text, content);
        setClass(cell, level === null ? className : 'has-level');
        const width = level > 0 ? `${Math.max(level * 100, 4).toFixed(1)}%` : '0';
        if (bar.style.width !== width) bar.style.width = width;
      });
      if (!row.element.isConnected) this.body.append(row.element);
    });
    for (const row of this.rows.slice(rows.length)) row.element.remove();
    this.table.hidden = rows.length === 0;
    setText(this.note, note);
  }
}

/** A part with a heading and a sentence about it. */
export function tableSection(title, sentence, ...children) {
  const heading = element('h3', '', title);
  heading.id = `table-${title.toLowerCase().replace(' ', '-')}`;
  const about = element('p', 'table-about', sentence);
  about.id = `${heading.id}-about`;
  const section = element('section', 'state-table', heading, about, ...children);
  section.setAttribute('aria-labelledby', heading.id);
  for (const table of section.querySelectorAll('table')) {
    table.setAttribute('aria-labelledby', heading.id);
    table.setAttribute('aria-describedby', about.id);
  }
  return section;
}

/** Changes a text only if it differs, which is faster. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, className) {
  if (node.className !== className) node.className = className;
}
