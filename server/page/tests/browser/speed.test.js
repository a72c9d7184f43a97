// Tests: a page of 100,000 entries is quick, one of 1,000,000 opens.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { figuresOf } from './figures.js';
import { entryOf, pageTest, useBrowser } from './harness.js';

const browser = useBrowser();

/** The page is made for these times, in milliseconds. */
const LIMITS = { firstPaint: 1_000, step: 20, frame: 17 };

/** A machine that runs other tests at the same time is slower; `npm run measure` prints the figures of a quiet one. */
const SLOWER = 5;

test('a page of 100,000 entries has at most 2,000,000 bytes, and is quick', async () => {
  const figures = await figuresOf(browser, await browser.pageOf(100_000));
  const text = JSON.stringify(figures);
  assert.ok(figures.bytes <= 2_000_000, text);
  assert.ok(figures.firstPaint <= SLOWER * LIMITS.firstPaint, text);
  // The slowest steps and frames are those that waited for another process.
  for (const { median } of Object.values(figures.steps)) assert.ok(median <= SLOWER * LIMITS.step, text);
  const pans = Object.values(figures.pans);
  assert.equal(pans.length, 3, text);
  for (const { interval } of pans) assert.ok(interval.median <= SLOWER * LIMITS.frame, text);
  assert.deepEqual(figures.problems, []);
});

pageTest('a page of 1,000,000 entries opens, and steps to its end', browser, 1_000_000, {}, async (page) => {
  await page.keyboard.press('End');
  assert.equal(await entryOf(page), 999_999);
});
