// What can be taken out of the page: Python, a mask, a table, COCO.

// Numbers as Python reads them: whole where they are whole.
const pythonNumber = (value) => String(Number(value.toFixed(3)));

function pythonOf(form, size) {
  if (!form) return null;
  if (form.box) return `attribution.region((${form.box.map(pythonNumber).join(", ")}))`;
  if (form.polygon) {
    const points = form.polygon.map((point) => `(${point.map(pythonNumber).join(", ")})`);
    return `attribution.region([${points.join(", ")}])`;
  }
  const { counts } = runLengths(form.mask, ...size);
  return `attribution.region({"size": [${size.join(", ")}], "counts": [${counts.join(", ")}]})`;
}

// A cell that a spreadsheet would take for a formula begins with an apostrophe.
function csvCell(value) {
  const text = typeof value === "number" ? String(value) : value.replace(/^[=+\-@\t\r]/, "'$&");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvOf(words) {
  const rows = words.map((word) => [word.rank, word.text, word.lift, word.score, word.share]);
  return [["rank", "word", "lift", "score", "share"], ...rows]
    .map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function cocoAnnotation(id, category, mask, size, outline) {
  const [height, width] = size;
  let [left, top, right, bottom, area] = [width, height, 0, 0, 0];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!mask[y * width + x]) continue;
      area += 1;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
    }
  }
  return {
    id,
    image_id: 1,
    category_id: category,
    bbox: area ? [left, top, right - left, bottom - top] : [0, 0, 0, 0],
    area,
    iscrowd: outline ? 0 : 1,
    segmentation: outline ? [outline.flat()] : runLengths(mask, ...size),
  };
}

// A COCO data set of one image: the region, and the mask of the word, where there are such.
function cocoOf(size, { name, region, word }) {
  const categories = [];
  const annotations = [];
  const add = (category, mask, outline) => {
    categories.push({ id: categories.length + 1, name: category });
    const id = annotations.length + 1;
    annotations.push(cocoAnnotation(id, categories.length, mask, size, outline));
  };
  if (region) {
    let outline = region.polygon;
    if (region.box) {
      const [left, top, right, bottom] = region.box;
      outline = [[left, top], [right, top], [right, bottom], [left, bottom]];
    }
    add("region", region.pixels(), outline);
  }
  if (word) add(word.text, word.mask, null);
  const image = { id: 1, width: size[1], height: size[0], file_name: `${name}.png` };
  return { images: [image], annotations, categories };
}

function save(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const address = URL.createObjectURL(blob);
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function saveMask(name, mask, [height, width]) {
  const canvas = element("canvas", { width, height });
  const pixels = new Uint8ClampedArray(height * width * 4);
  for (let i = 0; i < mask.length; i += 1) {
    const level = mask[i] ? 255 : 0;
    pixels.set([level, level, level, 255], i * 4);
  }
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  return new Promise((resolve) => {
    canvas.toBlob((blob) => {
      save(name, blob);
      resolve();
    }, "image/png");
  });
}

// To the clipboard; a file that was opened from a disk may have none, and an older way then.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { class: "unseen", "aria-hidden": "true" });
    const focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return copied;
  }
}

// A name of a file from a prompt.
function fileName(text) {
  const plain = text.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
  return plain.slice(0, 60).toLowerCase() || "attribution";
}
