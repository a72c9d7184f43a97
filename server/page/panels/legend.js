// The legend: the shape and the meaning of each category of entries.

import { element } from '../words/formatting.js';
import { fillGlyphCanvas } from '../timeline/glyphs.js';
import { KIND_STYLES } from '../words/kinds.js';
import { isForeignLoop } from '../words/source_places.js';
import { isErrorEntry } from '../timeline/spans.js';

/** The meanings, in the order of the legend. The last three shapes are added to others. */
const MEANINGS = {
  'wait': 'poll, turn',
  'event': 'event',
  'read': 'read',
  'write': 'write',
  'callback': 'callback',
  'callback-end': 'its return',
  'decision': 'decision',
  'time': 'deadline',
  'open': 'opened',
  'close': 'closed',
  'peer': 'simulated peer',
  'lost': 'entries missing',
  'error': 'failed',
  'finding': 'finding',
};

/** The shapes that occur in a recording, in the order of the legend. */
export function shapesOf(recording) {
  const { entryCount, kind, kinds, findings } = recording;
  const found = new Set();
  const categories = kinds.map(({ name }) => KIND_STYLES[name].category);
  const seen = new Uint8Array(kinds.length);
  for (let index = 0; index < entryCount; index += 1) {
    seen[kind[index]] = 1;
    if (isErrorEntry(recording, index)) found.add('error');
  }
  categories.forEach((category, at) => { if (seen[at]) found.add(category); });
  if (found.has('callback')) found.add('callback-end');
  if (findings.length > 0) found.add('finding');
  return Object.keys(MEANINGS).filter((shape) => found.has(shape));
}

/** Fills its element with the shapes that occur. */
export class Legend {
  constructor(parent, recording) {
    const shapes = shapesOf(recording);
    this.glyphs = shapes.map((shape) => {
      const canvas = element('canvas', 'glyph');
      canvas.setAttribute('aria-hidden', 'true');
      parent.append(element('li', '', canvas, MEANINGS[shape]));
      return { shape, canvas };
    });
    const run = element('span', 'legend-run');
    run.setAttribute('aria-hidden', 'true');
    parent.append(element('li', '', run, 'several: zoom in'));
    if (shapes.includes('error') && !recording.loops.some(({ name }) => isForeignLoop(name))) {
      parent.append(element('li', 'legend-note', 'A failed call is not a defect: the loop has handled it.'));
    }
  }

  /** Draws the glyphs in the colours of the present theme. */
  redraw() {
    for (const { shape, canvas } of this.glyphs) fillGlyphCanvas(canvas, shape);
  }
}
