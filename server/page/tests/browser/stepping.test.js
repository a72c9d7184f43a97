// Tests: steps, keys, findings and the search, by the keyboard alone.

import assert from 'node:assert/strict';

import { entryOf, goTo, laneOf, pageTest, stepOf, useBrowser, waitForEntry, wordsOf } from './harness.js';

const browser = useBrowser();

/** The words of 101 entries, by a key from one to the next. */
async function wordsOfSteps(page, key) {
  const words = [await wordsOf(page)];
  for (let step = 0; step < 100; step += 1) {
    await page.keyboard.press(key);
    words.push(await wordsOf(page));
  }
  return words;
}

for (const theme of ['light', 'dark']) {
  pageTest(`${theme}: a hundred steps forward and back read the same words`, browser, 1000, {
    theme, hash: '#e=200',
  }, async (page) => {
    const forward = await wordsOfSteps(page, 'ArrowRight');
    assert.equal(await entryOf(page), 300);
    assert.equal(new Set(forward).size, 101);
    const back = await wordsOfSteps(page, 'ArrowLeft');
    assert.deepEqual(back.reverse(), forward);
  });
}

pageTest('a step reads the same words after a jump as after steps', browser, 1000, { hash: '#e=500' }, async (page) => {
  const jumped = await wordsOf(page);
  await page.keyboard.press('Home');
  await page.keyboard.press('End');
  await goTo(page, 498);
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  assert.equal(await wordsOf(page), jumped);
});

pageTest('steps before the first entry and after the last do nothing', browser, 'greeting', {}, async (page) => {
  for (const [end, keys] of [['Home', ['ArrowLeft', '[', 'Shift+ArrowLeft', 'F']], ['End', ['ArrowRight', ']', 'f']]]) {
    await page.keyboard.press(end);
    const words = await wordsOf(page);
    for (const key of keys) {
      await page.keyboard.press(key);
      assert.equal(await wordsOf(page), words, key);
    }
  }
});

/** Presses a key, and returns the number of the entry that the page shows then. */
async function press(page, key) {
  await page.keyboard.press(key);
  return entryOf(page);
}

pageTest('keys step by entries, and to both ends', browser, 1000, { hash: '#e=100' }, async (page) => {
  assert.equal(await press(page, 'ArrowRight'), 101);
  assert.equal(await press(page, 'ArrowLeft'), 100);
  assert.equal(await press(page, 'Home'), 0);
  assert.equal(await press(page, 'End'), 999);
});

pageTest('keys step by entries of the lane', browser, 1000, { hash: '#e=300' }, async (page) => {
  const lane = await laneOf(page);
  for (const key of ['Shift+ArrowRight', 'Shift+ArrowLeft']) {
    for (let step = 0; step < 6; step += 1) {
      await page.keyboard.press(key);
      assert.equal(await laneOf(page), lane);
    }
    assert.ok(key === 'Shift+ArrowLeft' || await entryOf(page) > 306, 'the entries of other lanes are skipped');
  }
  assert.equal(await entryOf(page), 300);
});

for (const [next, previous] of [[']', '['], ['PageDown', 'PageUp']]) {
  pageTest(`${next} and ${previous} step by turns`, browser, 1000, { hash: '#e=300' }, async (page) => {
    const start = await press(page, next);
    assert.ok(start > 300);
    assert.match(await stepOf(page).evaluate((step) => step.textContent), /poll-begin/);
    assert.ok(await press(page, next) > start);
    assert.equal(await press(page, previous), start);
  });
}

pageTest('keys choose the axis and the theme', browser, 'greeting', {}, async (page) => {
  for (const axis of ['time', 'steps']) {
    await page.keyboard.press('t');
    assert.equal(await page.getByRole('button', { name: axis, pressed: true }).count(), 1);
  }
  const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const automatic = await colour();
  const colours = [];
  for (const expected of ['light', 'dark', 'auto']) {
    await page.keyboard.press('d');
    assert.equal(await page.getByRole('combobox', { name: 'Theme' }).inputValue(), expected);
    colours.push(await colour());
  }
  assert.equal(colours[0], automatic);
  assert.notEqual(colours[1], automatic);
  assert.equal(colours[2], automatic);
});

pageTest('keys open and close the key map', browser, 'greeting', {}, async (page) => {
  const help = page.getByRole('dialog', { name: 'Keys' });
  await page.keyboard.press('?');
  assert.equal(await help.isVisible(), true);
  await page.keyboard.press('Escape');
  assert.equal(await help.isVisible(), false);
});

pageTest('keys in the search field are text', browser, 'greeting', {}, async (page) => {
  await page.keyboard.press('/');
  const words = await wordsOf(page);
  await page.keyboard.type('t?d f');
  assert.equal(await page.getByRole('searchbox').inputValue(), 't?d f');
  assert.equal(await wordsOf(page), words);
});

pageTest('the page plays and pauses by the space key', browser, 1000, { hash: '#e=10' }, async (page) => {
  await page.keyboard.press(' ');
  await waitForEntry(page, 13);
  await page.keyboard.press(' ');
  assert.equal(await page.getByRole('button', { name: 'Play', exact: true }).isVisible(), true);
});

pageTest('keys with Control, Alt or Meta stay those of the browser', browser, 'greeting', {}, async (page) => {
  const words = await wordsOf(page);
  for (const key of ['Control+ArrowRight', 'Alt+t', 'Meta+ArrowRight']) await page.keyboard.press(key);
  assert.equal(await wordsOf(page), words);
});

pageTest('the Tab key reaches every control', browser, 'slow-reader', {}, async (page) => {
  const count = await page.evaluate(() => {
    const controls = [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')];
    window.unreached = new Set(controls.filter((each) => each.checkVisibility() && !each.disabled));
    document.addEventListener('focusin', (event) => window.unreached.delete(event.target));
    return window.unreached.size;
  });
  assert.ok(count > 15, `only ${count} controls`);
  for (let press = 0; press < count + 5; press += 1) await page.keyboard.press('Tab');
  assert.deepEqual(await page.evaluate(() => [...window.unreached].map((each) => each.outerHTML.slice(0, 200))), []);
});

pageTest('a finding leads to its entry', browser, 'slow-reader', { hash: '#e=0' }, async (page) => {
  const go = page.getByRole('region', { name: 'Findings' }).getByRole('button', { name: /^Go to entry/ }).first();
  const number = Number(/\d[\d,]*/.exec(await go.innerText())[0].replace(',', ''));
  await go.focus();
  await page.keyboard.press('Enter');
  assert.equal(await entryOf(page), number);
  await page.keyboard.press('Home');
  await page.keyboard.press('f');
  assert.equal(await entryOf(page), number);
});

/** Searches, and returns the words of the step that the first result leads to. */
async function find(page, query) {
  await page.keyboard.press('/');
  await page.keyboard.type(query);
  await page.getByRole('search').getByRole('button').first().waitFor();
  await page.keyboard.press('Enter');
  // The first closes the list, the second leaves the field.
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  return stepOf(page).evaluate((step) => step.textContent);
}

pageTest('the search finds a lane by the address of its peer and by its id', browser, 1000, {}, async (page) => {
  const lanes = await page.evaluate(() => JSON.parse(document.getElementById('recording').textContent).addresses);
  const address = lanes.findLast((each) => each?.startsWith('10.0.') && each !== '10.0.0.1:1234' && !each.endsWith(':5353'));
  assert.ok((await find(page, address)).includes(address));
  assert.match(await find(page, '#17'), /connection 10\.[\d.:]+ #17/);
});

pageTest('the search finds a kind of entry and an error', browser, 1000, { hash: '#e=0' }, async (page) => {
  assert.match(await find(page, 'EAGAIN'), /EAGAIN/);
  assert.match(await find(page, 'deadline-set'), /deadline-set/);
});

pageTest('a search without a result says so', browser, 'greeting', {}, async (page) => {
  await page.keyboard.press('/');
  await page.keyboard.type('no such client');
  await page.getByRole('search').getByText('Nothing found').waitFor();
});
