// The image with what lies over it, and the tools that draw a region: box, polygon or lasso, brush.
// With a pointer, by touch or by keyboard; all coordinates are pixels of the image.

const MOST_ZOOM = 8;
// Pixels of the screen: under it a press is a click and not a drag.
const CLICK = 4;
// Of the corner of a polygon, in pixels of the screen: a click this near to the first closes it.
const CLOSE = 10;

class Stage {
  // `actions`: `region(form, done)` with a form of `Region.of` or null, `point(place)`.
  constructor(size, actions) {
    this.size = size;
    this.actions = actions;
    this.tool = "box";
    this.form = null;
    this.zoom = 1;
    this.draft = null; // the corners of a polygon that is being drawn
    this.cursor = null; // of the keyboard
    this.mask = null; // what the brush has painted
    this.brush = Math.max(2, Math.round(Math.max(...size) / 16));
    this.erases = false;
    this.build();
    this.listen();
  }

  build() {
    const [height, width] = this.size;
    this.image = element("img", { alt: "", draggable: "false" });
    this.overlay = element("canvas", { class: "overlay", "aria-hidden": "true" });
    this.paint = element("canvas", { class: "paint", width, height, "aria-hidden": "true" });
    this.lines = element("svg:svg", {
      viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true",
    });
    this.hint = element("div", { class: "hint" });
    this.help = element("p", { class: "unseen", id: newId("help") });
    this.content = element("div", {
      class: "content", tabindex: "0", role: "application", "aria-describedby": this.help.id,
    }, this.image, this.overlay, this.paint, this.lines);
    this.content.style.aspectRatio = `${width} / ${height}`;
    this.viewport = element("div", { class: "viewport" }, this.content);
    this.viewport.style.setProperty("--ratio", String(width / height));
    this.frame = element("div", { class: "stage" }, this.viewport, this.hint, this.help);
    this.setTool("box");
  }

  setImage(source, description) {
    this.image.hidden = !source;
    if (source) this.image.src = source;
    else this.image.removeAttribute("src");
    this.content.classList.toggle("bare", !source);
    this.content.setAttribute("aria-label", description);
  }

  setTool(tool) {
    this.tool = tool;
    this.draft = null;
    this.content.dataset.tool = tool;
    const helps = {
      box: "Arrow keys move the box, Shift and arrow keys change its size, Alt makes the steps one "
        + "pixel, Escape clears it.",
      polygon: "Arrow keys move a cross, Space sets a corner, Enter closes the polygon, Escape "
        + "clears it.",
      brush: "Arrow keys move the brush, Space paints, Escape clears what is painted.",
      move: "Arrow keys move the image where it is enlarged.",
      point: "Arrow keys move a point; the map shows what attends to it.",
    };
    this.help.textContent = `${helps[tool]} Plus and minus enlarge and reduce the image.`;
    this.draw();
  }

  setZoom(zoom) {
    const [x, y] = [this.viewport.scrollLeft, this.viewport.scrollTop];
    const before = this.zoom;
    this.zoom = Math.min(Math.max(zoom, 1), MOST_ZOOM);
    this.content.style.width = `${this.zoom * 100}%`;
    const half = [this.viewport.clientWidth / 2, this.viewport.clientHeight / 2];
    this.viewport.scrollLeft = ((x + half[0]) * this.zoom) / before - half[0];
    this.viewport.scrollTop = ((y + half[1]) * this.zoom) / before - half[1];
    this.draw();
    this.zoomed?.(this.zoom);
  }

  // Shows a region, without telling anybody.
  show(form) {
    this.form = form;
    this.draft = null;
    this.mask = form?.mask ? form.mask.slice() : null;
    this.drawPaint();
    this.draw();
  }

  choose(form, done) {
    this.form = form;
    this.draw();
    this.actions.region(form, done);
  }

  clear() {
    this.draft = null;
    this.mask = null;
    this.drawPaint();
    this.choose(null, true);
  }

  // ---- what is drawn

  // Pixels of the image for one pixel of the screen.
  get unit() {
    const shown = this.content.getBoundingClientRect().width || 1;
    return this.size[1] / shown;
  }

  draw() {
    const parts = [];
    const outline = (points, closed) => {
      const path = points.map(([x, y], i) => `${i ? "L" : "M"}${x} ${y}`).join("")
        + (closed ? "Z" : "");
      for (const kind of ["halo", "line"]) {
        parts.push(element("svg:path", { class: kind, d: path, "vector-effect": "non-scaling-stroke" }));
      }
    };
    if (this.form?.box) {
      const [left, top, right, bottom] = this.form.box;
      outline([[left, top], [right, top], [right, bottom], [left, bottom]], true);
    }
    if (this.form?.polygon && !this.draft) outline(this.form.polygon, true);
    if (this.draft?.length) {
      outline(this.cursor && this.draft.keys ? [...this.draft, this.cursor] : this.draft, false);
      const [x, y] = this.draft[0];
      parts.push(element("svg:circle", { class: "corner", cx: x, cy: y, r: 5 * this.unit }));
    }
    if (this.maskBox) {
      const [left, top, right, bottom] = this.maskBox;
      const points = [[left, top], [right, top], [right, bottom], [left, bottom]];
      const path = `M${points.map((point) => point.join(" ")).join("L")}Z`;
      for (const kind of ["halo", "dashes"]) {
        parts.push(element("svg:path", { class: kind, d: path, "vector-effect": "non-scaling-stroke" }));
      }
    }
    if (this.cursor && ["polygon", "brush", "point"].includes(this.tool)) {
      const [x, y] = this.cursor;
      const arm = 8 * this.unit;
      outline([[x - arm, y], [x + arm, y]], false);
      outline([[x, y - arm], [x, y + arm]], false);
      if (this.tool === "brush") {
        parts.push(element("svg:circle", {
          class: "ring", cx: x, cy: y, r: this.brush, "vector-effect": "non-scaling-stroke",
        }));
      }
    }
    this.lines.replaceChildren(...parts);
  }

  // The map's colours, `height * width` pixels of red, green, blue and opacity; null for none.
  setOverlay(pixels, [height, width]) {
    this.overlay.hidden = !pixels;
    if (!pixels) return;
    if (this.overlay.width !== width || this.overlay.height !== height) {
      this.overlay.width = width;
      this.overlay.height = height;
    }
    this.overlay.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  }

  drawPaint() {
    const [height, width] = this.size;
    const context = this.paint.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (!this.mask) return;
    const pixels = new Uint8ClampedArray(height * width * 4);
    for (let i = 0; i < this.mask.length; i += 1) {
      if (this.mask[i]) pixels.set([255, 255, 255, 115], i * 4);
    }
    context.putImageData(new ImageData(pixels, width, height), 0, 0);
  }

  // ---- pointers

  place(event) {
    const shown = this.content.getBoundingClientRect();
    const [height, width] = this.size;
    const x = ((event.clientX - shown.left) / shown.width) * width;
    const y = ((event.clientY - shown.top) / shown.height) * height;
    return [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
  }

  listen() {
    const on = (event, listener, options) =>
      this.content.addEventListener(event, listener, options);
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.release(event));
    on("pointercancel", () => { this.start = null; });
    on("pointerleave", () => this.tool === "point" && !this.keyed && this.actions.point(null));
    on("dblclick", () => this.closeDraft());
    on("keydown", (event) => this.key(event));
    on("blur", () => { this.cursor = null; this.keyed = false; this.draw(); });
    on("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.setZoom(this.zoom * (event.deltaY < 0 ? 1.25 : 0.8));
    }, { passive: false });
  }

  press(event) {
    if (event.button || !event.isPrimary || this.tool === "move") return;
    this.keyed = false;
    this.cursor = null;
    this.start = { place: this.place(event), x: event.clientX, y: event.clientY, drags: false };
    this.content.setPointerCapture(event.pointerId);
    if (this.tool === "brush") this.dab(this.start.place, this.start.place);
    if (this.tool === "point") this.actions.point(this.start.place);
  }

  move(event) {
    const place = this.place(event);
    if (this.tool === "point") this.actions.point(place);
    const start = this.start;
    if (!start || !event.isPrimary) return;
    if (Math.hypot(event.clientX - start.x, event.clientY - start.y) > CLICK) start.drags = true;
    if (!start.drags) return;
    if (this.tool === "box") this.dragBox(place, false);
    if (this.tool === "brush") {
      this.dab(start.last || start.place, place);
      start.last = place;
    }
    if (this.tool === "polygon") {
      if (!start.lasso) {
        start.lasso = true;
        this.draft = [start.place];
      }
      const [x, y] = this.draft[this.draft.length - 1];
      if (Math.hypot(place[0] - x, place[1] - y) >= 2 * this.unit) this.draft.push(whole(place));
      this.draw();
    }
  }

  release(event) {
    const start = this.start;
    this.start = null;
    if (!start) return;
    const place = this.place(event);
    if (this.tool === "box") {
      if (start.drags) this.dragBox(place, true, start);
      else this.clear();
    }
    if (this.tool === "brush") this.paintDone();
    if (this.tool === "polygon") {
      if (start.lasso) this.closeDraft();
      else this.addCorner(whole(place));
    }
  }

  dragBox(place, done, start = this.start) {
    const [height, width] = this.size;
    const [x0, y0] = start.place;
    const [x1, y1] = place;
    // Whole pixels: from the first that was touched to the last.
    const box = [Math.floor(Math.min(x0, x1)), Math.floor(Math.min(y0, y1)),
      Math.min(Math.ceil(Math.max(x0, x1)), width), Math.min(Math.ceil(Math.max(y0, y1)), height)];
    if (boxInside(box, this.size)) this.choose({ box }, done);
    else if (done) this.actions.region(this.form, true);
  }

  addCorner(place, { keys = false } = {}) {
    const near = (other) =>
      Math.hypot(place[0] - other[0], place[1] - other[1]) <= CLOSE * this.unit;
    if (this.draft?.length >= 3 && near(this.draft[0])) {
      this.closeDraft();
      return;
    }
    const last = this.draft?.[this.draft.length - 1];
    if (last && last[0] === place[0] && last[1] === place[1]) return;
    this.draft = [...(this.draft || []), place];
    this.draft.keys = keys;
    this.draw();
  }

  closeDraft() {
    const corners = this.draft;
    if (this.tool !== "polygon" || !corners) return;
    this.draft = null;
    const polygon = corners.map(([x, y]) => [x, y]);
    if (Region.of({ polygon }, this.size)) this.choose({ polygon }, true);
    else this.draw();
  }

  dab(from, to) {
    const [height, width] = this.size;
    if (!this.mask) this.mask = new Uint8Array(height * width);
    const value = this.erases ? 0 : 1;
    const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
    const count = Math.max(1, Math.ceil(length / Math.max(1, this.brush / 2)));
    for (let i = 0; i <= count; i += 1) {
      const x = from[0] + ((to[0] - from[0]) * i) / count;
      const y = from[1] + ((to[1] - from[1]) * i) / count;
      for (let row = Math.max(0, Math.floor(y - this.brush));
        row < Math.min(height, Math.ceil(y + this.brush)); row += 1) {
        const half = Math.sqrt(Math.max(0, this.brush ** 2 - (row + 0.5 - y) ** 2));
        const first = Math.max(0, Math.round(x - half));
        const last = Math.min(width, Math.round(x + half));
        if (last > first) this.mask.fill(value, row * width + first, row * width + last);
      }
    }
    this.drawPaint();
    this.form = { mask: this.mask };
    this.draw();
    this.actions.region(this.form, false);
  }

  paintDone() {
    const empty = !this.mask || !this.mask.some(Boolean);
    if (empty) this.clear();
    else this.choose({ mask: this.mask.slice() }, true);
  }

  // ---- keys

  key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const arrow = arrows[event.key];
    const actions = {
      "+": () => this.setZoom(this.zoom * 1.5),
      "=": () => this.setZoom(this.zoom * 1.5),
      "-": () => this.setZoom(this.zoom / 1.5),
      0: () => this.setZoom(1),
      Escape: () => this.clear(),
    };
    if (event.ctrlKey || event.metaKey) return;
    if (arrow) {
      if (this.tool === "move") return; // the viewport scrolls
      const [height, width] = this.size;
      const length = event.altKey ? 1 : Math.max(1, Math.round(Math.max(height, width) / 32));
      const step = [arrow[0] * length, arrow[1] * length];
      if (this.tool === "box") this.keyBox(step, event.shiftKey);
      else this.keyCursor(step);
    } else if (event.key === " " || event.key === "Enter") {
      this.keyAct(event.key);
    } else if (actions[event.key]) {
      actions[event.key]();
    } else return;
    event.preventDefault();
  }

  keyBox([dx, dy], resizes) {
    const [height, width] = this.size;
    let box = this.form?.box;
    if (!box) {
      box = [width / 4, height / 4, (width * 3) / 4, (height * 3) / 4].map(Math.round);
    } else if (resizes) {
      box = [box[0], box[1], Math.min(Math.max(box[2] + dx, box[0] + 1), width),
        Math.min(Math.max(box[3] + dy, box[1] + 1), height)];
    } else {
      const x = Math.min(Math.max(dx, -box[0]), width - box[2]);
      const y = Math.min(Math.max(dy, -box[1]), height - box[3]);
      box = [box[0] + x, box[1] + y, box[2] + x, box[3] + y];
    }
    this.choose({ box }, true);
  }

  keyCursor([dx, dy]) {
    const [height, width] = this.size;
    const [x, y] = this.cursor || [Math.round(width / 2) - dx, Math.round(height / 2) - dy];
    this.keyed = true;
    this.cursor = [Math.min(Math.max(x + dx, 0), width), Math.min(Math.max(y + dy, 0), height)];
    if (this.tool === "point") this.actions.point(this.cursor);
    this.draw();
  }

  keyAct(key) {
    if (!this.cursor) this.keyCursor([0, 0]);
    if (this.tool === "polygon") {
      if (key === "Enter") this.closeDraft();
      else this.addCorner(this.cursor, { keys: true });
    }
    if (this.tool === "brush") {
      this.dab(this.cursor, this.cursor);
      this.paintDone();
    }
  }
}

const whole = ([x, y]) => [Math.round(x), Math.round(y)];
