// The entry that a step leads to.
import { lowerBoundOf } from '../recording/decode.js';

/**
 * Returns the next begin of a turn in the loop of an entry, or the previous one (the begin of its own turn first); the
 * last or first entry if there is none. A turn begins with its poll.
 */
export function turnBeside(recording, index, direction) {
  const { entryCount, kind, kindIndex } = recording;
  const loop = recording.loopOf(index);
  for (let at = index + direction; at >= 0 && at < entryCount; at += direction) {
    if (kind[at] === kindIndex['poll-begin'] && recording.loopOf(at) === loop) return at;
  }
  return direction > 0 ? entryCount - 1 : 0;
}

/** Returns the next or previous entry of the lane of an entry, or the entry itself at the end of its lane. */
export function entryInLane(recording, index, direction) {
  const entries = recording.entriesOf(recording.object[index]);
  return entries[lowerBoundOf(entries, index) + direction] ?? index;
}

/** Returns the entry of a lane that is nearest to an entry. */
export function nearestInLane(recording, lane, index) {
  const entries = recording.entriesOf(lane);
  if (entries.length === 0) return index;
  const after = Math.min(lowerBoundOf(entries, index), entries.length - 1);
  const before = Math.max(after - 1, 0);
  return index - entries[before] < Math.abs(entries[after] - index) ? entries[before] : entries[after];
}

/** Returns the entry of the next or previous finding; from the last on to the first. There is at least one finding. */
export function findingBeside(findings, index, direction) {
  const entries = findings.map((finding) => finding.index).sort((one, other) => one - other);
  return direction > 0
    ? entries.find((entry) => entry > index) ?? entries[0]
    : entries.findLast((entry) => entry < index) ?? entries.at(-1);
}
