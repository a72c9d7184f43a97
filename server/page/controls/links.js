// Links to an entry: the fragment of the address.

/**
 * Returns the fragment that links to an entry: `#e=31`, and the loop if there are several.
 */
export function linkOf(recording, index) {
  const loop = recording.loops.length > 1 ? `&loop=${recording.loopOf(index) + 1}` : '';
  return `#e=${recording.numberOf(index)}${loop}`;
}

/**
 * Returns the entry of a fragment as `{ index }`, or `{ problem }` in words. Without a fragment it returns null.
 */
export function entryOfLink(recording, fragment) {
  const text = fragment.replace(/^#/, '');
  if (text === '') return null;
  const fields = new URLSearchParams(text);
  const [number, loop] = [fields.get('e') ?? '', fields.get('loop') ?? '1'];
  if (!/^\d+$/.test(number) || !/^\d+$/.test(loop)) {
    return { problem: `The link ${shorten(fragment)} is not understood: write #e=31, or #e=31&loop=2.` };
  }
  const found = recording.loops[Number(loop) - 1];
  if (!found) {
    const loops = recording.loops.length === 1 ? '1 loop' : `${recording.loops.length} loops`;
    return { problem: `The link names loop ${shorten(loop)}, and the recording has ${loops}.` };
  }
  const index = recording.indexOf(found.index, Number(number));
  if (index === undefined || index < 0) {
    const entries = found.entryCount === 0 ? 'no entries' : `the entries 0 to ${found.entryCount - 1}`;
    return { problem: `The link names entry ${shorten(number)}, and the loop has ${entries}.` };
  }
  return { index };
}

function shorten(text) {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}
