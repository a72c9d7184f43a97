// Tests of the steps from entry to entry.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { entryInLane, findingBeside, nearestInLane, turnBeside } from '../../controls/navigation.js';
import { buildRecording } from '../recording_builder.js';

const RECORDING = buildRecording([
  ['poll-begin'], ['poll-end'], ['read', 'connection 0#1'], ['turn-end'],
  ['poll-begin', 'loop', [], { loop: 1 }],
  ['poll-begin'], ['poll-end'], ['read', 'connection 0#1'], ['write', 'connection 1#2'], ['turn-end'],
], { loops: ['a', 'b', 'c'] });
const FIRST = RECORDING.object[2];
const SECOND = RECORDING.object[8];

test('the next turn begins with the next poll of the loop', () => {
  assert.equal(turnBeside(RECORDING, 0, 1), 5);
  assert.equal(turnBeside(RECORDING, 2, 1), 5);
  assert.equal(turnBeside(RECORDING, 5, 1), 9, 'the last entry after the last turn');
  assert.equal(turnBeside(RECORDING, 4, 1), 9);
});

test('the previous turn is the begin of this turn first', () => {
  assert.equal(turnBeside(RECORDING, 8, -1), 5);
  assert.equal(turnBeside(RECORDING, 5, -1), 0);
  assert.equal(turnBeside(RECORDING, 0, -1), 0);
});

test('steps in a lane skip other lanes, and stay at its ends', () => {
  assert.equal(entryInLane(RECORDING, 2, 1), 7);
  assert.equal(entryInLane(RECORDING, 7, -1), 2);
  assert.equal(entryInLane(RECORDING, 7, 1), 7);
  assert.equal(entryInLane(RECORDING, 8, -1), 8);
});

test('another lane is entered at its nearest entry', () => {
  assert.equal(nearestInLane(RECORDING, FIRST, 0), 2);
  assert.equal(nearestInLane(RECORDING, FIRST, 3), 2);
  assert.equal(nearestInLane(RECORDING, FIRST, 6), 7);
  assert.equal(nearestInLane(RECORDING, FIRST, 9), 7);
  assert.equal(nearestInLane(RECORDING, SECOND, 0), 8);
  assert.equal(nearestInLane(RECORDING, 2, 5), 5, 'a lane without entries');
});

test('findings follow one another by their entries, from the last to the first', () => {
  const findings = [{ index: 7 }, { index: 2 }, { index: 7 }, { index: 9 }];
  assert.deepEqual([-1, 2, 7, 8, 9].map((index) => findingBeside(findings, index, 1)), [2, 7, 9, 9, 2]);
  assert.deepEqual([10, 9, 7, 5, 2].map((index) => findingBeside(findings, index, -1)), [9, 7, 2, 2, 9]);
});
