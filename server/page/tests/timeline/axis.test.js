// Tests of the axes, and of the part in view.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Axis, Viewport, rulerStep } from '../../timeline/axis.js';
import { lowerBoundOf } from '../../recording/decode.js';

const MILLISECOND = 1e6;
const times = (...milliseconds) => Float64Array.from(milliseconds, (time) => time * MILLISECOND);

test('an entry takes one step, and a wait takes more the longer it is', () => {
  const axis = new Axis(times(0, 0.001, 0.001, 1.001, 1001.001), 'steps');
  const widths = [0, 1, 2, 3, 4].map((index) => axis.starts[index + 1] - axis.starts[index]);
  assert.deepEqual([widths[0], widths[1], widths[4]], [1, 1, 1]);
  assert.ok(widths[2] > 3 && widths[3] > widths[2] + 15 && widths[3] < 30, String(widths));
});

test('the axis of time is true to scale', () => {
  const axis = new Axis(times(5, 5, 7, 10), 'time');
  assert.deepEqual([...axis.starts], [0, 0, 2, 5, 5].map((time) => time * MILLISECOND));
  assert.equal(axis.timeAt(MILLISECOND), 6 * MILLISECOND);
});

test('a place leads to the last entry that begins there, and to a time between two entries', () => {
  const steps = new Axis(times(0, 0, 100), 'steps');
  assert.deepEqual([-1, 0, 0.99, 1, 5, 1e9].map((place) => steps.indexAt(place)), [0, 0, 0, 1, 1, 2]);
  const middle = (steps.endOf(1) + steps.starts[2]) / 2;
  assert.equal(steps.timeAt(middle), 50 * MILLISECOND);
  assert.equal(new Axis(times(1, 1, 1, 2), 'time').indexAt(0), 2);
});

test('no entry, one entry and equal times give finite numbers', () => {
  for (const kind of ['steps', 'time']) {
    for (const time of [times(), times(3), times(3, 3, 3)]) {
      for (const width of [0, 1000]) {
        const axis = new Axis(time, kind);
        const view = new Viewport(axis, width);
        view.zoomAt(10, 1e9);
        view.zoomAt(10, 1e-9);
        view.panBy(-50);
        view.reveal(0);
        view.setAxis(new Axis(time, 'time'));
        const numbers = [view.left, view.scale, view.right, view.toPixel(0), axis.timeAt(0.5), axis.indexAt(0.5)];
        assert.ok(numbers.every(Number.isFinite), `${kind} ${time.length}: ${numbers}`);
      }
    }
  }
});

test('time that goes back does not move an entry to the left', () => {
  assert.deepEqual([...new Axis(times(5, 3, 6), 'time').starts], [0, 0, 3e6, 3e6]);
});

test('the place under the pointer stays there while zooming', () => {
  const view = new Viewport(new Axis(new Float64Array(1000), 'steps'), 800);
  const place = view.toPlace(300);
  view.zoomAt(300, 4);
  assert.ok(Math.abs(view.toPixel(place) - 300) < 1e-6);
  view.zoomAt(300, 1e6);
  assert.equal(view.scale, view.scaleMax);
  view.zoomAt(300, 1e-6);
  assert.ok(view.isWhole);
});

test('a pan ends at the ends of the run', () => {
  const view = new Viewport(new Axis(new Float64Array(1000), 'steps'), 800);
  view.zoomAt(0, 10);
  view.panBy(1e9);
  assert.ok(view.toPixel(1000) < 800 && view.toPixel(1000) > 700);
  view.panBy(-1e9);
  assert.ok(view.toPixel(0) > 0 && view.toPixel(0) < 100);
});

test('reveal moves as little as is needed, and keeps what is around the entry in view', () => {
  const view = new Viewport(new Axis(new Float64Array(1000), 'steps'), 800);
  view.zoomAt(0, 10);
  view.centreAt(500);
  const { left } = view;
  view.reveal(501);
  assert.equal(view.left, left);
  view.reveal(600);
  assert.ok(view.toPixel(600) > 600 && view.toPixel(600) < 790, String(view.toPixel(600)));
  view.reveal(400);
  assert.ok(view.toPixel(400) < 200 && view.toPixel(400) > 10, String(view.toPixel(400)));
});

test('another axis or another width keeps the entries in view', () => {
  const time = Float64Array.from({ length: 1000 }, (_, index) => index * MILLISECOND);
  const view = new Viewport(new Axis(time, 'steps'), 800);
  view.zoomAt(0, 10);
  view.centreAt(view.axis.centreOf(500));
  view.setAxis(new Axis(time, 'time'));
  assert.ok(Math.abs(view.axis.indexAt(view.toPlace(400)) - 500) <= 1);
  view.resize(400);
  assert.ok(!view.isWhole);
  view.fit();
  view.resize(1600);
  view.resize(800);
  assert.ok(view.isWhole);
});

test('a few entries are not wider than they need to be', () => {
  const view = new Viewport(new Axis(new Float64Array(4), 'steps'), 2560);
  assert.equal(view.scale, 160);
});

test('the view around an entry shows each entry with its mark', () => {
  const view = new Viewport(new Axis(new Float64Array(1000), 'steps'), 700);
  view.showAround(500, 500);
  assert.equal(view.scale, 10);
  assert.ok(Math.abs(view.toPixel(500.5) - 350) < 1, 'the entry is in the middle');
  view.showAround(0, 0);
  assert.equal(view.toPixel(0), 16, 'the begin of the run is at the left border');
});

test('the view around an entry shows a whole wait if it fits', () => {
  const view = new Viewport(new Axis(new Float64Array(1000), 'steps'), 700);
  view.showAround(500, 580);
  assert.ok(view.toPixel(500) > 0 && view.toPixel(581) < 700, `${view.scale}`);
  view.showAround(500, 900);
  assert.equal(view.scale, 10, 'a wait that does not fit is not made smaller');
  assert.ok(view.toPixel(500) > 0 && view.toPixel(500) < 200, 'it begins near the left border');
});

test('a run that fits is whole in the view around an entry', () => {
  const view = new Viewport(new Axis(new Float64Array(20), 'steps'), 700);
  view.showAround(10, 10);
  assert.ok(view.isWhole);
});

test('a ruler has steps of 1, 2 or 5', () => {
  assert.deepEqual([1, 1.1, 3, 51, 0.004].map(rulerStep), [1, 2, 5, 100, 0.005]);
});

test('the lower bound is the first number that is not less', () => {
  const sorted = Uint32Array.of(2, 4, 4, 9);
  assert.deepEqual([0, 2, 3, 4, 5, 10].map((least) => lowerBoundOf(sorted, least)), [0, 0, 1, 1, 3, 4]);
});
