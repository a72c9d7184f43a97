// Figures of a page: size, first paint, steps, panning, memory.

import { readFileSync, statSync } from 'node:fs';

/** The frames that a pan is measured for: three seconds. */
const PAN_FRAMES = 180;

/** How far the timeline moves from frame to frame, in pixels. */
const PAN_PIXELS = 8;

/** Entries in view while the timeline pans: about so many. */
const PAN_VIEWS = [100, 2_000, 40_000];

const STEPS = 100;

/** Runs in the page before its script: adds up the time of its animation frames. */
function countFrameWork() {
  const request = window.requestAnimationFrame.bind(window);
  window.frameWork = 0;
  window.requestAnimationFrame = (callback) => request((time) => {
    const start = performance.now();
    callback(time);
    window.frameWork += performance.now() - start;
  });
  window.longestTask = 0;
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) window.longestTask = Math.max(window.longestTask, duration);
  }).observe({ type: 'longtask', buffered: true });
}

/**
 * Runs in the page. Takes steps, and returns the time of each in milliseconds: its handler, the frame that draws it, and
 * both layouts. A step is a key, or a jump to a random entry.
 */
async function timeSteps({ key, jumps }) {
  const random = (limit) => Math.floor(Math.random() * limit);
  const total = JSON.parse(document.getElementById('recording').textContent).entryCount;
  const step = () => {
    if (!jumps) return () => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    history.replaceState(null, '', `#e=${random(total)}`);
    return () => dispatchEvent(new HashChangeEvent('hashchange', { newURL: location.href }));
  };
  const layout = () => document.body.offsetHeight;
  const times = [];
  for (let count = 0; count < (jumps ?? 1); count += 1) {
    const act = step();
    layout();
    window.frameWork = 0;
    const start = performance.now();
    act();
    layout();
    const handled = performance.now() - start;
    await new Promise((resolve) => { requestAnimationFrame(resolve); });
    const drawn = performance.now();
    layout();
    times.push(handled + window.frameWork + performance.now() - drawn);
  }
  return times;
}

/** Runs in the page. Pans the timeline in each frame; returns the times between frames and the work of each. */
async function timePan({ frames, pixels }) {
  const canvas = document.querySelector('[role="img"][aria-label^="Timeline"]');
  const nextFrame = () => new Promise((resolve) => { requestAnimationFrame(resolve); });
  const intervals = [];
  const work = [];
  let before = await nextFrame();
  for (let frame = 0; frame < frames; frame += 1) {
    window.frameWork = 0;
    const direction = frame < frames / 2 ? 1 : -1;
    canvas.dispatchEvent(new WheelEvent('wheel', { deltaX: direction * pixels, bubbles: true, cancelable: true }));
    const time = await nextFrame();
    intervals.push(time - before);
    work.push(window.frameWork);
    before = time;
  }
  return { intervals, work };
}

function summary(times) {
  const sorted = [...times].sort((one, other) => one - other);
  const at = (part) => Number(sorted[Math.min(Math.floor(part * sorted.length), sorted.length - 1)].toFixed(1));
  return { median: at(0.5), p95: at(0.95), max: at(1) };
}

/** Repeats a key, each press timed for itself. */
async function timeKeys(page, key, count) {
  const times = [];
  for (let press = 0; press < count; press += 1) times.push(...await page.evaluate(timeSteps, { key }));
  return times;
}

async function timePans(page) {
  const pans = {};
  const entries = await page.evaluate(() => JSON.parse(document.getElementById('recording').textContent).entryCount);
  for (const view of PAN_VIEWS) {
    await page.keyboard.press('0');
    // A zoom changes the number of entries in view by a factor of about 1.5.
    const presses = Math.round(Math.log(entries / view) / Math.log(1.5));
    if (presses < 1) continue;
    for (let press = 0; press < presses; press += 1) await page.keyboard.press('+');
    const { intervals, work } = await page.evaluate(timePan, { frames: PAN_FRAMES, pixels: PAN_PIXELS });
    pans[`${view} in view`] = { interval: summary(intervals), work: summary(work) };
  }
  return pans;
}

/** The resident memory of the process that draws the page, in MB. */
async function residentMegabytes(browser) {
  const session = await browser.chromium.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  const renderers = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => {
    const status = readFileSync(`/proc/${id}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024;
  });
  return Math.round(Math.max(...renderers));
}

/** Opens the page in `file`, and returns its figures; times in milliseconds. */
export async function figuresOf(browser, file) {
  const page = await browser.open(file, { hash: '#e=0', initScript: countFrameWork });
  try {
    const opened = await page.evaluate(() => ({
      firstPaint: Math.round(performance.getEntriesByName('first-contentful-paint')[0].startTime),
      shown: Math.round(performance.now()),
    }));
    const toTheEnd = summary(await page.evaluate(timeSteps, { key: 'End' })).max;
    const steps = {
      back: summary(await timeKeys(page, 'ArrowLeft', STEPS)),
      jump: summary(await page.evaluate(timeSteps, { jumps: STEPS })),
      forward: summary(await timeKeys(page, 'ArrowRight', STEPS)),
    };
    return {
      bytes: statSync(file).size, ...opened, toTheEnd, steps, pans: await timePans(page),
      longestTask: Math.round(await page.evaluate(() => window.longestTask)),
      residentMegabytes: await residentMegabytes(browser), problems: page.problems,
    };
  } finally {
    await page.context().close();
  }
}
