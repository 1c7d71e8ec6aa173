// From a heat map to pixels: stretched, over a threshold, its connected parts, and its run lengths.

function limitsOf(values) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] < low) low = values[i];
    if (values[i] > high) high = values[i];
  }
  return [low, high];
}

// 1 where the map, stretched from 0 to 1, is over the threshold; nowhere in a flat map.
function maskOver(values, threshold) {
  const [low, high] = limitsOf(values);
  const mask = new Uint8Array(values.length);
  if (!(high > low)) return mask;
  for (let i = 0; i < values.length; i += 1) {
    mask[i] = (values[i] - low) / (high - low) > threshold ? 1 : 0;
  }
  return mask;
}

// The box around the largest part of a mask whose pixels touch along edges; null where it is empty.
function largestBox(mask, height, width) {
  const seen = new Uint8Array(mask.length);
  const stack = new Int32Array(mask.length);
  let best = null;
  let most = 0;
  for (let first = 0; first < mask.length; first += 1) {
    if (!mask[first] || seen[first]) continue;
    let [count, pixels, left, top, right, bottom] = [1, 0, width, height, 0, 0];
    stack[0] = first;
    seen[first] = 1;
    while (count) {
      const pixel = stack[--count];
      const y = Math.floor(pixel / width);
      const x = pixel - y * width;
      pixels += 1;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
      const visit = (other) => {
        if (!mask[other] || seen[other]) return;
        seen[other] = 1;
        stack[count++] = other;
      };
      if (x > 0) visit(pixel - 1);
      if (x < width - 1) visit(pixel + 1);
      if (y > 0) visit(pixel - width);
      if (y < height - 1) visit(pixel + width);
    }
    if (pixels > most) {
      most = pixels;
      best = [left, top, right, bottom];
    }
  }
  return best;
}

// COCO's run lengths, uncompressed: down the columns, beginning with pixels outside.
function runLengths(mask, height, width) {
  const counts = [];
  let inside = 0;
  let count = 0;
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      if (mask[y * width + x] !== inside) {
        counts.push(count);
        count = 0;
        inside = 1 - inside;
      }
      count += 1;
    }
  }
  counts.push(count);
  return { size: [height, width], counts };
}
