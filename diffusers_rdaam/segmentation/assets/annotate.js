"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const drawing = find("drawing");
  const objects = [];
  let chosen = 0;
  let start = null;
  const LEAST = 3; // Image pixels; a drag that is shorter is a click.

  const element = (name, attributes, space) => {
    const made = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const SVG = "http://www.w3.org/2000/svg";
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const say = (text) => { find("said").textContent = text; };

  const place = (event) => {
    const edges = drawing.getBoundingClientRect();
    return [
      clamp(((event.clientX - edges.left) / edges.width) * data.width, data.width),
      clamp(((event.clientY - edges.top) / edges.height) * data.height, data.height),
    ];
  };
  const boxOf = (a, b) => [
    Math.floor(Math.min(a[0], b[0])), Math.floor(Math.min(a[1], b[1])),
    Math.ceil(Math.max(a[0], b[0])), Math.ceil(Math.max(a[1], b[1])),
  ];
  const inside = (box, point) =>
    point[0] >= box[0] && point[0] < box[2] && point[1] >= box[1] && point[1] < box[3];

  const describe = (one) => {
    const parts = [];
    if (one.box) parts.push(`box ${one.box.join(", ")}`);
    if (one.point) parts.push(`point ${one.point.join(", ")}`);
    return `${data.classes[one.class]}: ${parts.join("; ")}`;
  };

  const rectangle = (box, colour) => element("rect", {
    x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1],
    fill: colour, stroke: colour,
  }, SVG);

  const draw = (preview) => {
    drawing.replaceChildren();
    const size = Math.max(data.width, data.height) / 90;
    for (const one of objects) {
      const colour = data.colours[one.class];
      if (one.box) drawing.append(rectangle(one.box, colour));
      if (one.point) {
        drawing.append(element("circle",
          { cx: one.point[0], cy: one.point[1], r: size, fill: colour }, SVG));
      }
    }
    if (preview) drawing.append(rectangle(preview, data.colours[chosen]));
  };

  const list = () => {
    const rows = objects.map((one, number) => {
      const row = element("li", {});
      const dot = element("span", { class: "dot" });
      dot.style.background = data.colours[one.class];
      const text = element("span", { class: "text" });
      text.textContent = describe(one);
      const button = element("button",
        { type: "button", "aria-label": `Remove ${describe(one)}` });
      button.textContent = "Remove";
      button.addEventListener("click", () => {
        objects.splice(number, 1);
        show();
        say("Removed.");
      });
      row.append(dot, text, button);
      return row;
    });
    find("objects").replaceChildren(...rows);
  };
  const show = () => { draw(); list(); };

  const addBox = (box) => {
    if (box[2] - box[0] < 1 || box[3] - box[1] < 1) {
      say("A box has its left below its right, and its top below its bottom.");
      return;
    }
    objects.push({ class: chosen, box, point: null });
    show();
    say(`Added ${describe(objects.at(-1))}.`);
  };
  const addPoint = (at) => {
    const point = [Math.min(at[0], data.width - 0.5), Math.min(at[1], data.height - 0.5)]
      .map((value) => Math.round(value * 2) / 2);
    const last = objects.findLast((one) =>
      one.class === chosen && one.box && !one.point && inside(one.box, point));
    if (last) last.point = point;
    else objects.push({ class: chosen, box: null, point });
    show();
    say(`Added ${describe(last || objects.at(-1))}.`);
  };

  drawing.addEventListener("pointerdown", (event) => {
    start = place(event);
    drawing.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  drawing.addEventListener("pointermove", (event) => {
    if (start) draw(boxOf(start, place(event)));
  });
  drawing.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [first, last] = [start, place(event)];
    start = null;
    const long = Math.max(Math.abs(last[0] - first[0]), Math.abs(last[1] - first[1]));
    if (long < LEAST) addPoint(first);
    else addBox(boxOf(first, last));
  });
  drawing.addEventListener("pointercancel", () => { start = null; draw(); });

  data.classes.forEach((name, number) => {
    const label = element("label", { class: "kind" });
    const input = element("input", { type: "radio", name: "class", value: number });
    input.checked = number === 0;
    input.addEventListener("change", () => { chosen = number; });
    const dot = element("span", { class: "dot" });
    dot.style.background = data.colours[number];
    const text = element("span", {});
    text.textContent = name;
    label.append(input, dot, text);
    find("classes").append(label);
  });

  find("add").addEventListener("submit", (event) => {
    event.preventDefault();
    const box = ["left", "top", "right", "bottom"].map((id, number) =>
      clamp(Math.round(Number(find(id).value)), number % 2 ? data.height : data.width));
    addBox(box);
  });
  find("undo").addEventListener("click", () => {
    if (objects.pop()) show();
    say("The last object is gone.");
  });

  const content = () => JSON.stringify({
    format: "diffusers_rdaam.annotations",
    version: "1",
    size: [data.height, data.width],
    classes: data.classes,
    objects: objects.map((one) => ({ ...one, class: data.classes[one.class] })),
  }, null, 1);
  find("save").addEventListener("click", () => {
    const link = element("a", { download: "annotations.json" });
    link.href = URL.createObjectURL(new Blob([content()], { type: "application/json" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    say(`Saved annotations.json, ${objects.length} object${objects.length === 1 ? "" : "s"}.`);
  });
  show();
})();
