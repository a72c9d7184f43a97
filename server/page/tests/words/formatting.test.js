// Tests of numbers, times and bytes as text.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { bytesAsHex, bytesAsText, countedNoun, instantText, spanText } from '../../words/formatting.js';

test('a span of time has the digits that matter', () => {
  const spans = [[0, '0 us'], [340_900, '340 us'], [83_000_000, '83 ms'], [1_240_000_000, '1.2 s'], [90e9, '1.5 min']];
  for (const [nanoseconds, text] of spans) assert.equal(spanText(nanoseconds), text);
});

test('a point of time has microseconds', () => {
  assert.equal(instantText(5_000_000), '0.005000 s');
});

test('counts have their noun', () => {
  assert.deepEqual([countedNoun(1, 'loop'), countedNoun(0, 'loop'), countedNoun(1204, 'entry', 'entries')],
    ['1 loop', '0 loops', '1,204 entries']);
});

test('bytes as text show control characters, also those that change the direction of text', () => {
  const bytes = new TextEncoder().encode('a\tb\r\nc\\\u0000\u202e</script>');
  assert.equal(bytesAsText(bytes), 'a\\tb\\r\\n\nc\\\\\\u{0}\\u{202e}</script>');
});

test('bytes as numbers have their offset and characters, eight a row', () => {
  const rows = bytesAsHex(new TextEncoder().encode('Hello, TCP Server!')).split('\n');
  assert.deepEqual(rows, [
    '0000  48 65 6c 6c 6f 2c 20 54  Hello, T',
    '0008  43 50 20 53 65 72 76 65  CP Serve',
    '0010  72 21                    r!',
  ]);
});

test('a long payload is cut, and says so', () => {
  assert.match(bytesAsHex(new Uint8Array(1500)), /… and 476 bytes more$/);
});
