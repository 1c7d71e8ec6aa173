// One text with its maps: the words' maps, and the words of a region, ranked.

// Of the words' attention; with less of it in other columns, it is the same everywhere.
const LEAST_REST = 1e-3;
const RANKINGS = ["lift", "score", "share"];
// The least lift of a whole bar.
const WHOLE_BAR = 1.25;

function sumOf(scores, columns) {
  let sum = 0;
  for (const column of columns) sum += scores[column];
  return sum;
}

// Of several grids those that are chosen, with shares that sum to 1 again, and their levels.
function partOf(choice, kind, label, chosen, size) {
  const total = chosen.reduce((sum, grid) => sum + grid.share, 0);
  const grids = chosen.map((grid) => grid.withShare(grid.share / total));
  let levels = null;
  return {
    kind,
    label,
    grids,
    threshold: choice.threshold,
    get levels() {
      if (!levels) levels = columnScores(grids, Region.of({ box: [0, 0, size[1], size[0]] }, size));
      return levels;
    },
  };
}

class TextRecord {
  constructor(data, size) {
    Object.assign(this, {
      size,
      role: data.role,
      name: data.name,
      texts: data.texts,
      words: data.words,
      groups: data.groups,
      special: data.special,
      noWordLevel: data.noWordLevel,
    });
    this.choices = data.maps.map((maps) => ({
      kind: maps.kind,
      label: maps.label,
      threshold: maps.threshold,
      levels: maps.levels,
      grids: maps.grids.map((grid) => new Grid(grid)),
    }));
    this.choices.push(...this.gridChoices());
    this.choice = this.choices[0];
    this.wordColumns = new Set(this.words.flatMap((word) => word.columns));
  }

  // Streams and grid sizes, where there are several: parts of the maps of the whole run.
  gridChoices() {
    const whole = this.choices[0];
    const found = [];
    const split = (kind, nameOf) => {
      const names = [...new Set(whole.grids.map(nameOf))];
      if (names.length < 2) return;
      for (const name of names) {
        const chosen = whole.grids.filter((grid) => nameOf(grid) === name);
        found.push(partOf(whole, kind, name, chosen, this.size));
      }
    };
    split("stream", (grid) => grid.stream || "one kind of block");
    split("grid", (grid) => `${grid.width} by ${grid.height} cells`);
    return found;
  }

  ofKind(kind) {
    return this.choices.filter((choice) => choice.kind === kind);
  }

  map(columns, [height, width], choice = this.choice) {
    return enlarged(choice.grids, columns, height, width);
  }

  // The words of a region, or of the whole image for null, in the order of the text.
  regionWords(region, choice = this.choice) {
    const { levels } = choice;
    const scores = region ? columnScores(choice.grids, region) : levels;
    const totals = this.groups.map((group) => sumOf(scores, group.columns));
    const everything = totals.reduce((sum, score) => sum + score, 0);
    const words = this.groups.map((group, number) => {
      const level = sumOf(levels, group.columns);
      return {
        text: group.label,
        group: number,
        words: group.words,
        score: totals[number],
        share: everything > 0 ? totals[number] / everything : 0,
        lift: level > 0 ? totals[number] / level : 0,
      };
    });
    const special = Object.fromEntries(Object.entries(this.special).map(
      ([kind, columns]) => [kind, sumOf(scores, columns)]));
    const contrast = region ? this.contrast(scores, levels, region.area) : null;
    const noWord = contrast !== null && this.noWordLevel !== null && contrast < this.noWordLevel;
    return { words, special, contrast, noWord };
  }

  // The attention to all words together, mean inside the region over mean outside of it.
  contrast(scores, levels, area) {
    const inside = sumOf(scores, this.wordColumns);
    const level = sumOf(levels, this.wordColumns);
    const rest = levels.reduce((sum, value) => sum + value, 0) - level;
    if (!this.wordColumns.size || area >= 1 || rest <= LEAST_REST * level) return null;
    const outside = (level - area * inside) / (1 - area);
    return outside > 0 ? inside / outside : Infinity;
  }
}

// The words of an answer, best first; words with the same number in the order of the text.
function ranked(words, ranking) {
  return [...words]
    .sort((a, b) => b[ranking] - a[ranking] || a.group - b.group)
    .map((word, i) => ({ ...word, rank: i + 1 }));
}

// The length of a word's bar, 0 to 1. A lift of 1 is "as everywhere": a bar without length.
function barLength(word, words, ranking) {
  const start = ranking === "lift" ? 1 : 0;
  const highest = Math.max(...words.map((other) => other[ranking]), 0);
  const stop = ranking === "lift" ? Math.max(highest, WHOLE_BAR) : highest;
  return Math.min(Math.max((word[ranking] - start) / Math.max(stop - start, 1e-30), 0), 1);
}
