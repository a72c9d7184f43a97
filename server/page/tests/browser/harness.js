// Opens pages of recordings in a browser, for tests and measurements.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

import { chromium } from 'playwright-core';

import { generateRecording, RecordingFile } from '../generate_recording.js';

const REPOSITORY = fileURLToPath(new URL('../../../../', import.meta.url));
const BROWSER = process.env.CHROMIUM ?? '/usr/bin/chromium';
const HALLOO = process.env.HALLOO ?? join(REPOSITORY, 'target/debug/halloo');

/** The browser makes no connections of its own. */
const ARGUMENTS = [
  '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync',
];

/** Widths that the page is made for, with a likely height. */
export const SIZES = { narrow: [420, 900], usual: [1440, 900], wide: [2560, 1440] };

const run = promisify(execFile);

/** A browser, and a folder for the pages that it opens. */
export class Browser {
  async start() {
    this.folder = mkdtempSync(join(tmpdir(), 'halloo-page-'));
    this.pages = new Map();
    this.chromium = await chromium.launch({ executablePath: BROWSER, args: ARGUMENTS });
  }

  async stop() {
    await this.chromium?.close();
    rmSync(this.folder, { recursive: true });
  }

  /**
   * The file of the page of a recording: `greeting` is `docs/recordings/greeting.json`, a number is a likely recording of so
   * many entries, and a function gets a `RecordingFile` to fill. Each page is made once.
   */
  async pageOf(recording, { loops = ['worker 1'], name = 'made', clients } = {}) {
    const key = typeof recording === 'function' ? name : recording;
    if (!this.pages.has(key)) this.pages.set(key, this.makePage(recording, join(this.folder, `${key}`), loops, clients));
    return this.pages.get(key);
  }

  async makePage(recording, path, loops, clients) {
    let file = `${path}.json`;
    if (typeof recording === 'number') {
      generateRecording(file, { entries: recording, clients });
    } else if (typeof recording === 'function') {
      const made = new RecordingFile(file, loops);
      recording(made);
      made.close();
    } else {
      file = join(REPOSITORY, 'docs/recordings', `${recording}.json`);
    }
    // The exit status 5 means that there are findings.
    await run(HALLOO, ['view', file, '--html', `${path}.html`]).catch((error) => assert.equal(error.code, 5, error));
    return `${path}.html`;
  }

  /** Opens a page. Close its context at the end. */
  async open(file, { size = SIZES.usual, theme = 'light', hash = '', ready = true, initScript, ...options } = {}) {
    const [width, height] = size;
    const context = await this.chromium.newContext({ viewport: { width, height }, colorScheme: theme, ...options });
    const page = await context.newPage();
    if (initScript) await page.addInitScript(initScript);
    page.setDefaultTimeout(20_000);
    page.problems = [];
    const url = pathToFileURL(file).href;
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) page.problems.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => page.problems.push(`error: ${error.message}`));
    page.on('request', (request) => {
      if (request.url().split('#')[0] !== url) page.problems.push(`request: ${request.url()}`);
    });
    await page.goto(url + hash);
    if (ready) await page.waitForFunction(() => document.querySelector('.step-title')?.textContent);
    return page;
  }
}

/** Starts a browser for the tests of a file, and stops it after them. */
export function useBrowser() {
  const browser = new Browser();
  before(() => browser.start());
  after(() => browser.stop());
  return browser;
}

/**
 * A test of an open page: `check(page, browser)`. It fails, too, if the page logged an error or made a request.
 * `recording` and `options` are those of `pageOf` and `open`.
 */
export function pageTest(name, browser, recording, options, check) {
  test(name, async () => {
    const page = await browser.open(await browser.pageOf(recording, options), options);
    try {
      await check(page);
      assert.deepEqual(page.problems, []);
    } finally {
      await page.context().close();
    }
  });
}

/** The panel of the step. */
export function stepOf(page) {
  return page.getByRole('region', { name: 'Step', exact: true });
}

/** The words of the step: all that the panel shows. */
export async function wordsOf(page) {
  return stepOf(page).innerText();
}

/** The number of the entry that the page shows. */
export async function entryOf(page) {
  const [, number] = /entry ([\d,\s]+) of/.exec(await wordsOf(page));
  return Number(number.replace(/\D/g, ''));
}

/** The name of the lane of the entry. */
export async function laneOf(page) {
  // The fields are closed at first, so they have no inner text.
  return stepOf(page).evaluate((step) => /lane(.*?)object/.exec(step.textContent)[1]);
}

/** Waits until the page shows an entry. */
export async function waitForEntry(page, number) {
  await page.waitForFunction((expected) => {
    const found = /entry ([\d,\s]+) of/.exec(document.getElementById('step').textContent);
    return found !== null && Number(found[1].replace(/\D/g, '')) === expected;
  }, number);
}

/** Follows a link to an entry. */
export async function goTo(page, number) {
  await page.evaluate((hash) => {
    // The address may have this fragment already.
    location.hash = '';
    location.hash = hash;
  }, `#e=${number}`);
  await waitForEntry(page, number);
}
