// Tests: the page opens, and hostile recordings do nothing.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { LOOP } from '../generate_recording.js';
import { entryOf, pageTest, stepOf, useBrowser, waitForEntry, wordsOf } from './harness.js';

const browser = useBrowser();

for (const recording of ['greeting', 'slow-reader', 'starved-client']) {
  pageTest(`${recording}: the page opens without an error and without a request`, browser, recording, {}, async (page) => {
    assert.ok((await page.title()).includes(recording));
    assert.ok((await page.getByRole('heading', { level: 1 }).innerText()).includes(recording));
    assert.match(await page.getByRole('banner').innerText(), /\d+ entries.*1 loop.*finding/s);
  });
}

pageTest('a healthy recording says that nothing was found', browser, 'greeting', {}, async (page) => {
  assert.match(await page.getByRole('region', { name: 'Findings' }).innerText(), /^Findings\s+No finding:/);
});

pageTest('an empty recording says so', browser, () => {}, { name: 'empty', ready: false }, async (page) => {
  await page.getByRole('alert').getByText('The recording has no entry').waitFor();
  for (const key of ['ArrowRight', 'End', ']', '+', 'f', 'd']) await page.keyboard.press(key);
});

pageTest('a recording of one entry opens', browser, (file) => file.add('poll-begin', LOOP, { timeout_ns: 0 }), {
  name: 'one entry',
}, async (page) => {
  for (const key of ['ArrowRight', 'ArrowLeft', 'End', ']', '[', '+', '-', '0', 't']) await page.keyboard.press(key);
  assert.equal(await entryOf(page), 0);
});

const TWO_LOOPS = (file) => {
  for (const loop of [0, 1]) {
    const listener = { object: 'listener', slot: 0, generation: 1 };
    file.add('listening', listener, { descriptor: 5 + loop, address: '10.0.0.1:80' }, loop);
    for (let turn = 0; turn < 5; turn += 1) {
      file.time += 1_000_000;
      file.add('poll-begin', LOOP, { timeout_ns: 'none' }, loop);
      file.add('poll-end', LOOP, { events: 0, more: 0 }, loop);
      file.add('turn-end', LOOP, { progress: 0 }, loop);
    }
  }
};
const LOOP_NAMES = { name: 'two loops', loops: ['first worker', 'second worker'] };

pageTest('of several loops, the page names that of the entry', browser, TWO_LOOPS, LOOP_NAMES, async (page) => {
  assert.match(await page.getByRole('banner').innerText(), /2 loops/);
  assert.match(await wordsOf(page), /first worker/);
  await page.keyboard.press('End');
  assert.match(await wordsOf(page), /second worker/);
});

pageTest('a link names the entry and, of several loops, the loop', browser, TWO_LOOPS, {
  ...LOOP_NAMES, hash: '#e=3&loop=2',
}, async (page) => {
  assert.equal(await entryOf(page), 3);
  assert.match(await wordsOf(page), /second worker/);
});

for (const recording of ['greeting', 100_000]) {
  pageTest(`${recording}: a page that is not painted, as in a hidden tab, opens`, browser, recording, {
    ready: false, initScript: () => { window.requestAnimationFrame = () => 0; },
  }, async (page) => {
    await page.locator('.step-title').filter({ hasText: /./ }).waitFor();
    assert.match(await page.getByRole('banner').innerText(), /\d+ entries/);
  });
}

pageTest('a short recording is shown when the page has loaded', browser, 'slow-reader', { ready: false }, async (page) => {
  assert.match(await stepOf(page).innerText(), /entry \d+ of/);
});

pageTest('the page opens at the entry of its link', browser, 'greeting', { hash: '#e=9' }, async (page) => {
  assert.equal(await entryOf(page), 9);
});

test('two pages with the same link show the same words', async () => {
  const words = [];
  for (const theme of ['light', 'dark']) {
    const page = await browser.open(await browser.pageOf('slow-reader'), { hash: '#e=31', theme });
    words.push(await wordsOf(page));
    await page.context().close();
  }
  assert.match(words[0], /entry 31 of/);
  assert.equal(words[0], words[1]);
});

pageTest('the address of the page follows the step, and the page follows its address', browser, 'greeting', {}, async (page) => {
  await page.keyboard.press('ArrowRight');
  await page.waitForURL(/#e=1$/);
  await page.evaluate(() => { location.hash = '#e=7'; });
  await waitForEntry(page, 7);
});

pageTest('the address gets the entry, and Back leads to it from a followed link', browser, 'slow-reader', {}, async (page) => {
  await page.waitForURL(/#e=\d+$/);
  const first = await entryOf(page);
  assert.ok(page.url().endsWith(`#e=${first}`));
  await page.evaluate(() => { location.hash = '#e=7'; });
  await waitForEntry(page, 7);
  await page.goBack();
  await waitForEntry(page, first);
});

pageTest('the skip link is no wrong link', browser, 'greeting', { hash: '#step' }, async (page) => {
  assert.equal(await page.getByRole('alert').isVisible(), false);
});

for (const [width, isOpen] of [[1440, true], [420, false]]) {
  pageTest(`${width} pixels: at a first visit the explanation is ${isOpen ? 'open' : 'closed'}`, browser, 'greeting', {
    size: [width, 900],
  }, async (page) => {
    assert.equal(await page.locator('#explanation').evaluate(({ open }) => open), isOpen);
    await page.locator('#explanation summary').click();
    await page.reload();
    assert.equal(await page.locator('#explanation').evaluate(({ open }) => open), !isOpen, 'the page keeps the choice');
  });
}

pageTest('a wrong link is reported, and the page works', browser, 'greeting', { hash: '#e=9999999' }, async (page) => {
  const alert = page.getByRole('alert');
  await alert.getByText(/^The link names entry 9999999/).waitFor();
  const hashes = ['#e=x', '#e=-1', '#e=', '#e=1e3', '#e=1&loop=7', '#e=%3Cimg%20src=x%3E', '#loop=2', '#foo', '#E=5', `#e=${'9'.repeat(300)}`];
  for (const hash of hashes) {
    await page.keyboard.press('End');
    await alert.waitFor({ state: 'hidden' });
    await page.evaluate((fragment) => { location.hash = fragment; }, hash);
    await alert.getByText(/^The link /).waitFor();
  }
});

pageTest('a link is followed although the address is replaced before its event', browser, 'greeting', {}, async (page) => {
  await page.evaluate(() => {
    location.hash = '#e=x';
    history.replaceState(null, '', '#e=5');
  });
  await page.getByRole('alert').getByText(/^The link #e=x /).waitFor();
});

pageTest('without JavaScript the page says that it needs it', browser, 'greeting', {
  javaScriptEnabled: false, ready: false,
}, async (page) => {
  const words = page.locator('noscript p');
  assert.equal(await words.isVisible(), true);
  assert.match(await words.innerText(), /needs JavaScript/);
  assert.equal(await page.getByRole('main').isVisible(), false);
  assert.doesNotMatch(await page.locator('body').innerText(), /The page reads|Theme/);
});

const HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">\u202e\u0000\u001b[31m';

/** Hostile text in each place of a recording that a client or an embedder chooses. */
const HOSTILE_RECORDING = (file) => {
  const connection = { object: 'connection', slot: 0, generation: 3 };
  // A file has the bytes of a path and of a payload as one character each.
  const bytes = Buffer.from(HOSTILE).toString('latin1');
  file.add('opened', connection, { descriptor: 9, listener_slot: 0, path: bytes });
  file.add('registered', connection);
  file.add('read', connection, { bytes: HOSTILE.length, of: 65_536, payload: bytes });
  file.time += 90_000_000;
  file.add('callback-begin', connection, { callback: 'on_data', input: HOSTILE.length });
  file.time += 90_000_000;
  file.add('callback-end', connection, { callback: 'on_data', consumed: HOSTILE.length });
};

pageTest('markup in a payload, a path and a name does nothing', browser, HOSTILE_RECORDING, {
  name: 'hostile </title><img src=x onerror=hacked=1>'.replaceAll('/', '∕'), loops: [HOSTILE], hash: '#e=2',
}, async (page) => {
  assert.ok((await stepOf(page).innerText()).includes('<script>window.hacked=1'), 'the payload is not shown as text');
  for (const key of ['Home', ...Array.from({ length: 6 }, () => 'ArrowRight')]) await page.keyboard.press(key);
  await page.getByRole('searchbox').fill('onerror');
  await page.getByRole('search').getByRole('status').waitFor();
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator('img').count(), 0);
});
