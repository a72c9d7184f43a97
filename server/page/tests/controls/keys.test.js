// Tests of the keys: what calls a command, and what does not.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { commandOf, KEY_GROUPS } from '../../controls/keys.js';

/** A key event, whose target matches `selectors`. */
function press(key, { selectors = [], ...modifiers } = {}) {
  const matches = (selector) => selectors.some((one) => selector.split(', ').includes(one));
  return { key, target: { closest: (selector) => (matches(selector) ? {} : null), matches }, ...modifiers };
}

test('keys call their commands', () => {
  const commands = [
    ['ArrowRight', 'next-entry'], ['ArrowLeft', 'previous-entry'], ['ArrowUp', 'lane-up'], ['ArrowDown', 'lane-down'],
    [']', 'next-turn'], ['PageDown', 'next-turn'], ['[', 'previous-turn'], ['PageUp', 'previous-turn'],
    ['Home', 'first-entry'], ['End', 'last-entry'], [' ', 'play'], ['f', 'next-finding'], ['F', 'previous-finding'],
    ['+', 'zoom-in'], ['-', 'zoom-out'], ['0', 'fit'], ['t', 'axis'], ['d', 'theme'], ['/', 'search'], ['?', 'help'],
    ['Escape', 'escape'], ['x', null], ['Enter', null],
  ];
  for (const [key, command] of commands) assert.equal(commandOf(press(key)), command, key);
});

test('shift and an arrow stay in the lane', () => {
  assert.equal(commandOf(press('ArrowRight', { shiftKey: true })), 'next-in-lane');
  assert.equal(commandOf(press('ArrowLeft', { shiftKey: true })), 'previous-in-lane');
  assert.equal(commandOf(press('F', { shiftKey: true })), 'previous-finding');
});

test('keys with a modifier belong to the browser', () => {
  for (const modifier of ['ctrlKey', 'altKey', 'metaKey', 'defaultPrevented']) {
    assert.equal(commandOf(press('f', { [modifier]: true })), null, modifier);
  }
});

test('keys in a text field or a choice call nothing but Escape', () => {
  for (const selectors of [['input'], ['select'], ['textarea'], ['[contenteditable]']]) {
    assert.equal(commandOf(press('f', { selectors })), null, selectors[0]);
    assert.equal(commandOf(press('Escape', { selectors })), 'escape', selectors[0]);
  }
});

test('a dialog has all keys, and closes at Escape itself', () => {
  for (const key of ['f', 'Escape', '?', 'ArrowRight']) {
    assert.equal(commandOf(press(key, { selectors: ['dialog'] })), null, key);
  }
});

test('space presses a focused button, and arrows still step', () => {
  assert.equal(commandOf(press(' ', { selectors: ['button'] })), null);
  assert.equal(commandOf(press('ArrowRight', { selectors: ['button'] })), 'next-entry');
});

test('a focused region scrolls with its keys', () => {
  const selectors = ['[data-scrolls]'];
  assert.equal(commandOf(press('ArrowDown', { selectors })), null);
  assert.equal(commandOf(press('End', { selectors })), null);
  assert.equal(commandOf(press('ArrowRight', { selectors })), 'next-entry');
});

test('each key has one command, and the map shows each command', () => {
  const rows = KEY_GROUPS.flatMap(({ rows }) => rows);
  const keys = rows.flatMap((row) => row.keys);
  assert.equal(new Set(keys).size, keys.length);
  for (const { command, shown, text } of rows) {
    assert.ok(shown.length > 0 && text.length > 3, command);
  }
});
