// Tests of the links to an entry.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { entryOfLink, linkOf } from '../../controls/links.js';
import { buildRecording } from '../recording_builder.js';

const ONE = buildRecording([['poll-begin'], ['poll-end'], ['turn-end']]);
const TWO = buildRecording([['poll-begin'], ['poll-begin', 'loop', [], { loop: 1 }], ['poll-end']], { loops: ['a', 'b'] });

test('a link has the number within the loop, and the loop if there are several', () => {
  assert.deepEqual([0, 1, 2].map((index) => linkOf(ONE, index)), ['#e=0', '#e=1', '#e=2']);
  assert.deepEqual([0, 1, 2].map((index) => linkOf(TWO, index)), ['#e=0&loop=1', '#e=0&loop=2', '#e=1&loop=1']);
});

test('each link leads back to its entry', () => {
  for (const recording of [ONE, TWO]) {
    for (const index of [0, 1, 2]) assert.deepEqual(entryOfLink(recording, linkOf(recording, index)), { index });
  }
});

test('a link without a loop means the first', () => {
  assert.deepEqual(entryOfLink(TWO, '#e=1'), { index: 2 });
});

test('without a fragment there is no link', () => {
  for (const fragment of ['', '#']) assert.equal(entryOfLink(ONE, fragment), null, fragment);
});

test('a fragment without an entry has a problem in words', () => {
  for (const fragment of ['#step', '#loop=2', '#foo', '#E=5', '#e']) {
    assert.match(entryOfLink(TWO, fragment).problem, /^The link #.* is not understood: write #e=31/, fragment);
  }
});

test('a wrong link has a problem in words', () => {
  const problem = (recording, fragment) => entryOfLink(recording, fragment).problem;
  assert.equal(problem(ONE, '#e=3'), 'The link names entry 3, and the loop has the entries 0 to 2.');
  assert.equal(problem(ONE, '#e=0&loop=2'), 'The link names loop 2, and the recording has 1 loop.');
  assert.equal(problem(TWO, '#e=0&loop=0'), 'The link names loop 0, and the recording has 2 loops.');
  assert.match(problem(ONE, '#e=-1'), /is not understood: write #e=31/);
  assert.match(problem(ONE, '#e=1.5'), /is not understood/);
  assert.match(problem(ONE, '#e='), /is not understood/);
  assert.ok(problem(ONE, `#e=${'9'.repeat(5000)}`).length < 200);
  assert.equal(problem(buildRecording([]), '#e=0'), 'The link names entry 0, and the loop has no entries.');
});
