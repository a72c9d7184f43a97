// Tests of the builder of recordings.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ENTRY_KINDS, buildRecording } from './recording_builder.js';

test('readable entries become the columns, lanes and lookups of a recording', () => {
  const recording = buildRecording([
    ['poll-end', 'loop', [1], { at: 5 }],
    ['opened', 'connection 3#17', [9, 0], { address: '10.0.0.9:4000' }],
    ['read', 'connection 3#17', [18, 65536], { at: 7, payload: 'hello' }],
    ['poll-begin', 'loop', [Infinity], { loop: 1 }],
    ['callback-end', 'connection 3#17', ['on_data', 2n ** 60n]],
    ['closed', 'connection 3#17', ['eof']],
    ['stale-event', 'connection 3#18', [1, 17]],
    ['read', 'connection 3#17', [0, 10], { errno: 'EAGAIN' }],
  ], { loops: ['one', 'two'] });
  assert.equal(recording.entryCount, 8);
  assert.deepEqual([...recording.time], [5, 5, 7, 7, 7, 7, 7, 7]);
  assert.deepEqual([...recording.object], [0, 2, 2, 1, 2, 2, 0, 2]);
  assert.equal(recording.objects[2].name, 'connection 10.0.0.9:4000 #17');
  assert.deepEqual(recording.loops.map(({ entryCount }) => entryCount), [7, 1]);
  assert.deepEqual([...recording.entriesOf(2)], [1, 2, 4, 5, 7]);
  assert.deepEqual([recording.numberOf(4), recording.indexOf(0, 3), recording.loopOf(3)], [3, 4, 1]);
  assert.equal(recording.exact(4, 1), 2n ** 60n);
  assert.equal(recording.callbacks[recording.first[4]], 'on_data');
  assert.deepEqual([recording.errno[7], recording.first[3], recording.slot[6]], [11, Infinity, 3]);
  assert.equal(new TextDecoder().decode(recording.payloadOf(2)), 'hello');
  assert.throws(() => buildRecording([['reed']]), /unknown kind/);
});

test('it has the kinds of entries of the documentation, in order, with their numbers', () => {
  const page = readFileSync(new URL('../../../docs/recordings.md', import.meta.url), 'utf8');
  const rows = page.split('# The kinds of entries')[1].matchAll(/^\| `([a-z-]+)` \|.*\| ([^|]*)\|$/gm);
  const wordsOf = (text) => [...text.matchAll(/`(\w+)`/g)].map(([, word]) => word);
  const documented = [...rows].map(([, name, numbers]) => [name, wordsOf(numbers)]);
  assert.deepEqual(ENTRY_KINDS.map(({ name, numbers }) => [name, numbers.filter((one) => one !== null)]), documented);
});
