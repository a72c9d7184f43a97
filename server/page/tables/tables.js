// The tables of a state: slab, buffers, ready queue, deadlines.

import { bufferRows, bytesText, deadlineRows, loopText, outboxText, queueRows } from './table_rows.js';
import { countedNoun, element, grouped } from '../words/formatting.js';
import { RowTable, setText } from './table_parts.js';
import { SlabTable } from './slab_table.js';

/** A bar is full at this level, or at the highest of the table. */
const FULL_BAR_BYTES = 64 * 1024;

/** Shows the state of the loop of an entry. */
export class Tables {
  /** `onSelectLane(object)` is called when an object is chosen. */
  constructor(parent, recording, { onSelectLane }) {
    this.recording = recording;
    this.loop = element('p', 'table-loop');
    this.slab = new SlabTable(recording, onSelectLane);
    this.buffers = new RowTable('Buffers', 'The loop reads into the inbox; the handler consumes it. The outbox has '
      + 'what the kernel had not accepted at the last write. A handler may have added more since.',
    ['Connection', 'Inbox', 'Outbox'], onSelectLane);
    this.queue = new RowTable('Ready queue', 'The last poll reported these objects, or the turn before left them work. '
      + 'The loop serves one after the other; all others wait. Objects with input that is not read come last.',
    ['Object', 'State'], onSelectLane);
    this.deadlines = new RowTable('Deadlines', 'A poll waits at most until the first deadline. The loop never sleeps '
      + 'for it.', ['Object', 'Time'], onSelectLane);
    const sections = [this.slab, this.buffers, this.queue, this.deadlines].map(({ section }) => section);
    parent.append(this.loop, element('div', 'state-tables', ...sections));
  }

  /** Shows a state, after the entry with this index. */
  show(state, index) {
    const { recording } = this;
    this.shown = [state, index];
    setText(this.loop, loopText(recording, state, index));
    this.slab.show(state, index);
    this.showBuffers(bufferRows(recording, state, index));
    this.showQueue(state, index);
    const { rows, more } = deadlineRows(recording, state, index);
    const cells = rows.map(({ object, name, text, isCurrent, isOverdue }) => (
      { object, name, isCurrent, cells: [{ text, className: isOverdue ? 'is-late' : '' }] }
    ));
    this.deadlines.show(cells, rows.length === 0 ? 'No deadline is recorded.' : moreText(more, 'later deadline'));
  }

  /** Draws again, in the colours of the present theme. */
  redraw() {
    if (this.shown) this.show(...this.shown);
  }

  showBuffers({ rows, more, connections }) {
    const most = Math.max(FULL_BAR_BYTES, ...rows.map(({ inbox, outbox }) => Math.max(inbox, outbox)));
    const level = (bytes, text) => ({ text, level: bytes / most });
    const cells = rows.map(({ object, name, inbox, outbox, words, isCurrent }) => {
      const levels = [level(inbox, bytesText(inbox)), level(outbox, outboxText(outbox))];
      return { object, name, isCurrent, words: words.join(', '), cells: levels };
    });
    let note = moreText(more, 'more connection with bytes', 'more connections with bytes');
    if (connections === 0) note = 'No connection is open.';
    else if (rows.length === 0) note = `No bytes wait in the buffers of ${countedNoun(connections, 'open connection')}.`;
    this.buffers.show(cells, note);
  }

  showQueue(state, index) {
    const { rows, before, after, total, served, unread } = queueRows(this.recording, state, index);
    const cells = rows.map(({ object, name, status, isCurrent }) => (
      { object, name, isCurrent, cells: [{ text: status, className: status === 'served' ? 'is-quiet' : '' }] }
    ));
    const loop = state.loops[this.recording.loopOf(index)];
    let note = before + after > 0 ? `${grouped(total)} in all: ${grouped(served)} served. ` : '';
    if (before > 0) note += `${grouped(before)} above are not shown. `;
    if (after > 0) note += `And ${grouped(after)} more.`;
    if (total === 0) note = loop.phase === 'poll' ? 'The poll has not returned.' : 'The poll reported nothing.';
    if (total === 0 && loop.turn === 0) note = 'The loop has not polled yet.';
    const unreadShown = rows.filter(({ isUnread }) => isUnread).length;
    const unreadMore = moreText(unread - unreadShown, 'more with unread input', 'more with unread input');
    if (unreadMore !== '') note = `${note} ${unreadMore}`.trim();
    this.queue.show(cells, note);
  }
}

function moreText(count, noun, plural) {
  return count > 0 ? `And ${countedNoun(count, noun, plural)}.` : '';
}
