// Writes pictures of pages at each width, in both themes.
//
// node tests/browser/screenshots.js FOLDER

import { join } from 'node:path';

import { Browser, SIZES } from './harness.js';

const folder = process.argv[2];
const browser = new Browser();
await browser.start();
try {
  for (const recording of [10, 1_000, 100_000, 'slow-reader']) {
    for (const theme of ['light', 'dark']) {
      for (const size of Object.values(SIZES)) {
        const page = await browser.open(await browser.pageOf(recording), { size, theme });
        const path = join(folder, `${recording}-${size[0]}-${theme}`);
        await page.screenshot({ path: `${path}.png`, fullPage: true });
        for (let press = 0; press < 8; press += 1) await page.keyboard.press('+');
        await page.screenshot({ path: `${path}-near.png` });
        await page.context().close();
      }
    }
  }
} finally {
  await browser.stop();
}
