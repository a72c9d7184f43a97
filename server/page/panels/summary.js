// The head of the page: what was recorded.

import { countedNoun, spanText } from '../words/formatting.js';

/** The parts of the summary: entries, loops, time span, connections, findings, lost entries. */
export function summaryOf(recording) {
  const { entryCount, objects, loops, findings, time } = recording;
  if (entryCount === 0) return ['The recording has no entry'];
  const parts = [countedNoun(entryCount, 'entry', 'entries'), countedNoun(loops.length, 'loop'),
    spanText(time[entryCount - 1] - time[0]),
    countedNoun(objects.filter(({ kind }) => kind === 'connection').length, 'connection'),
    findings.length === 0 ? 'no finding' : countedNoun(findings.length, 'finding')];
  const lost = lostEntries(recording);
  if (lost > 0) parts.push(`${countedNoun(lost, 'entry', 'entries')} lost`);
  return parts;
}

/** The number of entries that are missing. */
export function lostEntries({ entryCount, kind, first, kindIndex }) {
  let sum = 0;
  for (let index = 0; index < entryCount; index += 1) {
    if (kind[index] === kindIndex.lost) sum += first[index];
  }
  return sum;
}
