// Tests of the strip with the whole run.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Axis } from '../../timeline/axis.js';
import { entryCounts } from '../../timeline/overview.js';

test('each entry is counted in one part of the strip', () => {
  const time = Float64Array.from([0, 0, 0, 4, 5, 10]);
  assert.deepEqual(entryCounts(new Axis(time, 'time'), 5), [3, 0, 2, 0, 1]);
  assert.deepEqual(entryCounts(new Axis(time, 'steps'), 1), [6]);
  assert.deepEqual(entryCounts(new Axis(Float64Array.of(7), 'time'), 3), [1, 0, 0]);
  assert.deepEqual(entryCounts(new Axis(new Float64Array(0), 'time'), 2), [0, 0]);
});
