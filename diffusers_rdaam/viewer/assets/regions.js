// Regions of an image as weights: of pixels, and of the cells of a grid. The mean of an enlarged map
// over a region is the sum of the grid's cells times the region's weights, so that a region's
// scores need no map of the image's size.

// Sample rows in a pixel; along a row the share of a pixel is exact.
const ROWS = 4;

// A box (left, top, right, bottom) in pixels, its corners in order and inside the image; null where
// nothing of it is inside.
function boxInside(box, size) {
  const [height, width] = size;
  const [x0, y0, x1, y1] = box.map(Number);
  const left = Math.max(Math.min(x0, x1), 0);
  const top = Math.max(Math.min(y0, y1), 0);
  const right = Math.min(Math.max(x0, x1), width);
  const bottom = Math.min(Math.max(y0, y1), height);
  return right - left >= 1e-4 && bottom - top >= 1e-4 ? [left, top, right, bottom] : null;
}

// The share of each pixel inside a closed outline by the even-odd rule, of the part of the image
// around it: `{top, left, height, width, values}`; null where nothing is inside.
function outlineCoverage(points, size) {
  const [height, width] = size;
  const crossings = [];
  let low = Infinity;
  let high = -Infinity;
  points.forEach(([x0, y0], i) => {
    const [x1, y1] = points[(i + 1) % points.length];
    const below = [y0, y1].map((y) =>
      Math.min(Math.max(Math.ceil(y * ROWS - 0.5), 0), height * ROWS));
    for (let row = Math.min(...below); row < Math.max(...below); row += 1) {
      const x = x0 + (((row + 0.5) / ROWS - y0) * (x1 - x0)) / (y1 - y0);
      crossings.push([row, Math.min(Math.max(x, 0), width)]);
    }
  });
  if (!crossings.length) return null;
  crossings.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  for (const [, x] of crossings) {
    low = Math.min(low, Math.floor(x));
    high = Math.max(high, Math.ceil(x));
  }
  const top = Math.floor(crossings[0][0] / ROWS);
  const rows = Math.floor(crossings[crossings.length - 1][0] / ROWS) + 1 - top;
  const left = Math.min(low, width - 1);
  const columns = Math.max(high - left, 1);
  const steps = new Float64Array(rows * (columns + 2));
  crossings.forEach(([row, x], i) => {
    const sign = i % 2 ? -1 : 1;
    const cell = Math.floor(x);
    const share = sign * (x - cell);
    const place = (Math.floor(row / ROWS) - top) * (columns + 2) + cell - left;
    steps[place] += sign - share;
    steps[place + 1] += share;
  });
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row += 1) {
    let inside = 0;
    for (let column = 0; column < columns; column += 1) {
      inside += steps[row * (columns + 2) + column];
      values[row * columns + column] = Math.round((inside * 1e6) / ROWS) / 1e6;
    }
  }
  return values.some(Boolean) ? { top, left, height: rows, width: columns, values } : null;
}

// The part of a mask of the image's size that is not empty, as `outlineCoverage` gives it.
function maskCoverage(mask, size) {
  const [height, width] = size;
  let [top, left, bottom, right] = [height, width, -1, -1];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!mask[y * width + x]) continue;
      if (y < top) top = y;
      if (y > bottom) bottom = y;
      if (x < left) left = x;
      if (x > right) right = x;
    }
  }
  if (bottom < 0) return null;
  const [rows, columns] = [bottom - top + 1, right - left + 1];
  const values = new Float32Array(rows * columns);
  for (let y = 0; y < rows; y += 1) {
    for (let x = 0; x < columns; x += 1) {
      values[y * columns + x] = mask[(top + y) * width + left + x] ? 1 : 0;
    }
  }
  return { top, left, height: rows, width: columns, values };
}

// A region of an image: a box, an outline, or the pixels of a mask.
class Region {
  // `form` is `{box}`, `{polygon}` or `{mask}`; null is returned where nothing of it is inside.
  static of(form, size) {
    if (form.box) {
      const box = boxInside(form.box, size);
      return box && new Region(size, { box });
    }
    if (form.polygon) {
      const polygon = form.polygon.map(([x, y]) => [Number(x), Number(y)]);
      const coverage = polygon.length >= 3 ? outlineCoverage(polygon, size) : null;
      return coverage && new Region(size, { polygon, coverage });
    }
    const coverage = form.mask && maskCoverage(form.mask, size);
    return coverage ? new Region(size, { mask: form.mask, coverage }) : null;
  }

  constructor(size, { box = null, polygon = null, mask = null, coverage = null }) {
    Object.assign(this, { size, box, polygon, mask, coverage });
  }

  // The region's share of the image.
  get area() {
    const [height, width] = this.size;
    if (this.box) {
      const [left, top, right, bottom] = this.box;
      return ((right - left) * (bottom - top)) / (height * width);
    }
    let sum = 0;
    for (const value of this.coverage.values) sum += value;
    return sum / (height * width);
  }

  // The weights of a grid's cells, which sum to 1.
  cellWeights(gridHeight, gridWidth) {
    const [height, width] = this.size;
    if (!this.box) return this.pulledBack(gridHeight, gridWidth);
    const [left, top, right, bottom] = this.box;
    const rows = meanWeights(gridHeight, height, top, bottom);
    const columns = meanWeights(gridWidth, width, left, right);
    const cells = new Float64Array(gridHeight * gridWidth);
    for (let y = 0; y < gridHeight; y += 1) {
      if (!rows[y]) continue;
      for (let x = 0; x < gridWidth; x += 1) cells[y * gridWidth + x] = rows[y] * columns[x];
    }
    return cells;
  }

  // The adjoint of the enlargement: from the shares of pixels to the weights of cells.
  pulledBack(gridHeight, gridWidth) {
    const [height, width] = this.size;
    const part = this.coverage;
    const across = interpolation(gridWidth, width);
    const down = interpolation(gridHeight, height);
    const cells = new Float64Array(gridHeight * gridWidth);
    const row = new Float64Array(gridWidth);
    let total = 0;
    for (let y = 0; y < part.height; y += 1) {
      row.fill(0);
      for (let x = 0; x < part.width; x += 1) {
        const share = part.values[y * part.width + x];
        if (!share) continue;
        total += share;
        for (let tap = (part.left + x) * 4, end = tap + 4; tap < end; tap += 1) {
          row[across.index[tap]] += share * across.weight[tap];
        }
      }
      for (let tap = (part.top + y) * 4, end = tap + 4; tap < end; tap += 1) {
        const start = down.index[tap] * gridWidth;
        const factor = down.weight[tap];
        for (let x = 0; x < gridWidth; x += 1) cells[start + x] += factor * row[x];
      }
    }
    for (let cell = 0; cell < cells.length; cell += 1) cells[cell] /= total;
    return cells;
  }

  // A byte for each pixel: 1 where at least half of it is inside.
  pixels() {
    const [height, width] = this.size;
    const mask = new Uint8Array(height * width);
    if (this.box) {
      const [left, top, right, bottom] = this.box.map(Math.round);
      for (let y = top; y < bottom; y += 1) mask.fill(1, y * width + left, y * width + right);
      return mask;
    }
    const part = this.coverage;
    for (let y = 0; y < part.height; y += 1) {
      for (let x = 0; x < part.width; x += 1) {
        if (part.values[y * part.width + x] < 0.5) continue;
        mask[(part.top + y) * width + part.left + x] = 1;
      }
    }
    return mask;
  }
}

// The mean of each column over a region.
function columnScores(grids, region) {
  const scores = new Float64Array(grids[0].columns);
  for (const grid of grids) {
    const weights = region.cellWeights(grid.height, grid.width);
    const cells = [];
    for (let cell = 0; cell < weights.length; cell += 1) if (weights[cell]) cells.push(cell);
    const values = grid.values;
    for (let column = 0; column < scores.length; column += 1) {
      const start = column * weights.length;
      let sum = 0;
      for (const cell of cells) sum += values[start + cell] * weights[cell];
      scores[column] += grid.share * sum;
    }
  }
  return scores;
}
