// Describes one entry for a learner: what happened, and why.

import { CONNECTION_SENTENCES } from './sentences_of_connections.js';
import { DATAGRAM_SENTENCES } from './sentences_of_datagrams.js';
import { LISTENER_SENTENCES } from './sentences_of_listeners.js';
import { LOOP_SENTENCES } from './sentences_of_loop.js';
import { isForeignLoop, sourcePlaceOf } from './source_places.js';
import { StepFacts } from './step_facts.js';
import { systemCallOf } from './system_call.js';

/** By the kind of the entry: title, kernel and decision. */
const SENTENCES = { ...LOOP_SENTENCES, ...LISTENER_SENTENCES, ...CONNECTION_SENTENCES, ...DATAGRAM_SENTENCES };

/**
 * Describes an entry.
 * @param recording the decoded recording
 * @param before the state before the entry; null if it is not known
 * @param {number} index
 * @returns {{title: string, kernel: ?string, decision: ?string, call: ?string, place: ?Object}} the step in short; what
 *   the kernel reported; what the loop decided, and why; the system call; the function and file, null
 *   for another loop than the library's
 */
export function describeEntry(recording, before, index) {
  const step = new StepFacts(recording, before, index);
  const { title, kernel, decision } = SENTENCES[step.kind](step);
  return {
    title, kernel: kernel || null, decision: decision || null, call: systemCallOf(recording, before, index),
    place: placeOf(step),
  };
}

/** Null for a loop without the functions of the library. */
function placeOf(step) {
  if (isForeignLoop(step.loopName)) return null;
  const words = [step.objectKind];
  if (step.kind === 'callback-begin') words.unshift(`${step.callback} ${step.objectKind}`, step.callback);
  if (step.kind === 'opened' && step.first === 0) words.unshift('outbound');
  if (step.kind === 'message' && step.first === 1) words.unshift('note');
  if (step.kind === 'shutdown-write' && step.second === 1) words.unshift('both');
  if (step.kind === 'option-set' && step.second === 27) words.unshift('detach-filter');
  if (step.kind === 'option-set' && step.first === 6) words.unshift('sent-all');
  if (step.kind === 'read' && step.own.phase === 'closing') words.unshift('closing');
  return sourcePlaceOf(step.kind, words);
}
