// Prints figures of pages of likely recordings.
//
// node tests/browser/measure.js 100000 1000000

import { Browser } from './harness.js';
import { figuresOf } from './figures.js';

const counts = process.argv.slice(2).map(Number);
const browser = new Browser();
await browser.start();
try {
  for (const entries of counts.length > 0 ? counts : [10, 1_000, 100_000, 1_000_000]) {
    const figures = await figuresOf(browser, await browser.pageOf(entries));
    console.log(`${entries} entries: ${JSON.stringify(figures, null, 1).replace(/\n\s+(?="(median|p95|max)|})/g, ' ')}`);
  }
} finally {
  await browser.stop();
}
