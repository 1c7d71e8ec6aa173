// Decompression of zlib streams (RFC 1950, RFC 1951). Browsers have a DecompressionStream, which
// answers later; maps are wanted at once, wherever they are asked for, and a megabyte takes a few
// hundredths of a second here.

const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67,
  83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5,
  5, 5, 0];
const DISTANCE_BASE = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513,
  769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
const DISTANCE_BITS = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11,
  11, 12, 12, 13, 13];
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

// A table from the next bits of the stream to `symbol << 4 | length`, for canonical code lengths.
function huffmanTable(lengths) {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length] += 1;
  counts[0] = 0;
  let most = 15;
  while (most > 1 && !counts[most]) most -= 1;
  const next = new Uint16Array(17);
  for (let length = 1; length <= 15; length += 1) {
    next[length + 1] = (next[length] + counts[length]) << 1;
  }
  const table = new Uint16Array(1 << most);
  lengths.forEach((length, symbol) => {
    if (!length) return;
    const code = next[length]++;
    let reversed = 0;
    for (let bit = 0; bit < length; bit += 1) reversed |= ((code >> bit) & 1) << (length - 1 - bit);
    for (let entry = reversed; entry < table.length; entry += 1 << length) {
      table[entry] = (symbol << 4) | length;
    }
  });
  return { table, most };
}

const FIXED_LENGTHS = Array.from({ length: 288 }, (_, symbol) =>
  symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8);
let fixedTables = null;

// The `size` bytes that a zlib stream holds.
function inflate(source, size) {
  const output = new Uint8Array(size);
  let position = 2; // after the header of two bytes
  let hold = 0;
  let held = 0;
  let written = 0;

  const bits = (count) => {
    if (position > source.length + 8) throw new Error("The maps are damaged.");
    while (held < count) {
      hold |= (source[position++] || 0) << held;
      held += 8;
    }
    const value = hold & ((1 << count) - 1);
    hold >>>= count;
    held -= count;
    return value;
  };
  const symbol = ({ table, most }) => {
    while (held < most) {
      hold |= (source[position++] || 0) << held;
      held += 8;
    }
    const entry = table[hold & (table.length - 1)];
    const length = entry & 15;
    if (!length || position > source.length + 8) throw new Error("The maps are damaged.");
    hold >>>= length;
    held -= length;
    return entry >> 4;
  };
  const dynamicTables = () => {
    const literals = bits(5) + 257;
    const distances = bits(5) + 1;
    const codes = bits(4) + 4;
    const codeLengths = new Array(19).fill(0);
    for (let i = 0; i < codes; i += 1) codeLengths[CODE_ORDER[i]] = bits(3);
    const codeTable = huffmanTable(codeLengths);
    const lengths = [];
    while (lengths.length < literals + distances) {
      const code = symbol(codeTable);
      if (code < 16) lengths.push(code);
      else {
        const repeated = code === 16 ? lengths[lengths.length - 1] : 0;
        let times = code === 16 ? bits(2) + 3 : code === 17 ? bits(3) + 3 : bits(7) + 11;
        while (times--) lengths.push(repeated);
      }
    }
    return [huffmanTable(lengths.slice(0, literals)), huffmanTable(lengths.slice(literals))];
  };
  const copyBlock = ([literals, distances]) => {
    for (;;) {
      const code = symbol(literals);
      if (code < 256) output[written++] = code;
      else if (code === 256) return;
      else {
        let length = LENGTH_BASE[code - 257] + bits(LENGTH_BITS[code - 257]);
        const place = symbol(distances);
        const distance = DISTANCE_BASE[place] + bits(DISTANCE_BITS[place]);
        while (length--) {
          output[written] = output[written - distance];
          written += 1;
        }
      }
      if (written > size) throw new Error("The maps are damaged.");
    }
  };

  let last = 0;
  while (!last) {
    last = bits(1);
    const kind = bits(2);
    if (kind === 0) {
      // Bytes as they are, from the next whole byte; some may have been read ahead.
      position -= held >> 3;
      hold = 0;
      held = 0;
      const length = source[position] | (source[position + 1] << 8);
      position += 4;
      output.set(source.subarray(position, position + length), written);
      position += length;
      written += length;
    } else if (kind === 1) {
      fixedTables = fixedTables || [huffmanTable(FIXED_LENGTHS), huffmanTable(new Array(30).fill(5))];
      copyBlock(fixedTables);
    } else copyBlock(dynamicTables());
  }
  if (written !== size || adler32(output) !== trailer(source)) {
    throw new Error("The maps are damaged.");
  }
  return output;
}

// The check sum that ends a zlib stream.
function trailer(source) {
  return new DataView(source.buffer, source.byteOffset).getUint32(source.length - 4);
}

function adler32(bytes) {
  let low = 1, high = 0;
  for (let i = 0; i < bytes.length;) {
    // So many sums stay exact before they are reduced.
    for (const end = Math.min(i + 3800, bytes.length); i < end; i += 1) high += low += bytes[i];
    low %= 65521;
    high %= 65521;
  }
  return ((high << 16) | low) >>> 0;
}

function bytesOfBase64(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = characters.charCodeAt(i);
  return bytes;
}
