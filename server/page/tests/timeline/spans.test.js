// Tests of what lasts from one entry to another, and of runs.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Axis } from '../../timeline/axis.js';
import { NO_ENTRY, Spans, isErrorEntry, visitRuns, visitStableRuns } from '../../timeline/spans.js';
import { buildRecording } from '../recording_builder.js';

const spansOf = (entries, options) => new Spans(buildRecording(entries, options));

test('a turn lasts from the return of its poll to its end, and has a number', () => {
  const spans = spansOf([
    ['poll-begin'], ['poll-end', 'loop', [1]], ['readiness', 'listener 0#3', [1, 3]], ['turn-end'],
    ['poll-begin'], ['poll-end', 'loop', [0]], ['turn-end'],
  ]);
  const { pollBegin, pollEnd, turnBegin, turnEnd, turnNumber } = spans.loops[0];
  assert.deepEqual([pollBegin, pollEnd], [[0, 4], [1, 5]]);
  assert.deepEqual([turnBegin, turnEnd, turnNumber], [[1, 5], [3, 6], [1, 2]]);
});

test('a poll that is repeated belongs to the same turn', () => {
  const again = [
    ['poll-begin'], ['poll-end', 'loop', [1024, 1]], ['poll-begin'], ['poll-end', 'loop', [3]], ['turn-end'],
  ];
  const interrupted = [
    ['poll-begin'], ['poll-end', 'loop', [0], { errno: 'EINTR' }],
    ['poll-begin'], ['poll-end', 'loop', [1]], ['turn-end'],
  ];
  for (const entries of [again, interrupted]) {
    const { pollBegin, turnBegin, turnEnd, turnNumber } = spansOf([...entries, ['poll-begin']]).loops[0];
    assert.deepEqual([pollBegin, turnBegin, turnEnd, turnNumber], [[0, 2, 5], [1], [4], [1]]);
  }
});

test('a recording may begin and end within a turn or a poll', () => {
  const inTurn = spansOf([['poll-end', 'loop', [1]], ['turn-end'], ['poll-begin'], ['poll-end', 'loop', [1]]]).loops[0];
  assert.deepEqual([inTurn.turnBegin, inTurn.turnEnd, inTurn.turnNumber], [[0, 3], [1, 3], [1, 2]]);
  const inPoll = spansOf([['turn-end'], ['poll-begin']]).loops[0];
  assert.deepEqual([inPoll.turnBegin, inPoll.pollBegin, inPoll.pollEnd], [[], [1], [2]]);
});

test('each loop has its own turns', () => {
  const spans = spansOf([
    ['poll-begin'], ['poll-begin', 'loop', [], { loop: 1 }], ['poll-end', 'loop', [], { loop: 1 }], ['poll-end'],
    ['turn-end', 'loop', [], { loop: 1 }], ['turn-end'],
  ], { loops: ['one', 'two'] });
  assert.deepEqual(spans.loops.map(({ turnBegin, turnEnd }) => [turnBegin, turnEnd]), [[[3], [5]], [[2], [4]]]);
});

test('callbacks are nested, and each lane has its own', () => {
  const spans = spansOf([
    ['callback-begin', 'connection 0#7', ['on_data', 18]],
    ['callback-begin', 'connection 0#7', ['on_flushed']],
    ['callback-begin', 'connection 1#8', ['on_open']],
    ['paused', 'connection 0#7'],
    ['callback-end', 'connection 0#7', ['on_flushed']],
    ['callback-end', 'connection 1#8', ['on_open']],
    ['callback-end', 'connection 0#7', ['on_data', 18]],
    ['write', 'connection 0#7', [18, 18]],
  ]);
  assert.deepEqual([0, 1, 2, 4].map((index) => spans.partner[index]), [6, 4, 5, 1]);
  assert.deepEqual([3, 1, 2, 6, 7].map((index) => spans.callbacksAt(index)), [[1, 0], [1, 0], [2], [], []]);
});

test('a callback without an end lasts until entries are lost, or until the end of the recording', () => {
  const spans = spansOf([
    ['callback-begin', 'connection 0#7', ['on_data']], ['lost', 'loop', [9]],
    ['callback-end', 'connection 0#7', ['on_data']],
    ['callback-begin', 'connection 0#7', ['on_data']], ['paused', 'connection 0#7'],
  ]);
  assert.deepEqual([0, 2, 3].map((index) => spans.partner[index]), [1, NO_ENTRY, 4]);
});

test('a life ends with the close, and the callback after it; an open object lives on', () => {
  const recording = buildRecording([
    ['opened', 'connection 0#7'], ['closed', 'connection 0#7', ['eof']],
    ['callback-begin', 'connection 0#7', ['on_close']], ['callback-end', 'connection 0#7', ['on_close']],
    ['opened', 'connection 1#8'], ['read', 'connection 1#8', [1, 2]],
    ['deadline-set', 'timer 0#9', [5]], ['deadline-fired', 'timer 0#9', [5]],
  ]);
  const spans = new Spans(recording);
  const lives = recording.objects.map(({ index }) => spans.lifeOf(index));
  assert.deepEqual(lives, [null, { begin: 0, end: 3 }, { begin: 4, end: NO_ENTRY }, { begin: 6, end: 7 }]);
});

test('an error number is an error, except EAGAIN and EINTR; missing entries are a loss', () => {
  const recording = buildRecording([
    ['read', 'connection 0#7', [0, 9], { errno: 'EAGAIN' }],
    ['read', 'connection 0#7', [0, 9], { errno: 'ECONNRESET' }],
    ['lost', 'loop', [5]], ['poll-end', 'loop', [0], { errno: 'EINTR' }],
  ]);
  assert.deepEqual([0, 1, 2, 3].map((index) => isErrorEntry(recording, index)), [false, true, false, false]);
  const spans = new Spans(recording);
  assert.deepEqual([[...spans.errors], [...spans.losses], spans.errorIndexes], [[[1, [1]]], [[0, [2]]], [1, 2]]);
});

test('the runs of a lane are what a walk over all its entries finds', () => {
  let seed = 7;
  const random = (limit) => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return seed % limit;
  };
  for (let round = 0; round < 200; round += 1) {
    let now = 0;
    const time = Float64Array.from({ length: random(60) }, () => (now += random(3) * random(9)));
    const { starts } = new Axis(time, 'time');
    const entries = [...time.keys()].filter(() => random(3) > 0);
    const room = 1 + random(20);
    const expected = [];
    entries.forEach((index, at) => {
      const run = expected.at(-1);
      if (run !== undefined && starts[index] < starts[entries[run[0]]] + room) run[1] = at;
      else expected.push([at, at]);
    });
    const runs = [];
    visitRuns(entries, starts, 0, entries.length, room, (first, last) => runs.push([first, last]));
    assert.deepEqual(runs, expected);
  }
});

test('the work for a run grows with its logarithm', () => {
  const count = 1_000_000;
  let reads = 0;
  const starts = new Proxy({}, { get: (_, index) => { reads += 1; return Number(index); } });
  const entries = Uint32Array.from({ length: count }, (_, index) => index);
  let runs = 0;
  visitRuns(entries, starts, 0, count, count / 100, () => { runs += 1; });
  assert.ok(runs <= 101 && reads < 101 * 40, `${runs} runs, ${reads} reads`);
});

test('runs do not change when the view moves', () => {
  const time = Float64Array.from({ length: 5000 }, (_, index) => index * 3 + (index % 7));
  const { starts } = new Axis(time, 'time');
  const entries = Uint32Array.from(time.keys()).filter((index) => index % 3 > 0);
  const runsFrom = (left) => {
    const runs = [];
    visitStableRuns(entries, starts, left, left + 4000, 25, (first, last) => runs.push(`${first} ${last}`));
    return runs;
  };
  const all = [];
  visitStableRuns(entries, starts, 0, 20_000, 25, (first, last) => all.push(`${first} ${last}`));
  const countOf = ([first, last]) => last - first + 1;
  assert.equal(all.reduce((sum, run) => sum + countOf(run.split(' ').map(Number)), 0), entries.length);
  for (const left of [-100, 0, 777, 5000, 9999]) {
    const runs = runsFrom(left);
    assert.deepEqual(runs, all.slice(all.indexOf(runs[0]), all.indexOf(runs[0]) + runs.length), `from ${left}`);
    const [first, last] = [runs[0].split(' ')[0], runs.at(-1).split(' ')[1]].map((at) => starts[entries[at]]);
    assert.ok(first <= Math.max(left + 25, 10) && last >= left + 4000 - 25, `from ${left}: ${first} to ${last}`);
  }
});
