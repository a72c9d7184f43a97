// Tests: zoom, pan and selection on the timeline.

import assert from 'node:assert/strict';

import { entryOf, goTo, laneOf, pageTest, SIZES, useBrowser, waitForEntry } from './harness.js';

const browser = useBrowser();

const timelineOf = (page) => page.getByRole('img', { name: /^Timeline/ });

/** What is in view: `{ from, to, entries }`, times in seconds. */
async function viewOf(page) {
  return parseView(await timelineOf(page).getAttribute('aria-label'));
}

function parseView(label) {
  const [, from, to, entries] = /from ([\d.]+) s to ([\d.]+) s: ([\d,]+) entr/.exec(label);
  return { from: Number(from), to: Number(to), entries: Number(entries.replaceAll(',', '')) };
}

/** Does something, and returns the view that follows. It must differ. */
async function viewAfter(page, action) {
  const before = await timelineOf(page).getAttribute('aria-label');
  const [range] = before.split(';');
  await action();
  await page.waitForFunction((old) => (
    !document.querySelector('[role="img"][aria-label^="Timeline"]').ariaLabel.startsWith(old)
  ), range);
  return viewOf(page);
}

/** The view after several keys. The view of each is awaited before the next key, which could be mistaken for it. */
async function viewAfterKeys(page, keys) {
  let view;
  for (const key of keys) view = await viewAfter(page, () => page.keyboard.press(key));
  return view;
}

/** The view after an action, as soon as it is as expected. A gesture has views between. */
async function viewOnce(page, action, isExpected) {
  await action();
  const deadline = Date.now() + 10_000;
  for (;;) {
    const view = await viewOf(page);
    if (isExpected(view)) return view;
    assert.ok(Date.now() < deadline, `the view stays ${JSON.stringify(view)}`);
  }
}

/** The middle of the timeline, in pixels of the page. */
async function middleOf(page) {
  const { x, y, width, height } = await timelineOf(page).boundingBox();
  return { x: x + width / 2, y: y + height / 2 };
}

/** The view that the page begins with. */
async function firstViewOf(page) {
  await page.waitForFunction(() => document.querySelector('[role="img"][aria-label^="Timeline"]'));
  return viewOf(page);
}

pageTest('a long run begins with its first turns', browser, 1000, {}, async (page) => {
  const view = await firstViewOf(page);
  assert.ok(view.entries >= 20 && view.entries <= 150, `${view.entries} entries in view`);
  const overview = await page.locator('.timeline-overview').boundingBox();
  const inView = await page.locator('.timeline-window').boundingBox();
  assert.ok(inView.width < overview.width / 4 && inView.x - overview.x < 10, 'the overview shows the begin');
});

pageTest('a run with a finding begins around it', browser, 'slow-reader', {}, async (page) => {
  const view = await firstViewOf(page);
  assert.ok(view.entries <= 150, `${view.entries} entries in view`);
  const time = await page.locator('.timeline-tag').innerText();
  const at = Number(/([\d.]+) s$/.exec(time)[1]);
  assert.ok(view.from < at && at < view.to, `${at} s is not in view`);
});

pageTest('a link begins around its entry', browser, 1000, { hash: '#e=700' }, async (page) => {
  const view = await firstViewOf(page);
  assert.ok(view.entries <= 150 && view.from > 0, `${view.entries} entries in view`);
});

pageTest('a run of few entries uses the width', browser, 10, { size: SIZES.wide }, async (page) => {
  const view = await firstViewOf(page);
  assert.equal(view.entries, 10);
  await page.keyboard.press('End');
  const { x, width } = await timelineOf(page).boundingBox();
  const ring = await page.locator('.timeline-ring').boundingBox();
  assert.ok(ring.x > x + 0.8 * width, `the last entry is at ${ring.x - x} of ${width} pixels`);
});

pageTest('the address of each lane is whole', browser, 1000, {}, async (page) => {
  const cut = await page.locator('.timeline-label:visible .timeline-label-name').evaluateAll((names) => (
    names.filter((name) => name.scrollWidth > name.clientWidth).map((name) => name.textContent)
  ));
  assert.deepEqual(cut, []);
});

pageTest('the + and - keys zoom, and 0 shows the whole run', browser, 1000, { hash: '#e=500' }, async (page) => {
  const whole = await viewAfter(page, () => page.keyboard.press('0'));
  assert.equal(whole.entries, 1000);
  const closer = await viewAfter(page, () => page.keyboard.press('+'));
  assert.ok(closer.entries < whole.entries);
  const closest = await viewAfter(page, () => page.keyboard.press('+'));
  assert.ok(closest.entries < closer.entries);
  assert.deepEqual(await viewAfter(page, () => page.keyboard.press('-')), closer);
  assert.deepEqual(await viewAfter(page, () => page.keyboard.press('0')), whole);
});

pageTest('the buttons zoom', browser, 1000, {}, async (page) => {
  const button = (name) => page.getByRole('button', { name, exact: true });
  const whole = await viewAfter(page, () => page.keyboard.press('0'));
  const closer = await viewAfter(page, () => button('Zoom in').click());
  assert.ok(closer.entries < whole.entries);
  await viewAfter(page, () => button('Zoom in').click());
  assert.deepEqual(await viewAfter(page, () => button('Zoom out').click()), closer);
  assert.deepEqual(await viewAfter(page, () => button('Show the whole run').click()), whole);
});

pageTest('the wheel zooms at the pointer, and pans', browser, 1000, { hash: '#e=500' }, async (page) => {
  const whole = await viewAfter(page, () => page.keyboard.press('0'));
  const { x, y } = await middleOf(page);
  await page.mouse.move(x, y);
  await page.keyboard.down('Control');
  const closer = await viewAfter(page, () => page.mouse.wheel(0, -500));
  await page.keyboard.up('Control');
  assert.ok(closer.entries < whole.entries / 2 && closer.from > whole.from && closer.to < whole.to);
  const later = await viewAfter(page, () => page.mouse.wheel(200, 0));
  assert.ok(later.from > closer.from && later.to > closer.to);
});

pageTest('the mouse drags the timeline, and a click selects an entry', browser, 1000, { hash: '#e=500' }, async (page) => {
  const before = await viewAfterKeys(page, '0+++++++++');
  const { x, y } = await middleOf(page);
  const entry = await entryOf(page);
  const after = await viewAfter(page, async () => {
    await page.mouse.move(x, y);
    await page.mouse.down();
    await page.mouse.move(x - 150, y, { steps: 5 });
    await page.mouse.up();
  });
  assert.ok(after.to > before.to && after.from > before.from);
  assert.equal(await entryOf(page), entry);
  await clickAnEntry(page, (place) => page.mouse.click(place.x, place.y));
  assert.notEqual(await entryOf(page), entry);
});

/** Clicks in the lane of the selected entry until another entry is selected. */
async function clickAnEntry(page, click) {
  const entry = await entryOf(page);
  const { x, width, y, height } = await timelineOf(page).boundingBox();
  for (let across = 0.1; across < 1; across += 0.04) {
    for (const down of [0.1, 0.3, 0.5, 0.7]) {
      await click({ x: x + across * width, y: y + down * height });
      if (await entryOf(page) !== entry) return;
    }
  }
  assert.fail('no click selects an entry');
}

pageTest('the lane of the selected entry stays whole in view when the size changes', browser, 1000, {
  hash: '#e=700',
}, async (page) => {
  for (const [width, height] of [SIZES.usual, [1440, 600], [900, 900], SIZES.narrow, SIZES.wide, SIZES.usual]) {
    await page.setViewportSize({ width, height });
    // The parts of the page get their sizes one after the other.
    await page.waitForFunction((expected) => {
      const lane = document.querySelector('.timeline-lane-mark').getBoundingClientRect();
      const view = document.querySelector('.timeline-scroller').getBoundingClientRect();
      return innerWidth === expected && lane.height > 0 && lane.top >= view.top && lane.bottom <= view.bottom;
    }, width);
  }
});

pageTest('a step outside of the view comes into view', browser, 1000, { hash: '#e=20' }, async (page) => {
  const near = await viewAfterKeys(page, '0+++++++++');
  const far = await viewAfter(page, () => page.keyboard.press('End'));
  assert.ok(far.from > near.to);
  await goTo(page, 20);
  await page.waitForFunction((old) => (
    document.querySelector('[role="img"][aria-label^="Timeline"]').ariaLabel.includes(`from ${old}`)
  ), near.from.toFixed(6).slice(0, 5));
});

pageTest('the axis of time has the true scale', browser, 'slow-reader', {}, async (page) => {
  const steps = await viewAfterKeys(page, '0+');
  await viewAfterKeys(page, '0');
  await page.keyboard.press('t');
  await page.getByRole('button', { name: 'time', pressed: true }).waitFor();
  const time = await viewAfter(page, () => page.keyboard.press('+'));
  assert.notDeepEqual(time, steps);
});

pageTest('one finger pans, two fingers zoom, a tap selects', browser, 1000, {
  size: SIZES.narrow, hasTouch: true, isMobile: true, hash: '#e=500',
}, async (page) => {
  const before = await viewAfterKeys(page, '0+++++++');
  await timelineOf(page).scrollIntoViewIfNeeded();
  const touch = await page.context().newCDPSession(page);
  const send = (type, ...points) => touch.send('Input.dispatchTouchEvent', { type, touchPoints: points });
  const { x, y } = await middleOf(page);

  const panned = await viewOnce(page, async () => {
    await send('touchStart', { x, y });
    for (let at = 10; at <= 80; at += 10) await send('touchMove', { x: x - at, y });
    await send('touchEnd');
  }, ({ from, to }) => from > before.from && to > before.to);

  await viewOnce(page, async () => {
    await send('touchStart', { x: x - 20, y, id: 1 }, { x: x + 20, y, id: 2 });
    for (let at = 30; at <= 100; at += 10) await send('touchMove', { x: x - at, y, id: 1 }, { x: x + at, y, id: 2 });
    await send('touchEnd');
  }, ({ entries }) => entries < panned.entries / 2);

  await clickAnEntry(page, (place) => page.touchscreen.tap(place.x, place.y));
});

pageTest('keys step to other lanes', browser, 1000, { hash: '#e=300' }, async (page) => {
  const lane = await laneOf(page);
  await page.keyboard.press('ArrowDown');
  assert.notEqual(await laneOf(page), lane);
  await page.keyboard.press('ArrowUp');
  assert.equal(await laneOf(page), lane);
});
