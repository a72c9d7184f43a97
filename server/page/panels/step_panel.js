// The panel of a step: what happened, why, its call, its fields.

import { bytesAsHex, bytesAsText, countedNoun, element, grouped, instantText, spanText } from '../words/formatting.js';
import { fillGlyphCanvas } from '../timeline/glyphs.js';
import { linkOf } from '../controls/links.js';

/** How long the copy button shows that it has copied, in milliseconds. */
const COPIED_SHOWN_MS = 1500;

/** Shows one entry of a recording in words. */
export class StepPanel {
  /**
   * `describe(index)` returns `{ title, kernel, decision, call, place }`, `turnOf(index)` a number, 0 before the first turn,
   * `glyphOf(index)` a category and whether the entry is an error.
   */
  constructor(parent, recording, { describe, turnOf, glyphOf }) {
    Object.assign(this, { recording, describe, turnOf, glyphOf });
    this.heading = element('h2', '', 'Step');
    this.heading.id = 'step-heading';
    this.position = element('p', 'step-position');
    this.glyph = element('canvas', 'glyph');
    this.glyph.setAttribute('aria-hidden', 'true');
    this.title = element('p', 'step-title');
    this.title.setAttribute('aria-live', 'polite');
    this.words = element('dl', 'step-words');
    this.payload = element('div', 'step-payload');
    this.fields = element('dl', 'step-fields');
    this.link = element('a', 'step-link');
    this.copy = element('button', '', 'Copy link');
    this.copy.type = 'button';
    this.copy.addEventListener('click', () => this.copyLink());
    parent.append(
      element('div', 'panel-head', this.heading, this.position),
      element('div', 'step-title-row', this.glyph, this.title), this.words, this.payload,
      element('details', 'step-details', element('summary', '', 'All fields of the entry'), this.fields),
      element('p', 'step-link-row', 'Link to this step: ', this.link, ' ', this.copy),
    );
  }

  /** `isAnnounced` is false while the page plays: a screen reader could not follow. */
  show(index, isAnnounced) {
    const { recording } = this;
    const { title, kernel, decision, call, place } = this.describe(index);
    // Drawing reads the size of the canvas, so it comes before the changes of the layout.
    this.showGlyph(this.glyphOf(index));
    this.title.setAttribute('aria-live', isAnnounced ? 'polite' : 'off');
    this.title.textContent = title;
    this.position.textContent = this.positionText(index);
    const rows = [];
    if (kernel) rows.push(['The kernel', kernel]);
    // A server with a mistake may do something else.
    if (decision) rows.push([place ? 'The loop' : 'A right loop', decision]);
    if (call) rows.push(['System call', element('code', 'call', call)]);
    rows.push(place ? ['Source', element('code', '', place.function), ' in ', element('code', '', place.file)]
      : ['Source', 'A server of the tour on mio, not the loop of halloo.']);
    this.words.replaceChildren(...rows.map((row) => descriptionRow(...row)));
    this.payload.replaceChildren(...payloadRows(recording.payloadOf(index)));
    this.fields.replaceChildren(...fieldsOf(recording, index).map((row) => descriptionRow(...row)));
    const link = linkOf(recording, index);
    this.link.textContent = link;
    this.link.href = link;
  }

  /** Draws the glyph if it is not that of the entry before. */
  showGlyph(glyph) {
    if (glyph.category === this.shown?.category && glyph.isError === this.shown.isError) return;
    fillGlyphCanvas(this.glyph, glyph.category, glyph.isError);
    this.shown = glyph;
  }

  /** Draws the glyph in the colours of the present theme. */
  redraw() {
    fillGlyphCanvas(this.glyph, this.shown.category, this.shown.isError);
  }

  positionText(index) {
    const { recording } = this;
    const loop = recording.loops[recording.loopOf(index)];
    const turn = this.turnOf(index);
    const parts = [`entry ${grouped(recording.numberOf(index))} of 0 to ${grouped(loop.entryCount - 1)}`];
    if (turn > 0) parts.push(`turn ${grouped(turn)}`);
    if (recording.loops.length > 1) parts.push(loop.name);
    parts.push(instantText(recording.time[index]));
    const passed = index > 0 ? recording.time[index] - recording.time[index - 1] : 0;
    if (passed >= 1000) parts.push(`${spanText(passed)} after the entry before`);
    return parts.join(' · ');
  }

  async copyLink() {
    const address = new URL(this.link.getAttribute('href'), location.href).href;
    let text = 'Copied';
    try {
      await navigator.clipboard.writeText(address);
    } catch {
      // A page of a file may have no clipboard: the selected link can be copied with the keyboard.
      getSelection().selectAllChildren(this.link);
      text = 'Link selected';
    }
    this.copy.textContent = text;
    clearTimeout(this.copyTimer);
    this.copyTimer = setTimeout(() => { this.copy.textContent = 'Copy link'; }, COPIED_SHOWN_MS);
  }
}

function descriptionRow(term, ...description) {
  return element('div', '', element('dt', '', term), element('dd', '', ...description));
}

/** The recorded bytes of an entry, as text and as numbers. */
export function payloadRows(bytes) {
  // A failed call has no bytes.
  if (bytes === undefined || bytes.length === 0) return [];
  const hex = element('pre', 'bytes', bytesAsHex(bytes));
  return [
    element('p', 'quiet', `Recorded bytes: ${countedNoun(bytes.length, 'byte')}`),
    element('pre', 'bytes', bytesAsText(bytes)),
    element('details', '', element('summary', '', 'As hexadecimal numbers'), hex),
  ];
}

/** The fields of an entry, with the names that they have in files. */
export function fieldsOf(recording, index) {
  const lane = recording.objects[recording.object[index]];
  const { name, numbers } = recording.kinds[recording.kind[index]];
  const rows = [['kind', name], ['lane', lane.name],
    ['object', `${recording.objectKinds[recording.objectKind[index]]}, slot ${recording.slot[index]}`]];
  if (lane.kind !== 'loop') rows.push(['generation', String(lane.generation)]);
  numbers.forEach((word, which) => {
    if (word !== null) rows.push([word, numberText(recording, index, word, which)]);
  });
  const error = recording.errno[index];
  if (error !== 0) rows.push(['errno', `${error} ${recording.errorNames[error] ?? ''}`.trim()]);
  const address = recording.addressOf(index);
  if (address !== undefined) rows.push(['address', address]);
  rows.push(['time_ns', grouped(recording.time[index])]);
  return rows;
}

function numberText(recording, index, word, which) {
  const number = recording.exact(index, which);
  if (number === Infinity) return 'none';
  const text = grouped(number);
  const named = { callback: recording.callbacks, reason: recording.reasons }[word]?.[Number(number)];
  if (named !== undefined) return `${text} ${named}`;
  return word.endsWith('_ns') ? `${text} (${spanText(Number(number))})` : text;
}
