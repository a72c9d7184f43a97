// The slab: a cell for each slot near the entry, a map.

import { countedNoun, element } from '../words/formatting.js';
import { ordinal, SLOT_CELLS_MAX, SLOT_STATES, slabCounts, slabView, slotText } from './table_rows.js';
import { setClass, setText, tableSection } from './table_parts.js';

/** The map is so much wider than high. */
const MAP_ASPECT = 6;
const SLOT_MARKS = {
  'not seen': '·', 'free': '○', 'connecting': '◌', 'open': '●', 'closing': '◐', 'closed': '✕',
};

/** Shows which slots are in use, touched and used again. */
export class SlabTable {
  constructor(recording, onSelectLane) {
    Object.assign(this, { recording, onSelectLane, first: 0 });
    this.counts = element('p', 'slab-counts');
    this.cells = element('ul', 'slots');
    this.detail = element('p', 'table-note slot-detail');
    this.key = element('p', 'slab-key', keyText());
    this.map = element('canvas', 'slab-map');
    this.map.setAttribute('role', 'img');
    this.map.addEventListener('click', (event) => this.onMapClick(event));
    const about = 'A connection lives in a slot, and a free slot is used again. Each use has a new generation (#), '
      + 'which tells an old event from one of the new connection.';
    this.section = tableSection('Slab', about, this.counts, this.map, this.cells, this.detail, this.key);
    this.slots = Array.from({ length: SLOT_CELLS_MAX }, () => this.makeSlot());
  }

  makeSlot() {
    const [number, mark, uses] = [element('b'), element('span', 'slot-mark'), element('span', 'slot-uses')];
    mark.setAttribute('aria-hidden', 'true');
    const words = element('span', 'for-readers');
    const button = element('button', 'slot', number, mark, uses, words);
    button.type = 'button';
    const slot = { item: element('li', '', button), button, number, mark, uses, words, cell: null };
    button.addEventListener('click', () => {
      if (slot.cell.object !== null) this.onSelectLane(slot.cell.object);
    });
    for (const type of ['pointerenter', 'focus']) button.addEventListener(type, () => this.describe(slot.cell));
    for (const type of ['pointerleave', 'blur']) button.addEventListener(type, () => this.describe(null));
    return slot;
  }

  show(state, index) {
    const view = slabView(this.recording, state, index, this.first);
    this.view = view;
    this.first = view.first;
    setText(this.counts, this.countsText(view));
    view.cells.forEach((cell, at) => this.showSlot(this.slots[at], cell));
    for (const { item } of this.slots.slice(view.cells.length)) item.remove();
    this.key.hidden = view.size === 0;
    this.describe(null);
    this.drawMap(view);
  }

  countsText(view) {
    if (view.size === 0) return 'No connection has used a slot yet.';
    const all = `${countedNoun(view.size, 'slot')}: ${slabCounts(view)}.`;
    if (view.size <= SLOT_CELLS_MAX) return all;
    return `${all} Below: slots ${view.first} to ${view.first + view.cells.length - 1}.`;
  }

  showSlot(slot, cell) {
    slot.cell = cell;
    const { state, uses, isTouched, isCurrent } = cell;
    setText(slot.number, String(cell.slot));
    setText(slot.mark, SLOT_MARKS[state]);
    setText(slot.uses, uses > 0 ? `${ordinal(uses)} use` : '–');
    const classes = ['slot', `slot-${state.replace(' ', '-')}`];
    if (isTouched) classes.push('is-touched');
    if (isCurrent) classes.push('is-current');
    setClass(slot.button, classes.join(' '));
    setText(slot.words, slotText(this.recording, cell));
    if (!slot.item.isConnected) this.cells.append(slot.item);
  }

  /** Shows the words of a slot, or of that of the entry. */
  describe(cell) {
    const shown = cell ?? this.view.cells.find(({ isCurrent }) => isCurrent);
    setText(this.detail, shown ? slotText(this.recording, shown) : ' ');
  }

  /** Draws a pixel for each slot; the page scales it. */
  drawMap({ size, states, touched, current, counts }) {
    this.map.hidden = size <= SLOT_CELLS_MAX;
    if (this.map.hidden) return;
    const width = Math.ceil(Math.sqrt(size * MAP_ASPECT));
    const height = Math.ceil(size / width);
    if (this.map.width !== width) this.map.width = width;
    if (this.map.height !== height) this.map.height = height;
    const context = this.map.getContext('2d');
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const colours = slotColours(this.map);
    const bright = colourNumber(this.map, '--accent');
    for (let slot = 0; slot < size; slot += 1) pixels[slot] = touched[slot] ? bright : colours[states[slot]];
    if (current !== null) pixels[current] = colourNumber(this.map, '--error');
    context.putImageData(image, 0, 0);
    this.map.setAttribute('aria-label', `Map of all slots: ${slabCounts({ counts })}`);
  }

  onMapClick(event) {
    const { left, top, width, height } = this.map.getBoundingClientRect();
    const column = Math.floor(((event.clientX - left) / width) * this.map.width);
    const slot = Math.floor(((event.clientY - top) / height) * this.map.height) * this.map.width + column;
    const object = this.view.objectOf(slot);
    if (object !== null) this.onSelectLane(object);
  }
}

function keyText() {
  const marks = Object.entries(SLOT_MARKS).filter(([state]) => state !== 'not seen');
  const words = marks.map(([state, mark]) => `${mark} ${state}`).join('  ');
  return `${words}; bold frame: touched in this turn; double frame: of this step.`;
}

/** The colours of the states of slots, as pixels. */
function slotColours(node) {
  const names = { 'not seen': '--background', 'free': '--border', 'connecting': '--event', 'open': '--text-quiet',
    'closing': '--close', 'closed': '--close' };
  return SLOT_STATES.map((state) => colourNumber(node, names[state]));
}

/** A colour of the theme as a pixel of image data. */
function colourNumber(node, name) {
  const [red, green, blue] = (getComputedStyle(node).getPropertyValue(name).match(/[\d.]+/g) ?? [0, 0, 0]).map(Number);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
