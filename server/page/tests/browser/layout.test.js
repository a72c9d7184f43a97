// Tests: sizes, themes and accessibility of the page.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { goTo, pageTest, SIZES, useBrowser } from './harness.js';

const AXE = createRequire(import.meta.url).resolve('axe-core');

const browser = useBrowser();

/** The rules of axe-core that the page breaks, each with its elements. */
async function violationsOf(page) {
  // The policy of the page allows no scripts from files.
  await page.evaluate(readFileSync(AXE, 'utf8'));
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' ')}`);
  });
}

/** What does not fit in the page: a scroll bar below it, controls on each other, texts that are cut. */
function misfits() {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`the page is ${root.scrollWidth} pixels wide`);
  const visible = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
  const name = (element) => `${element.tagName.toLowerCase()} "${(element.ariaLabel ?? element.textContent).slice(0, 40)}"`;
  const controls = [...document.querySelectorAll('button, input, select, summary, a[href]')]
    .filter((element) => visible(element) && !element.matches('.skip-link'));
  // A control that is outside of its scrolled panel, or behind a bar that stays in view, is not there.
  const boxes = controls.map((element) => ({ element, box: visiblePart(element) })).filter(({ box }) => box !== null);
  boxes.forEach(({ element, box }, at) => {
    for (const other of boxes.slice(at + 1)) {
      const width = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
      const height = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
      const isNested = element.contains(other.element) || other.element.contains(element);
      const isApart = barOf(element) !== barOf(other.element);
      if (width > 1 && height > 1 && !isNested && !isApart) found.push(`${name(element)} and ${name(other.element)} overlap`);
    }
  });
  for (const element of document.querySelectorAll('h1, h2, h3, p, li, dt, dd, th, td, button, label, summary, code, caption')) {
    if (!visible(element) || element.scrollWidth <= element.clientWidth + 1 || element.clientWidth === 0) continue;
    const { overflowX, textOverflow, display } = getComputedStyle(element);
    if (display !== 'inline' && textOverflow !== 'ellipsis' && !['auto', 'scroll'].includes(overflowX)) {
      found.push(`${name(element)} is ${element.scrollWidth} pixels wide in ${element.clientWidth}`);
    }
  }
  return found;

  function barOf(element) {
    for (let at = element; at !== null; at = at.parentElement) {
      if (['fixed', 'sticky'].includes(getComputedStyle(at).position)) return at;
    }
    return null;
  }

  function visiblePart(element) {
    let { left, right, top, bottom } = element.getBoundingClientRect();
    for (let at = element.parentElement; at !== null; at = at.parentElement) {
      if (getComputedStyle(at).overflowY === 'visible') continue;
      const clip = at.getBoundingClientRect();
      [left, right] = [Math.max(left, clip.left), Math.min(right, clip.right)];
      [top, bottom] = [Math.max(top, clip.top), Math.min(bottom, clip.bottom)];
    }
    return right - left > 1 && bottom - top > 1 ? { left, right, top, bottom } : null;
  }
}

for (const theme of ['light', 'dark']) {
  for (const [name, size] of Object.entries(SIZES)) {
    pageTest(`${theme}, ${size[0]} pixels: all fits, and axe-core has no complaint`, browser, 'slow-reader', {
      theme, size,
    }, async (page) => {
      assert.deepEqual(await page.evaluate(misfits), []);
      assert.deepEqual(await violationsOf(page), []);
      await openAll(page);
      assert.deepEqual(await page.evaluate(misfits), [], 'with all details open');
      assert.deepEqual(await violationsOf(page), [], 'with all details open');
      if (name === 'wide') return;
      await page.keyboard.press('?');
      assert.deepEqual(await page.evaluate(misfits), [], 'with the key map');
      assert.deepEqual(await violationsOf(page), [], 'with the key map');
    });
  }
}

for (const [width, height, columns] of [[1440, 900, 2], [2560, 1300, 4]]) {
  pageTest(`${width} pixels: the timeline is high, the step is whole, the tables are in ${columns} columns`, browser,
    'slow-reader', { size: [width, height] }, async (page) => {
      const heightOf = (selector) => page.locator(selector).evaluate((element) => element.clientHeight);
      assert.ok(await heightOf('.timeline-panel') >= Math.max(448, 0.6 * height));
      const step = await page.locator('.step-panel').evaluate(({ scrollHeight, clientHeight }) => scrollHeight - clientHeight);
      assert.equal(step, 0, 'the step is cut');
      const lefts = await page.locator('.state-table').evaluateAll((tables) => (
        tables.map((table) => table.getBoundingClientRect().left)
      ));
      assert.equal(new Set(lefts).size, columns);
    });
}

pageTest('420 pixels: recorded bytes as numbers are not cut off', browser, (file) => {
  const connection = { object: 'connection', slot: 0, generation: 3 };
  file.add('opened', connection, { descriptor: 9, listener_slot: 0, address: '10.0.0.9:4000' });
  file.add('read', connection, { bytes: 40, of: 65_536, payload: 'x'.repeat(40) });
}, { name: 'payload', size: SIZES.narrow, hash: '#e=1' }, async (page) => {
  await openAll(page);
  const { scrollWidth, clientWidth } = await page.locator('.step-payload details .bytes')
    .evaluate((bytes) => ({ scrollWidth: bytes.scrollWidth, clientWidth: bytes.clientWidth }));
  assert.ok(scrollWidth <= clientWidth, `${scrollWidth} pixels in ${clientWidth}`);
});

function openAll(page) {
  return page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
}
