// Tests of the search.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Search } from '../../panels/search.js';
import { buildRecording } from '../recording_builder.js';

const RECORDING = buildRecording([
  ['poll-begin'],
  ['opened', 'connection 3#17', [9], { address: '10.0.0.9:4000' }],
  ['callback-begin', 'connection 3#17', ['on_data', 4]],
  ['read', 'connection 3#17', [0, 10], { errno: 'ECONNRESET' }],
  ['opened', 'connection 4#170', [10], { address: '10.0.0.10:4001', loop: 1 }],
  ['read', 'connection 4#170', [5, 10], { loop: 1 }],
], { loops: ['worker 1', 'worker 2'] });
const search = new Search(RECORDING);
const labels = (query, loop) => search.find(query, loop).results.map(({ label }) => label);

test('a lane is found by its address, its id, its slot and its loop', () => {
  assert.deepEqual(labels('10.0.0.9'), ['connection 10.0.0.9:4000 #17']);
  assert.deepEqual(labels('10.0.0.'), ['connection 10.0.0.9:4000 #17', 'connection 10.0.0.10:4001 #170']);
  assert.deepEqual(labels('#17'), ['connection 10.0.0.9:4000 #17']);
  assert.deepEqual(labels('#1'), ['connection 10.0.0.9:4000 #17', 'connection 10.0.0.10:4001 #170'], 'the begin of an id');
  assert.deepEqual(labels(' SLOT 4 '), ['connection 10.0.0.10:4001 #170']);
  assert.deepEqual(labels('worker 2'), ['worker 2']);
});

test('the result of a lane names its slot, and its loop if there are several', () => {
  const [{ detail, target }] = search.find('#170').results;
  assert.equal(detail, 'slot 4, worker 2');
  assert.deepEqual(target(0), { lane: RECORDING.object[4] });
});

test('entries are found by kind, callback and error, and lead to the next', () => {
  const [reads] = search.find('read').results;
  assert.deepEqual([reads.label, reads.detail], ['read', '2 entries']);
  assert.deepEqual([0, 3, 5].map((from) => reads.target(from).index), [3, 5, 3]);
  assert.deepEqual(labels('on_data'), ['callback on_data']);
  assert.deepEqual(labels('econnreset'), ['failed with ECONNRESET']);
  assert.equal(search.find('econnreset').results[0].target(0).index, 3);
});

test('the kind that is the query comes before those that contain it', () => {
  const recording = buildRecording([['readiness', 'connection 0#1', [1]], ['read', 'connection 0#1']]);
  assert.deepEqual(new Search(recording).find('read').results.map(({ label }) => label), ['read', 'readiness: event']);
});

test('a number is an entry of the loop of the selected entry', () => {
  const [first] = search.find('1', 1).results;
  assert.deepEqual([first.label, first.detail, first.target(0)], ['entry 1', 'read', { index: 5 }]);
});

test('a number means a whole id, port or slot of a connection, or an entry', () => {
  const recording = buildRecording([
    ['listening', 'listener 4#1', [5], { address: '10.0.0.1:48' }],
    ['opened', 'connection 4#48', [9], { address: '10.0.0.9:4000' }],
    ['opened', 'connection 5#480', [10], { address: '10.0.0.9:4800' }],
    ['opened', 'connection 48#481', [11], { address: '10.0.0.48:4001' }],
  ]);
  const labelsOf = (query) => new Search(recording).find(query).results.map(({ label }) => label);
  assert.deepEqual(labelsOf('48'),
    ['listener 10.0.0.1:48 #1', 'connection 10.0.0.9:4000 #48', 'connection 10.0.0.48:4001 #481']);
  assert.deepEqual(labelsOf('2'), ['entry 2']);
  assert.deepEqual(labelsOf('slot 4'), ['connection 10.0.0.9:4000 #48'], 'the slots of listeners are others');
});

test('findings are found by their kind, and lead to their entries', () => {
  const entries = Array.from({ length: 6 }, () => ['read', 'connection 0#1']);
  const findings = [{ kind: 'slow-reader', index: 1 }, { kind: 'slow-reader', index: 4 }, { kind: 'spin', index: 2 }];
  const [slow, ...others] = new Search(buildRecording(entries, { findings })).find('slow').results;
  assert.deepEqual([slow.label, slow.detail, others], ['finding slow-reader', '2 entries', []]);
  assert.deepEqual([0, 1, 4].map((from) => slow.target(from).index), [1, 4, 1]);
});

test('"failed" leads to the entries that failed, and EAGAIN is no failure', () => {
  const recording = buildRecording([
    ['read', 'connection 0#1', [0, 9], { errno: 'EAGAIN' }],
    ['read', 'connection 0#1', [0, 9], { errno: 'ECONNRESET' }],
    ['write', 'connection 0#1', [0, 9], { errno: 'EPIPE' }],
  ]);
  const { results } = new Search(recording).find('failed');
  assert.deepEqual(results.map(({ label, detail }) => `${label}, ${detail}`),
    ['failed, 2 entries', 'failed with ECONNRESET, 1 entry', 'failed with EPIPE, 1 entry']);
  assert.deepEqual([0, 1, 2].map((from) => results[0].target(from).index), [1, 2, 1]);
  assert.deepEqual(new Search(recording).find('eagain').results.map(({ label }) => label), ['EAGAIN']);
});

test('an empty query, and one without a match, have no result', () => {
  for (const query of ['', '  ', 'no such thing', '#99', '(']) assert.deepEqual(search.find(query).results, [], query);
});

test('lanes are counted, and at most fifty are listed', () => {
  const many = Array.from({ length: 120 }, (_, slot) => ['opened', `connection ${slot}#${slot + 1}`, [slot]]);
  const { results, laneCount } = new Search(buildRecording(many)).find('connection #');
  assert.equal(laneCount, 120);
  assert.equal(results.filter(({ type }) => type === 'lane').length, 50);
});
