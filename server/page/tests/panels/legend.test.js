// Tests of the legend.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { KIND_STYLES } from '../../words/kinds.js';
import { shapesOf } from '../../panels/legend.js';
import { buildRecording, ENTRY_KINDS } from '../recording_builder.js';

test('the legend has the shapes that occur', () => {
  const recording = buildRecording([['poll-begin'], ['read', 'connection 0#1', [0, 9], { errno: 'EAGAIN' }]]);
  assert.deepEqual(shapesOf(recording), ['wait', 'read']);
});

test('an error other than EAGAIN, a callback and a finding have shapes of their own', () => {
  const recording = buildRecording([
    ['callback-begin', 'connection 0#1', ['on_data']],
    ['read', 'connection 0#1', [0, 9], { errno: 'ECONNRESET' }],
  ], { findings: [{ kind: 'spin', index: 0 }] });
  assert.deepEqual(shapesOf(recording), ['read', 'callback', 'callback-end', 'error', 'finding']);
});

test('each category has its meaning', () => {
  const recording = buildRecording(ENTRY_KINDS.map(({ name }) => [name]));
  const categories = new Set(Object.values(KIND_STYLES).map(({ category }) => category));
  for (const category of categories) assert.ok(shapesOf(recording).includes(category), category);
});
