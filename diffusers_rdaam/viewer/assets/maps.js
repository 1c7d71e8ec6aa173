// Grid maps and their bicubic enlargement: the same as torch's, cubic convolution with a = -0.75,
// pixel centres aligned, the border repeated.

const CUBIC = -0.75;
const near = (x) => ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1;
const far = (x) => ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC;

const interpolations = new Map();

// The four cells of each pixel of one axis and their weights, and the running sums of the weights
// over the pixels: `sums[pixel * cells + cell]`, one row more than there are pixels.
function interpolation(cells, pixels) {
  const key = `${cells}/${pixels}`;
  let found = interpolations.get(key);
  if (found) return found;
  const index = new Int32Array(pixels * 4);
  const weight = new Float64Array(pixels * 4);
  const sums = new Float64Array((pixels + 1) * cells);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    const centre = ((pixel + 0.5) * cells) / pixels - 0.5;
    const first = Math.floor(centre);
    const t = centre - first;
    const weights = [far(1 + t), near(t), near(1 - t), far(2 - t)];
    sums.copyWithin((pixel + 1) * cells, pixel * cells, (pixel + 1) * cells);
    for (let tap = 0; tap < 4; tap += 1) {
      const cell = Math.min(Math.max(first - 1 + tap, 0), cells - 1);
      index[pixel * 4 + tap] = cell;
      weight[pixel * 4 + tap] = weights[tap];
      sums[(pixel + 1) * cells + cell] += weights[tap];
    }
  }
  found = { index, weight, sums, cells, pixels };
  if (interpolations.size > 48) interpolations.clear();
  interpolations.set(key, found);
  return found;
}

// The mean of the weights of the pixels between two edges, which may have fractions.
function meanWeights(cells, pixels, first, last) {
  const { sums } = interpolation(cells, pixels);
  const until = (edge, cell) => {
    const whole = Math.min(Math.floor(edge), pixels);
    const part = edge - whole;
    const low = sums[whole * cells + cell];
    return part > 0 ? low + part * (sums[(whole + 1) * cells + cell] - low) : low;
  };
  const result = new Float64Array(cells);
  for (let cell = 0; cell < cells; cell += 1) {
    result[cell] = (until(last, cell) - until(first, cell)) / (last - first);
  }
  return result;
}

// The maps of one grid; decompressed when they are first needed.
class Grid {
  constructor(block) {
    this.columns = block.columns;
    this.height = block.height;
    this.width = block.width;
    this.share = block.share;
    this.stream = block.stream;
    this.packed = block.data;
    this.unpacked = null;
  }

  // Another share of the same maps, which are unpacked once for both.
  withShare(share) {
    const grid = Object.create(Grid.prototype);
    Object.assign(grid, { columns: this.columns, height: this.height, width: this.width });
    Object.assign(grid, { share, stream: this.stream, source: this });
    return grid;
  }

  get values() {
    if (this.source) return this.source.values;
    if (!this.unpacked) {
      this.unpacked = unpack(this.packed, this.columns, this.height * this.width);
      this.packed = null;
    }
    return this.unpacked;
  }

  // The sum of some columns' maps.
  sum(columns) {
    const cells = this.height * this.width;
    const result = new Float64Array(cells);
    const values = this.values;
    for (const column of columns) {
      const start = column * cells;
      for (let cell = 0; cell < cells; cell += 1) result[cell] += values[start + cell];
    }
    return result;
  }
}

// What packing.py has written: for each column its lowest value and the size of a step, then the
// upper and the lower bytes of the differences.
function unpack(text, columns, cells) {
  const count = columns * cells;
  const bytes = inflate(bytesOfBase64(text), columns * 8 + count * 2);
  const head = new DataView(bytes.buffer, 0, columns * 8);
  const values = new Float32Array(count);
  let level = 0;
  for (let column = 0, i = 0; column < columns; column += 1) {
    const low = head.getFloat32(column * 8, true);
    const step = head.getFloat32(column * 8 + 4, true);
    for (let cell = 0; cell < cells; cell += 1, i += 1) {
      const upper = bytes[columns * 8 + i];
      const lower = bytes[columns * 8 + count + i];
      level = (level + ((upper << 8) | lower)) & 65535;
      values[i] = low + level * step;
    }
  }
  return values;
}

// Adds the enlargement of a grid's map, times a factor, to `output` of `height * width` pixels.
function addEnlarged(map, gridHeight, gridWidth, factor, height, width, output) {
  const across = interpolation(gridWidth, width);
  const down = interpolation(gridHeight, height);
  const rows = new Float64Array(gridHeight * width);
  for (let y = 0; y < gridHeight; y += 1) {
    for (let x = 0; x < width; x += 1) {
      let value = 0;
      for (let tap = x * 4; tap < x * 4 + 4; tap += 1) {
        value += map[y * gridWidth + across.index[tap]] * across.weight[tap];
      }
      rows[y * width + x] = value * factor;
    }
  }
  for (let y = 0; y < height; y += 1) {
    const [w0, w1, w2, w3] = down.weight.subarray(y * 4, y * 4 + 4);
    const starts = down.index.subarray(y * 4, y * 4 + 4);
    const [r0, r1, r2, r3] = [starts[0] * width, starts[1] * width, starts[2] * width,
      starts[3] * width];
    const start = y * width;
    for (let x = 0; x < width; x += 1) {
      output[start + x] += rows[r0 + x] * w0 + rows[r1 + x] * w1 + rows[r2 + x] * w2
        + rows[r3 + x] * w3;
    }
  }
}

// The sum of some columns' probabilities at every pixel, `height * width`.
function enlarged(grids, columns, height, width) {
  const output = new Float32Array(height * width);
  for (const grid of grids) {
    addEnlarged(grid.sum(columns), grid.height, grid.width, grid.share, height, width, output);
  }
  return output;
}
