// Numbers, times and bytes as text, and small helpers for elements.

/** Bytes of a payload that are shown, at most. */
const PAYLOAD_BYTES_SHOWN_MAX = 1024;

/** Made once: `toLocaleString` makes one for each number. */
const NUMBER_FORMAT = new Intl.NumberFormat('en');

/** `1204567` as `1,204,567`. */
export function grouped(number) {
  return NUMBER_FORMAT.format(number);
}

/** `1 loop`, `2 loops`. */
export function countedNoun(count, noun, plural = `${noun}s`) {
  return `${grouped(count)} ${count === 1 ? noun : plural}`;
}

/** A point of time, in seconds with microseconds: `0.005000 s`. */
export function instantText(nanoseconds) {
  return `${(nanoseconds / 1e9).toFixed(6)} s`;
}

/** A span of time, with the digits that matter: `83 ms`, `1.2 s`, `340 us`, `0 us`. */
export function spanText(nanoseconds) {
  if (nanoseconds >= 60e9) return `${(nanoseconds / 60e9).toFixed(1)} min`;
  if (nanoseconds >= 1e9) return `${(nanoseconds / 1e9).toFixed(1)} s`;
  if (nanoseconds >= 1e6) return `${Math.floor(nanoseconds / 1e6)} ms`;
  return `${Math.floor(nanoseconds / 1e3)} us`;
}

/** Bytes as text: control characters, and what is not UTF-8, are visible. */
export function bytesAsText(bytes) {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(0, PAYLOAD_BYTES_SHOWN_MAX));
  const escapes = { '\n': '\\n\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' };
  return text.replace(/[\u0000-\u001f\u007f-\u009f\\\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (character) => (
    escapes[character] ?? `\\u{${character.charCodeAt(0).toString(16)}}`
  ));
}

/** Bytes as rows of an offset, 8 numbers and their ASCII characters. */
export function bytesAsHex(bytes) {
  const rows = [];
  for (let at = 0; at < Math.min(bytes.length, PAYLOAD_BYTES_SHOWN_MAX); at += 8) {
    const part = [...bytes.subarray(at, at + 8)];
    const numbers = part.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const characters = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    rows.push(`${at.toString(16).padStart(4, '0')}  ${numbers.padEnd(23)}  ${characters}`);
  }
  if (bytes.length > PAYLOAD_BYTES_SHOWN_MAX) rows.push(`… and ${countedNoun(bytes.length - PAYLOAD_BYTES_SHOWN_MAX, 'byte')} more`);
  return rows.join('\n');
}

/** Creates an element with a class and children; a string child is text. */
export function element(name, className = '', ...children) {
  const created = document.createElement(name);
  if (className !== '') created.className = className;
  created.append(...children);
  return created;
}
