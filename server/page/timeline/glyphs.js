// The shapes of the marks: one for each category of entries.

/** The colours of the page that drawings use, as CSS custom properties without `--`. */
const COLOUR_NAMES = [
  'background', 'surface', 'text', 'text-quiet', 'border', 'accent', 'focus', 'wait', 'event', 'read', 'write',
  'callback', 'decision', 'time', 'open', 'close', 'peer', 'lost', 'error',
];

/** Half the size of a glyph in the timeline, in pixels. */
export const GLYPH_RADIUS = 5;

/** Half the size of a cell of the atlas. */
const CELL_RADIUS = 8;

const polygon = (...corners) => (context, x, y, radius) => {
  context.beginPath();
  for (const [right, down] of corners) context.lineTo(x + right * radius, y + down * radius);
  context.closePath();
  context.fill();
};

const strokes = (width, ...lines) => (context, x, y, radius) => {
  context.beginPath();
  for (const [fromX, fromY, toX, toY] of lines) {
    context.moveTo(x + fromX * radius, y + fromY * radius);
    context.lineTo(x + toX * radius, y + toY * radius);
  }
  context.lineWidth = width * radius;
  context.stroke();
};

const circle = (isFilled) => (context, x, y, radius) => {
  context.beginPath();
  context.arc(x, y, radius * (isFilled ? 0.9 : 0.72), 0, 2 * Math.PI);
  context.lineWidth = 0.36 * radius;
  if (isFilled) context.fill();
  else context.stroke();
};

/** By category; and shapes of marks that are not categories. */
const SHAPES = {
  'wait': circle(false),
  'event': circle(true),
  'read': polygon([-1, -0.8], [1, -0.8], [0, 0.95]),
  'write': polygon([-1, 0.8], [1, 0.8], [0, -0.95]),
  'callback': polygon([-0.75, -1], [0.95, 0], [-0.75, 1]),
  'callback-end': polygon([0.75, -1], [-0.95, 0], [0.75, 1]),
  'decision': polygon([0, -1.1], [1, 0], [0, 1.1], [-1, 0]),
  'time': polygon([-0.85, -1], [0.85, -1], [-0.85, 1], [0.85, 1]),
  'open': strokes(0.5, [-1, 0, 1, 0], [0, -1, 0, 1]),
  'close': strokes(0.5, [-0.8, -0.8, 0.8, 0.8], [-0.8, 0.8, 0.8, -0.8]),
  'peer': strokes(0.4, [-0.9, -0.7, 0.9, -0.7], [0.7, -0.9, 0.7, 0.9], [0.9, 0.7, -0.9, 0.7], [-0.7, 0.9, -0.7, -0.9]),
  'lost': strokes(0.5, [-0.55, -1, -0.55, 1], [0.55, -1, 0.55, 1]),
  'error': (context, x, y, radius) => {
    polygon([0, -1.05], [1.1, 0.95], [-1.1, 0.95])(context, x, y, radius);
  },
  'finding': (context, x, y, radius) => {
    polygon([-0.7, -1], [1, -0.45], [-0.7, 0.15])(context, x, y, radius);
    context.fillRect(x - radius, y - radius, 0.35 * radius, 2 * radius);
  },
};

/** The colours of the shapes that are not categories. */
const SHAPE_COLOURS = { 'callback-end': 'callback', 'finding': 'error' };

/** Reads the colours of the present theme. */
export function readColours(parent) {
  const style = getComputedStyle(parent);
  return Object.fromEntries(COLOUR_NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim() || 'gray']));
}

/** Draws a shape in the colour of the context: of a category, or `error`, `finding`, `callback-end`. */
export function drawShape(context, shape, x, y, radius) {
  SHAPES[shape](context, x, y, radius);
}

/** Fills a small canvas with the glyph of a category; for legends. Its size is that of its CSS. */
export function fillGlyphCanvas(canvas, category, hasError = false) {
  const ratio = window.devicePixelRatio || 1;
  const size = canvas.clientWidth || 20;
  const colours = readColours(canvas);
  canvas.width = Math.round(size * ratio);
  canvas.height = canvas.width;
  const context = canvas.getContext('2d');
  context.scale(canvas.width / size, canvas.width / size);
  context.fillStyle = colours[SHAPE_COLOURS[category] ?? category];
  context.strokeStyle = context.fillStyle;
  drawShape(context, category, size / 2, size / 2, size * 0.32);
  if (!hasError) return;
  context.fillStyle = colours.error;
  drawShape(context, 'error', size * 0.8, size * 0.22, size * 0.18);
}

/** The glyphs of the timeline, drawn once for a theme and a resolution: copies are cheaper than paths. */
export class GlyphAtlas {
  constructor(colours, ratio) {
    const names = Object.keys(SHAPES);
    this.cell = Math.ceil(2 * CELL_RADIUS * ratio);
    this.columns = Object.fromEntries(names.map((name, at) => [name, at * this.cell]));
    this.canvas = document.createElement('canvas');
    this.canvas.width = this.cell * names.length;
    this.canvas.height = this.cell;
    const context = this.canvas.getContext('2d');
    names.forEach((name, at) => this.drawCell(context, name, at, colours, ratio));
  }

  /** A glyph has a border in the colour of the surface, so that it stands out from what is below it. */
  drawCell(context, name, at, colours, ratio) {
    const isMark = name === 'error' || name === 'finding';
    const radius = (isMark ? 3.6 : GLYPH_RADIUS) * ratio;
    const [x, y] = [(at + 0.5) * this.cell, this.cell / 2];
    context.save();
    context.lineJoin = 'round';
    context.fillStyle = colours[SHAPE_COLOURS[name] ?? name];
    context.strokeStyle = context.fillStyle;
    drawShape(context, name, x, y, radius);
    context.restore();
  }

  /** Copies a glyph to a place in pixels of the device. */
  draw(context, name, x, y) {
    const { cell } = this;
    context.drawImage(this.canvas, this.columns[name], 0, cell, cell,
      Math.round(x - cell / 2), Math.round(y - cell / 2), cell, cell);
  }
}
