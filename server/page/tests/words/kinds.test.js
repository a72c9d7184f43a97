// Tests of the styles: each kind of the source has one.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { KIND_STYLES } from '../../words/kinds.js';

const CATEGORIES = [
  'wait', 'event', 'read', 'write', 'callback', 'decision', 'time', 'open', 'close', 'peer', 'lost',
];

test('each kind of entry has a style, and no other name has one', () => {
  const source = readFileSync(new URL('../../../../src/observe/entry.rs', import.meta.url), 'utf8');
  const list = source.slice(source.indexOf('    EntryKind {'));
  const kinds = [...list.slice(0, list.indexOf('\n    }\n')).matchAll(/ = "([a-z-]+)",/g)].map((match) => match[1]);
  assert.ok(kinds.length > 40, `only ${kinds}`);
  assert.deepEqual(Object.keys(KIND_STYLES), kinds);
});

test('each style has a category of the page and a label of its own', () => {
  const styles = Object.entries(KIND_STYLES);
  for (const [kind, { category, label }] of styles) {
    assert.ok(CATEGORIES.includes(category), `${kind}: ${category}`);
    assert.match(label, /^[A-Za-z][A-Za-z: ]{2,30}$/, kind);
  }
  assert.equal(new Set(styles.map(([, { label }]) => label)).size, styles.length);
});
