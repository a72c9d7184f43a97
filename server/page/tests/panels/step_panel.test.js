// Tests of the fields of an entry, and of the page's head.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fieldsOf, payloadRows } from '../../panels/step_panel.js';
import { summaryOf } from '../../panels/summary.js';
import { buildRecording } from '../recording_builder.js';

const RECORDING = buildRecording([
  ['poll-begin', 'loop', [Infinity]],
  ['opened', 'connection 3#17', [9, 0], { address: '10.0.0.9:4000', at: 1_000_000 }],
  ['read', 'connection 3#17', [0, 65536], { errno: 'EAGAIN' }],
  ['deadline-set', 'connection 3#17', [83_000_000]],
  ['closed', 'connection 3#17', ['reset', 1]],
  ['option-set', 'connection 3#17', [1n << 60n, 2]],
  ['closed', 'connection 4#18', ['eof', 0]],
]);

test('fields have the names that they have in files', () => {
  assert.deepEqual(fieldsOf(RECORDING, 2), [
    ['kind', 'read'], ['lane', 'connection 10.0.0.9:4000 #17'], ['object', 'connection, slot 3'], ['generation', '17'],
    ['bytes', '0'], ['of', '65,536'], ['errno', '11 EAGAIN'], ['time_ns', '1,000,000'],
  ]);
});

test('numbers that are none, times, names of reasons and large numbers are exact', () => {
  const field = (index, name) => fieldsOf(RECORDING, index).find(([word]) => word === name)[1];
  assert.equal(field(0, 'timeout_ns'), 'none');
  assert.equal(field(3, 'deadline_ns'), '83,000,000 (83 ms)');
  assert.equal(field(4, 'reason'), '3 reset');
  assert.equal(field(5, 'level'), '1,152,921,504,606,846,976');
  assert.equal(field(1, 'address'), '10.0.0.9:4000');
});

test('a failed call with an empty payload shows no bytes', () => {
  assert.deepEqual([payloadRows(undefined), payloadRows(new Uint8Array(0))], [[], []]);
});

test('the head counts what was recorded', () => {
  assert.deepEqual(summaryOf(RECORDING), ['7 entries', '1 loop', '1 ms', '2 connections', 'no finding']);
  assert.deepEqual(summaryOf(buildRecording([['lost', 'loop', [40]], ['turn-end']])).at(-1), '40 entries lost');
  assert.deepEqual(summaryOf(buildRecording([])), ['The recording has no entry']);
});
