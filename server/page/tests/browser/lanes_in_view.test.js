// Tests: lanes in view, groups, the overview, the text at the pointer.

import assert from 'node:assert/strict';

import { goTo, laneOf, pageTest, useBrowser } from './harness.js';

const browser = useBrowser();

const lanesOf = (page) => page.getByRole('group', { name: 'Lanes' });
const timelineOf = (page) => page.getByRole('img', { name: /^Timeline/ });

/** The middle of an element, in pixels of the page. */
async function middleOf(locator) {
  const { x, y, width, height } = await locator.boundingBox();
  return { x: x + width / 2, y: y + height / 2 };
}

/** Waits until a function of the page returns something true. */
const waitFor = (page, check, argument) => page.waitForFunction(check, argument);

pageTest('only lanes in view have elements, and the lane of the loop stays', browser, 1000, {}, async (page) => {
  const lanes = lanesOf(page);
  const room = await lanes.evaluate((element) => element.clientHeight);
  assert.ok(await lanes.evaluate((element) => element.scrollHeight) > 2 * room);
  const { x, y } = await middleOf(timelineOf(page));
  await page.mouse.move(x, y);
  await page.mouse.wheel(0, 300);
  await waitFor(page, () => [...document.querySelectorAll('.timeline-label.is-pinned')].some((label) => !label.hidden));
  assert.equal(await page.locator('.timeline-label.is-pinned').innerText(), 'worker 1');
  assert.ok(await lanes.evaluate((element) => element.scrollTop) >= 250);
  assert.ok(await page.locator('.timeline-label').count() <= room / 26 + 3);
});

pageTest('a heading closes its group; an entry in it opens it', browser, 1000, {}, async (page) => {
  const heading = page.getByRole('button', { name: /^worker 1/ });
  await lanesOf(page).evaluate((element) => { element.scrollTop = 0; });
  await heading.waitFor();
  await heading.focus();
  await page.keyboard.press('Enter');
  assert.equal(await heading.getAttribute('aria-expanded'), 'false');
  assert.equal(await page.locator('.timeline-label:visible').count(), 1);
  await goTo(page, 500);
  assert.doesNotMatch(await laneOf(page), /^worker 1/);
  await waitFor(page, () => document.querySelector('.timeline-heading').ariaExpanded === 'true');
  await waitFor(page, () => document.querySelector('.timeline-label.is-selected')?.hidden === false);
});

pageTest('a click on a name selects the nearest entry of its lane', browser, 1000, { hash: '#e=0' }, async (page) => {
  const label = page.locator('.timeline-label:visible').nth(3);
  const name = await label.getAttribute('title');
  await label.click();
  assert.ok((await laneOf(page)).startsWith(name), `${await laneOf(page)} is not ${name}`);
});

pageTest('the overview moves the view, and a double click zooms', browser, 1000, { hash: '#e=0' }, async (page) => {
  const entries = async () => Number(/: ([\d,]+) entr/.exec(await timelineOf(page).getAttribute('aria-label'))[1]);
  const changed = (action) => (async () => {
    const before = await timelineOf(page).getAttribute('aria-label');
    await action();
    await waitFor(page, (old) => document.querySelector('.timeline-canvas').ariaLabel !== old, before);
  })();
  await page.keyboard.press('0');
  await waitFor(page, () => document.querySelector('.timeline-canvas').ariaLabel?.includes('1,000 entries'));
  const { x, y } = await middleOf(timelineOf(page));
  await changed(() => page.mouse.dblclick(x, y));
  await changed(() => page.mouse.dblclick(x, y));
  assert.ok(await entries() < 400, `${await entries()} entries in view`);
  const strip = page.getByRole('img', { name: /^The whole run/ });
  const box = await strip.boundingBox();
  const windowLeft = () => page.locator('.timeline-window').evaluate((element) => element.getBoundingClientRect().left);
  await page.mouse.move(box.x + 5, box.y + 10);
  await changed(() => page.mouse.down());
  const atLeft = await windowLeft();
  await page.mouse.move(box.x + box.width * 0.8, box.y + 10, { steps: 4 });
  await page.mouse.up();
  // The first of these moves changes the view, too.
  await waitFor(page, (left) => document.querySelector('.timeline-window').getBoundingClientRect().left > left,
    atLeft + box.width / 2);
});

pageTest('the pointer shows what an entry is', browser, 'greeting', { hash: '#e=0' }, async (page) => {
  const ring = await page.locator('.timeline-ring').boundingBox();
  await page.mouse.move(ring.x + ring.width / 2, ring.y + ring.height / 2);
  const tip = page.locator('.timeline-tip');
  assert.match(await tip.innerText(), /\d\.\d{6} s\n(listener|watch|connection|worker)/);
  const { x } = await timelineOf(page).boundingBox();
  await page.mouse.move(x - 20, 5);
  await tip.waitFor({ state: 'hidden' });
});
