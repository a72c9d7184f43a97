// Tests of the rows of the timeline.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HEADING_HEIGHT, LANE_HEIGHT, LOOP_HEIGHT, LaneList } from '../../timeline/lanes.js';
import { buildRecording } from '../recording_builder.js';

/** Two loops: the first has a peer, a connection, a listener that is noted later, and another connection. */
function twoLoops() {
  const recording = buildRecording([
    ['peer-connect', 'peer 0#1', [], { address: '10.0.0.9:1' }],
    ['opened', 'connection 0#7', [9]],
    ['listening', 'listener 0#3', [5]],
    ['opened', 'connection 1#8', [10]],
    ['poll-begin', 'loop', [0]],
    ['opened', 'connection 0#9', [9], { loop: 1 }],
  ], { loops: ['one', 'two'] });
  const names = (lanes) => lanes.map((lane) => `${recording.objects[lane].kind}${recording.objects[lane].generation}`);
  return { recording, list: new LaneList(recording), names };
}

test('each loop has a group: its own lane, lasting objects, the others as they come; peers have another', () => {
  const { list, names } = twoLoops();
  assert.deepEqual(list.groups.map(({ name }) => name), ['one', 'simulated peers of one', 'two']);
  assert.deepEqual(list.groups.map(({ lanes }) => names(lanes)),
    [['loop0', 'listener3', 'connection7', 'connection8'], ['peer1'], ['loop0', 'connection9']]);
});

test('a height leads to the lane that is drawn there', () => {
  const { recording, list } = twoLoops();
  for (const { index } of recording.objects) {
    const { top, height } = list.placeOf(index);
    assert.deepEqual([list.laneAt(top), list.laneAt(top + height - 1)], [index, index]);
  }
  assert.equal(list.laneAt(0), null);
  assert.equal(list.laneAt(list.groups[1].top + 1), null);
  assert.equal(list.laneAt(list.height + 1), null);
  assert.equal(list.height, 3 * HEADING_HEIGHT + 2 * LOOP_HEIGHT + 5 * LANE_HEIGHT);
});

test('only the lanes between two heights are visited, each where its place is', () => {
  const { list } = twoLoops();
  const all = [];
  list.visit(0, list.height, (lane, top, height) => all.push([lane, top, height]));
  assert.equal(all.length, 7);
  for (const [lane, top, height] of all) assert.deepEqual(list.placeOf(lane), { top, height });
  const [first, second] = [all[2], all[3]];
  const visited = [];
  list.visit(first[1] + 1, second[1] + 1, (lane) => visited.push(lane));
  assert.deepEqual(visited, [first[0], second[0]]);
});

test('a collapsed group shows the lane of its loop, and opens for a lane in it', () => {
  const { list } = twoLoops();
  const [one, peers] = list.groups;
  const { height } = list;
  list.toggle(one);
  list.toggle(peers);
  assert.equal(list.height, height - 4 * LANE_HEIGHT);
  const visited = [];
  list.visit(0, list.height, (lane) => visited.push(lane));
  assert.deepEqual(visited, [one.lanes[0], ...list.groups[2].lanes]);
  assert.equal(list.open(one.lanes[0]), false);
  assert.equal(list.open(one.lanes[2]), true);
  assert.equal(list.open(peers.lanes[0]), true);
  assert.equal(list.height, height);
});

test('the lane of the loop stays in view until the next group pushes it up', () => {
  const { list } = twoLoops();
  const [one, peers, two] = list.groups;
  assert.equal(list.pinnedAt(0), null);
  assert.deepEqual(list.pinnedAt(HEADING_HEIGHT + 5), { lane: one.lanes[0], group: one, offset: 0 });
  assert.equal(list.pinnedAt(peers.top - LOOP_HEIGHT + 10).offset, -10);
  assert.equal(list.pinnedAt(peers.top + HEADING_HEIGHT), null);
  assert.equal(list.pinnedAt(two.top + HEADING_HEIGHT).lane, two.lanes[0]);
});

test('the lane beside another is that of the next group at the end, and none at both ends', () => {
  const { list } = twoLoops();
  const order = [];
  list.visit(0, list.height, (lane) => order.push(lane));
  for (let at = 0; at < order.length; at += 1) {
    assert.equal(list.beside(order[at], 1), order[at + 1] ?? null);
    assert.equal(list.beside(order[at], -1), order[at - 1] ?? null);
  }
});

test('a loop without entries has its lane', () => {
  const recording = buildRecording([], { loops: ['one', 'two'] });
  const list = new LaneList(recording);
  assert.deepEqual(list.groups.map(({ lanes }) => lanes), [[0], [1]]);
  assert.equal(list.beside(0, 1), 1);
});
