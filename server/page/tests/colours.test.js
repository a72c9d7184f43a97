// Tests of the colours: each is visible in both themes.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { KIND_STYLES } from '../words/kinds.js';

const STYLE = readFileSync(new URL('../page.css', import.meta.url), 'utf8');
const COLOURS = Object.fromEntries([...STYLE.matchAll(/--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)/g)]
  .map(([, name, light, dark]) => [name, { light, dark }]));
const CATEGORIES = [...new Set(Object.values(KIND_STYLES).map(({ category }) => category)), 'error'];

/** The contrast of two colours, as WCAG 2 defines it. */
function contrast(one, other) {
  const [low, high] = [one, other].map(luminance).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

function luminance(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

for (const theme of ['light', 'dark']) {
  test(`the shape of each category has a contrast of 3 in the ${theme} theme`, () => {
    for (const name of CATEGORIES) {
      for (const ground of ['background', 'surface']) {
        const found = contrast(COLOURS[name][theme], COLOURS[ground][theme]);
        assert.ok(found >= 3, `${name} on ${ground}: ${found.toFixed(2)}`);
      }
    }
  });

  test(`text has a contrast of 4.5 in the ${theme} theme`, () => {
    for (const name of ['text', 'text-quiet', 'accent', 'focus']) {
      for (const ground of ['background', 'surface']) {
        const found = contrast(COLOURS[name][theme], COLOURS[ground][theme]);
        assert.ok(found >= 4.5, `${name} on ${ground}: ${found.toFixed(2)}`);
      }
    }
  });
}

test('scripts can read each colour of a theme', () => {
  const registered = [...STYLE.matchAll(/@property --([a-z-]+) \{ syntax: '<color>'/g)].map(([, name]) => name);
  assert.deepEqual(registered, Object.keys(COLOURS));
});
