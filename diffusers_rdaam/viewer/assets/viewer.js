// One panel: an image or the frames of a video, its texts as words to choose, the words of a region.

// Larger images are coloured at this size; masks, boxes and numbers are those of the image itself.
const MOST_SIDE = 1024;
const PLAY_MILLISECONDS = 350;

class Viewer {
  constructor(entry, number, count) {
    this.entry = entry;
    this.number = number;
    this.several = count > 1;
    this.size = entry.size;
    this.frame = 0;
    this.parts = entry.parts.map(() => null);
    this.ranking = RANKINGS[0];
    this.look = { colours: COLOUR_MAPS[0], opacity: 0.8 };
    this.masked = false;
    this.threshold = null; // of the maps, until another is set
    this.wanted = { kind: "all", label: null };
    this.form = null;
    this.chosen = null; // { record, columns, label, word, group }
    this.listeners = { selection: () => {}, word: () => {} };
    this.build();
    this.showFrame(0);
    this.chosen = this.mostConcentrated();
    this.update();
  }

  // ---- data

  get part() {
    const place = this.entry.frames[this.frame].part;
    if (!this.parts[place]) {
      const data = this.entry.parts[place];
      this.parts[place] = {
        records: data.records.map((record) => new TextRecord(record, this.size)),
        self: data.self.map((grid) => new Grid(grid)),
      };
    }
    return this.parts[place];
  }

  get records() {
    return this.part.records;
  }

  // The text whose words the first table ranks: the prompt, or the one a word was chosen of.
  get main() {
    const of = this.records[this.chosen?.record ?? 0];
    return of && ["prompt", "switched"].includes(of.role) ? of : this.records[0];
  }

  // The word whose map is highest over its mean: where there is most to see at first.
  mostConcentrated() {
    const record = this.records[0];
    let best = null;
    let most = 0;
    const [height, width] = scaled(this.size, 48);
    record.groups.forEach((group, number) => {
      const [, high] = limitsOf(record.map(group.columns, [height, width]));
      const level = sumOf(record.choice.levels, group.columns);
      if (level > 0 && high / level > most) {
        most = high / level;
        best = number;
      }
    });
    return best === null ? null : this.ofGroup(0, best);
  }

  ofWord(record, index) {
    const word = this.records[record]?.words[index];
    if (!word?.columns.length) return null;
    const group = this.records[record].groups.findIndex((one) => one.words.includes(index));
    return { record, columns: word.columns, label: word.text, word: index, words: [index], group };
  }

  ofGroup(record, number) {
    const group = this.records[record]?.groups[number];
    if (!group) return null;
    const { columns, label, words } = group;
    return { record, columns, label, word: words[0], words, group: number };
  }

  // The words from one to another, as one phrase.
  ofPhrase(record, first, last) {
    const [start, stop] = [Math.min(first, last), Math.max(first, last)];
    const words = this.records[record].words.slice(start, stop + 1);
    const columns = [...new Set(words.flatMap((word) => word.columns))].sort((a, b) => a - b);
    if (!columns.length) return null;
    const numbers = words.map((_, i) => start + i);
    const label = words.map((word) => word.text).join(" ");
    return { record, columns, label, word: start, words: numbers, group: null };
  }

  choice(record) {
    const { kind, label } = this.wanted;
    return record.choices.find((one) => one.kind === kind && (label === null || one.label === label))
      || record.choices[0];
  }

  get mapThreshold() {
    if (this.threshold !== null) return this.threshold;
    return this.choice(this.records[this.chosen?.record ?? 0]).threshold;
  }

  // The values of what is shown, `height * width`; null where nothing is.
  values(size) {
    if (this.pointed) return this.selfAttention(this.pointed, size);
    if (!this.chosen) return null;
    const record = this.records[this.chosen.record];
    return record.map(this.chosen.columns, size, this.choice(record));
  }

  // How much each pixel attends to one pixel, times what it would be if all were the same.
  selfAttention([x, y], [height, width]) {
    const [rows, columns] = this.size;
    const [left, top] = [Math.min(Math.floor(x), columns - 1), Math.min(Math.floor(y), rows - 1)];
    const region = Region.of({ box: [left, top, left + 1, top + 1] }, this.size);
    const output = new Float32Array(height * width);
    for (const grid of this.part.self) {
      const weights = region.cellWeights(grid.height, grid.width);
      const map = new Float64Array(weights.length);
      weights.forEach((weight, key) => {
        if (!weight) return;
        const start = key * weights.length;
        for (let cell = 0; cell < map.length; cell += 1) {
          map[cell] += weight * grid.values[start + cell];
        }
      });
      addEnlarged(map, grid.height, grid.width, grid.share, height, width, output);
    }
    return output;
  }

  get region() {
    return this.form ? Region.of(this.form, this.size) : null;
  }

  // ---- elements

  build() {
    this.texts = element("div", { class: "texts" });
    this.stage = new Stage(this.size, {
      region: (form, done) => this.drawn(form, done),
      point: (place) => this.point(place),
    });
    this.status = element("p", { class: "unseen", role: "status" });
    this.heading = element("h2");
    this.remark = element("p", { class: "remark", hidden: true });
    this.note = element("p", { class: "note" });
    this.table = new WordTable("Words of the region",
      (group) => this.choose(this.ofGroup(this.records.indexOf(this.main), group)));
    this.further = element("div", { class: "further" });
    this.orders = choiceButtons("Rank words by",
      RANKINGS.map((name) => ({ name, text: name, title: MEANINGS[name] })),
      (name) => { this.ranking = name; this.updateTables(); });
    const left = element("div", { class: "picture" },
      this.toolbar(), this.stage.frame, this.legend(), this.timeRows(), this.controls());
    const right = element("div", { class: "answer" },
      this.heading, this.remark,
      element("div", { class: "order" }, element("span", { text: "Rank by" }), this.orders.group),
      element("div", { class: "scrolls" }, this.table.element),
      this.note, this.further, this.exportRow());
    this.element = element("article", {
      class: "viewer", "aria-label": this.entry.title.slice(0, 200),
    }, this.texts, element("div", { class: "body" }, left, right), this.facts(), this.status);
  }

  toolbar() {
    const tools = [
      { name: "box", text: "Box", title: "Drag a box over the image" },
      { name: "polygon", text: "Polygon", title: "Click corners, or draw around freely" },
      { name: "brush", text: "Brush", title: "Paint a region" },
      { name: "move", text: "Move", title: "Move the enlarged image" },
    ];
    if (this.entry.parts.some((part) => part.self.length)) {
      tools.push({ name: "point", text: "Point", title: "What attends to the point" });
    }
    this.tools = choiceButtons("Tool", tools, (name) => this.setTool(name));
    this.tools.choose("box");
    this.zoomText = element("output", { text: "100 %", "aria-label": "enlargement" });
    const zoom = element("div", { class: "zoom" },
      button("−", () => this.stage.setZoom(this.stage.zoom / 1.5), { "aria-label": "Reduce" }),
      this.zoomText,
      button("+", () => this.stage.setZoom(this.stage.zoom * 1.5), { "aria-label": "Enlarge" }));
    this.stage.zoomed = (value) => { this.zoomText.textContent = `${Math.round(value * 100)} %`; };
    this.clearButton = button("Clear", () => this.stage.clear(), { title: "The whole image again" });
    this.brushRow = slider("Brush size",
      { min: 1, max: Math.round(Math.max(...this.size) / 4), step: 1, value: this.stage.brush,
        format: (value) => `${value} px` }, (value) => { this.stage.brush = value; });
    const eraser = checkbox("Erase", false, (on) => { this.stage.erases = on; });
    this.brushTools = element("div", { class: "brush", hidden: true },
      this.brushRow.row, eraser.row);
    return element("div", { class: "toolbar" },
      this.tools.group, this.clearButton, zoom, this.brushTools);
  }

  legend() {
    this.scaleBar = element("canvas", { width: 256, height: 1, "aria-hidden": "true" });
    this.scaleLow = element("span");
    this.scaleHigh = element("span");
    this.scaleText = element("p", { class: "what" });
    this.scale = element("div", { class: "scale" }, this.scaleLow, this.scaleBar, this.scaleHigh);
    return element("div", { class: "legend" }, this.scaleText, this.scale);
  }

  // The sliders of frames and steps, where there are several.
  timeRows() {
    const rows = element("div", { class: "times" });
    const frames = this.entry.frames;
    if (frames.length > 1) {
      this.frameSlider = slider("Frame", { min: 0, max: frames.length - 1, step: 1, value: 0,
        format: (value) => frames[value].label || `${value + 1} of ${frames.length}` },
      (value) => this.showFrame(value));
      rows.append(this.frameSlider.row);
    }
    const steps = this.records[0].ofKind("step");
    if (steps.length > 1) {
      this.steps = steps;
      this.stepSlider = slider("Step", { min: 0, max: steps.length, step: 1, value: 0,
        format: (value) => (value ? steps[value - 1].label : "all steps") },
      (value) => this.showStep(value));
      this.playButton = button("Play", () => this.play(), { class: "play" });
      this.stepSlider.row.append(this.playButton);
      rows.append(this.stepSlider.row);
    }
    return rows;
  }

  controls() {
    const percent = (value) => `${Math.round(value * 100)} %`;
    this.opacity = slider("Overlay", { min: 0, max: 1, step: 0.05, value: this.look.opacity,
      format: percent }, (value) => { this.look.opacity = value; this.later(); });
    this.maskBox = checkbox("Mask", false, (on) => { this.masked = on; this.later(); });
    this.thresholdSlider = slider("Threshold", { min: 0, max: 0.99, step: 0.01,
      value: this.mapThreshold, format: (value) => value.toFixed(2) }, (value) => {
      this.threshold = value;
      this.masked = true;
      this.maskBox.input.checked = true;
      this.later();
    });
    this.thresholdSlider.row.prepend(this.maskBox.row);
    this.later = atNextPicture(() => this.updateMap());
    const colours = this.select("Colours", COLOUR_MAPS.map((name) => [name, name]), (name) => {
      this.look.colours = name;
      this.later();
    });
    const more = folded("More", colours.row);
    const choices = this.records[0].choices.filter((choice) => choice.kind !== "step");
    if (choices.length > 1) {
      const titles = { all: "", refined: "", stream: "one stream: ", grid: "one grid: ",
        layer: "one layer: " };
      const options = choices.map((choice, i) => [String(i), titles[choice.kind] + choice.label]);
      this.mapSelect = this.select("Maps", options, (value) => {
        const { kind, label } = choices[Number(value)];
        this.show({ kind, label });
        this.stepSlider?.set(0);
      });
      more.append(this.mapSelect.row);
    }
    return element("div", { class: "controls" }, this.opacity.row, this.thresholdSlider.row, more);
  }

  select(label, options, onChoose) {
    const id = newId("select");
    const input = element("select", { id },
      ...options.map(([value, text]) => element("option", { value, text })));
    input.addEventListener("change", () => onChoose(input.value));
    return { row: element("div", { class: "select" }, element("label", { for: id, text: label }),
      input), input };
  }

  exportRow() {
    const name = fileName(this.entry.title);
    const make = (label, action, title) => button(label, action, { title });
    this.exports = {
      python: make("Copy as Python", () => this.copy(), "The region as a line of Python"),
      region: make("Region mask", () => saveMask(`${name}-region.png`, this.region.pixels(),
        this.size), "The region as a PNG file"),
      word: make("Word mask", () => saveMask(`${name}-word.png`, this.wordMask().mask, this.size),
        "The word's map over the threshold, as a PNG file"),
      table: make("Table", () => save(`${name}.csv`, csvOf(this.tableRows()), "text/csv"),
        "The table as a CSV file"),
      coco: make("COCO", () => save(`${name}.coco.json`, JSON.stringify(this.coco(name)),
        "application/json"), "Region and word as a COCO JSON file"),
    };
    return element("div", { class: "exports", role: "group", "aria-label": "Copy and save" },
      ...Object.values(this.exports));
  }

  facts() {
    const list = element("dl", { class: "facts" });
    const rows = [["image", `${this.size[1]} by ${this.size[0]} pixels`],
      ...Object.entries(this.entry.facts)];
    for (const [name, value] of rows) {
      if (value === null || value === "") continue;
      list.append(element("dt", { text: name.replaceAll("_", " ") }),
        element("dd", {}, isolated(String(value))));
    }
    return folded("About this run", list);
  }

  // The texts with their words as buttons; anew where the frame has other words.
  buildTexts() {
    this.chips = [];
    this.furtherTables = [];
    this.further.replaceChildren();
    const rows = this.records.map((record, number) => this.textRow(record, number));
    this.texts.replaceChildren(...rows);
    this.records.forEach((record, number) => {
      if (!["negative", "vocabulary"].includes(record.role)) return;
      const table = new WordTable(record.name, (group) => this.choose(this.ofGroup(number, group)));
      const title = element("summary", {}, isolated(record.name));
      const note = element("p", { class: "note" });
      const part = element("details", { open: record.role === "negative" },
        title, table.element, note);
      part.addEventListener("toggle", () => this.updateTables());
      this.further.append(part);
      this.furtherTables.push({ record, number, table, part, note });
    });
    this.table.reset();
  }

  textRow(record, number) {
    const label = element("span", { class: "role", id: newId("text") }, isolated(record.name));
    const row = element("div", { class: "text", role: "group", "aria-labelledby": label.id });
    record.texts.forEach((pieces, place) => {
      const line = element("p", { dir: "auto" });
      for (const piece of pieces) {
        if (typeof piece === "string") line.append(element("span", { text: piece }));
        else line.append(this.chip(record, number, piece));
      }
      if (!pieces.length) line.append(element("em", { text: "(no text)" }));
      if (record.texts.length > 1) {
        line.prepend(element("span", { class: "role", text: `Text ${place + 1} ` }));
      }
      row.append(line);
    });
    row.addEventListener("keydown", (event) => this.walk(event));
    const hides = record.role === "prompt" && this.records.length === 1;
    if (hides) label.classList.add("unseen");
    return element("div", { class: `row ${record.role}` }, label, row);
  }

  chip(record, number, index) {
    const word = record.words[index];
    const seen = word.columns.length > 0;
    const chip = element("button", {
      type: "button", class: "chip", disabled: !seen, "aria-pressed": "false", tabindex: "-1",
      title: seen ? null : "The text encoder did not see this word: the prompt is too long.",
    }, isolated(word.text));
    chip.addEventListener("click", (event) => {
      const from = this.chosen?.record === number ? this.chosen.word : null;
      if (event.shiftKey && from !== null) this.choose(this.ofPhrase(number, from, index));
      else this.choose(this.ofWord(number, index), { toggles: true });
    });
    this.chips.push({ chip, record: number, index });
    return chip;
  }

  // Arrow keys between the words of a text: one stop of the Tab key for all of them.
  walk(event) {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const all = [...this.texts.querySelectorAll(".chip:not(:disabled)")];
    const here = all.indexOf(document.activeElement);
    if (here < 0) return;
    let next = steps[event.key] ? here + steps[event.key] : null;
    if (event.key === "Home") next = 0;
    if (event.key === "End") next = all.length - 1;
    if (next === null || !all[next]) return;
    event.preventDefault();
    all.forEach((chip) => { chip.tabIndex = -1; });
    all[next].tabIndex = 0;
    all[next].focus();
  }

  // ---- actions

  setTool(name) {
    this.tools.choose(name);
    this.stage.setTool(name);
    this.brushTools.hidden = name !== "brush";
    if (name !== "point") this.point(null);
  }

  showFrame(number) {
    const before = this.part;
    this.frame = number;
    const frame = this.entry.frames[number];
    const what = frame.image ? "The image" : "The map of the word, without an image";
    this.stage.setImage(frame.image, `${what}: ${this.entry.title.slice(0, 200)}. Draw a region `
      + "with the pointer, or with the arrow keys.");
    if (!this.chips || this.part !== before) this.buildTexts();
    this.update();
  }

  showStep(value) {
    this.show(value ? { kind: "step", label: this.steps[value - 1].label }
      : { kind: "all", label: null });
    if (this.mapSelect) this.mapSelect.input.value = "0";
  }

  show(wanted) {
    this.wanted = wanted;
    this.update();
  }

  play() {
    if (this.playing) {
      clearInterval(this.playing);
      this.playing = null;
    } else {
      this.playing = setInterval(() => {
        const next = Number(this.stepSlider.input.value) % this.steps.length + 1;
        this.stepSlider.set(next);
        this.showStep(next);
      }, PLAY_MILLISECONDS);
    }
    this.playButton.textContent = this.playing ? "Stop" : "Play";
  }

  // Chooses what `ofWord` or its like has found; null for none.
  choose(chosen, { toggles = false, tells = true } = {}) {
    const same = toggles && chosen && this.chosen && this.chosen.record === chosen.record
      && String(this.chosen.words) === String(chosen.words);
    this.chosen = same ? null : chosen;
    this.pointed = null;
    this.update();
    if (tells) this.listeners.word(this.chosen);
  }

  drawn(form, done) {
    this.form = form;
    if (done) {
      this.updateTables();
      this.say();
      this.tell();
    } else {
      this.tablesLater = this.tablesLater || atNextPicture(() => this.updateTables());
      this.tablesLater();
    }
  }

  // Selects a region as a program does it: `{box}`, `{polygon}` or null.
  selectRegion(form, { tells = true } = {}) {
    const region = form ? Region.of(form, this.size) : null;
    if (form && !region) return null;
    // A box is what of it lies inside, with its corners in order.
    this.form = region?.box ? { box: region.box } : form;
    this.stage.show(this.form);
    this.updateTables();
    if (tells) this.tell();
    return region;
  }

  point(place) {
    if (!this.part.self.length) return;
    if (!place && !this.pointed) return;
    this.pointed = place;
    this.later();
  }

  tell() {
    const answer = this.main.regionWords(this.region, this.choice(this.main));
    const words = ranked(answer.words, this.order).map((word) => [word.text, word.lift, word.score]);
    this.listeners.selection(this.form, words);
  }

  // For a screen reader, once a region is drawn.
  say() {
    const [first, ...others] = this.tableRows().slice(0, 3);
    const named = [first, ...others].filter(Boolean)
      .map((word) => `${word.text} ${FORMATS[this.order](word[this.order])}`);
    this.status.textContent = `${this.heading.textContent}. ${this.remark.hidden ? ""
      : this.remark.textContent} ${this.order}: ${named.join(", ")}`;
  }

  async copy() {
    const text = pythonOf(this.form, this.size);
    const copied = await copyText(text);
    this.status.textContent = copied ? `Copied: ${text.slice(0, 200)}` : text;
    const before = this.exports.python.textContent;
    this.exports.python.textContent = copied ? "Copied" : "Not allowed here";
    setTimeout(() => { this.exports.python.textContent = before; }, 1500);
  }

  // ---- what is shown

  // The whole image has a lift of 1 for every word; scores rank there.
  get order() {
    return !this.form && this.ranking === "lift" ? "score" : this.ranking;
  }

  tableRows() {
    const { words } = this.main.regionWords(this.region, this.choice(this.main));
    return ranked(words, this.order);
  }

  wordMask() {
    if (!this.chosen) return null;
    const record = this.records[this.chosen.record];
    const values = record.map(this.chosen.columns, this.size, this.choice(record));
    return { text: this.chosen.label, mask: maskOver(values, this.mapThreshold) };
  }

  coco(name) {
    return cocoOf(this.size, { name, region: this.region, word: this.wordMask() });
  }

  update() {
    for (const record of this.records) record.choice = this.choice(record);
    this.updateTables();
    this.updateMap();
  }

  updateTables() {
    const region = this.region;
    const main = this.main;
    if (this.shownMain !== main) this.table.reset();
    this.shownMain = main;
    const answer = main.regionWords(region, this.choice(main));
    const group = this.records[this.chosen?.record] === main ? this.chosen.group : null;
    this.table.update(answer.words, this.order, group);
    this.orders.choose(this.order);
    this.heading.textContent = headingOf(this.form, region);
    this.remark.hidden = !answer.noWord;
    if (answer.noWord) {
      this.remark.textContent = `No word stands out: no word made this region. The attention to words is ${
        answer.contrast.toFixed(2)} times that of the rest of the image (a region of a word: ${
        main.noWordLevel.toFixed(2)} or more).`;
    }
    this.note.textContent = specialText(answer.special);
    const hint = this.stage.hint;
    hint.textContent = this.form ? "" : "Drag over the image: which words made this region?";
    this.exports.python.disabled = !region;
    this.exports.region.disabled = !region;
    this.exports.word.disabled = !this.chosen;
    this.exports.coco.disabled = !region && !this.chosen;
    this.clearButton.disabled = !this.form;
    this.updateFurther(region);
    this.updateChips(answer.words, main);
  }

  updateFurther(region) {
    for (const { record, number, table, part, note } of this.furtherTables) {
      if (!part.open) continue;
      const choice = this.choice(record);
      const answer = record.regionWords(region, choice);
      const group = this.chosen?.record === number ? this.chosen.group : null;
      table.update(answer.words, this.order, group);
      const whole = this.wanted.kind !== "all" && choice.kind === "all";
      note.textContent = (whole ? "Of the whole run, not of the chosen maps. " : "")
        + specialText(answer.special);
    }
  }

  updateChips(words, main) {
    const heat = new Map();
    for (const word of words) {
      const strength = barLength(word, words, this.order);
      for (const index of word.words) heat.set(index, [strength, word]);
    }
    let first = null;
    for (const { chip, record, index } of this.chips) {
      const found = this.records[record] === main ? heat.get(index) : null;
      chip.style.setProperty("--heat", found ? found[0].toFixed(3) : "0");
      const pressed = this.chosen?.record === record && this.chosen.words.includes(index);
      chip.setAttribute("aria-pressed", String(Boolean(pressed)));
      if (found) {
        const value = FORMATS[this.order](found[1][this.order]);
        chip.title = `${this.order} ${value}`;
      }
      if (!chip.disabled && (!first || (pressed && !first.pressed))) first = { chip, pressed };
    }
    const focused = this.chips.some(({ chip }) => chip === document.activeElement);
    if (first && !focused) {
      for (const { chip } of this.chips) chip.tabIndex = chip === first.chip ? 0 : -1;
    }
  }

  updateMap() {
    const shown = scaled(this.size, MOST_SIDE);
    const values = this.values(shown);
    this.legendOf(values);
    this.stage.maskBox = null;
    if (!values) {
      this.stage.setOverlay(null, shown);
      this.stage.draw();
      return;
    }
    const limits = limitsOf(values);
    const bare = !this.entry.frames[this.frame].image;
    const pixels = paintMap(values, limits, { ...this.look, opaque: bare });
    if (this.threshold === null) this.thresholdSlider.set(this.mapThreshold);
    if (this.masked && !this.pointed) this.drawMask(pixels, shown, bare);
    this.stage.setOverlay(pixels, shown);
    this.stage.draw();
  }

  // The mask as a window: the rest of the image is dark, and a box is around the largest part.
  drawMask(pixels, [height, width], bare) {
    const { mask } = this.wordMask();
    const [rows, columns] = this.size;
    this.stage.maskBox = largestBox(mask, rows, columns);
    for (let y = 0; y < height; y += 1) {
      const row = Math.floor(((y + 0.5) * rows) / height);
      for (let x = 0; x < width; x += 1) {
        const inside = mask[row * columns + Math.floor(((x + 0.5) * columns) / width)];
        const i = (y * width + x) * 4;
        if (!inside) pixels.set([10, 10, 16, bare ? 255 : 190], i);
        else if (!bare) pixels[i + 3] = 0;
      }
    }
  }

  legendOf(values) {
    const shown = Boolean(values);
    this.scale.hidden = !shown;
    this.scaleText.replaceChildren();
    if (!shown) {
      this.scaleText.textContent = "Choose a word to see where it is.";
      return;
    }
    const [low, high] = limitsOf(values);
    if (this.pointed) {
      const [x, y] = this.pointed.map(Math.floor);
      this.scaleText.textContent = `What attends to the point (${x}, ${y}), times the mean`;
    } else {
      this.scaleText.append(element("strong", {}, isolated(this.chosen.label)),
        " attention probability");
    }
    this.scaleLow.textContent = low.toPrecision(2);
    this.scaleHigh.textContent = high.toPrecision(2);
    const steps = Float32Array.from({ length: 256 }, (_, i) => i / 255);
    const pixels = paintMap(steps, [0, 1], { ...this.look, opaque: true });
    this.scaleBar.getContext("2d").putImageData(new ImageData(pixels, 256, 1), 0, 0);
  }
}

// A size whose longer side is at most `most`.
function scaled([height, width], most) {
  const factor = Math.min(1, most / Math.max(height, width));
  return [Math.max(1, Math.round(height * factor)), Math.max(1, Math.round(width * factor))];
}

function headingOf(form, region) {
  if (!region) return "Words in the whole image";
  const area = `${(region.area * 100).toFixed(1)} % of the image`;
  if (form.box) return `Words in box (${form.box.map(pythonNumber).join(", ")}), ${area}`;
  if (form.polygon) return `Words in a polygon, ${area}`;
  return `Words in the painted region, ${area}`;
}

function specialText(special) {
  const parts = Object.entries(special).map(([kind, score]) => `${kind} ${FORMATS.score(score)}`);
  return parts.length ? `Special tokens: ${parts.join(", ")}` : "";
}
