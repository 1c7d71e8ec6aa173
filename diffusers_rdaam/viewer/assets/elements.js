// Elements of the page. All text is set as text: a prompt may come from anybody.

const SVG = "http://www.w3.org/2000/svg";
let numbers = 0;

// A name for `for`, `aria-labelledby` and the like that no other element has.
const newId = (name) => `rdaam-${name}-${numbers++}`;

// `properties`: `class`, `text`, `on` (listeners by event), attributes; false and null are left out.
function element(name, properties = {}, ...children) {
  const made = name.startsWith("svg:")
    ? document.createElementNS(SVG, name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") made.textContent = value;
    else if (key === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Text of a prompt, which may run from right to left and keeps to itself.
const isolated = (text) => element("bdi", { text });

function button(label, onClick, properties = {}) {
  return element("button", { type: "button", text: label, on: { click: onClick }, ...properties });
}

// Buttons of which one is pressed; `choose(name)` presses one without telling.
function choiceButtons(label, options, onChoose) {
  const buttons = new Map();
  const group = element("div", { class: "choice", role: "group", "aria-label": label });
  const choose = (name) => {
    for (const [key, one] of buttons) one.setAttribute("aria-pressed", String(key === name));
  };
  for (const { name, text, title } of options) {
    const one = button(text, () => {
      choose(name);
      onChoose(name);
    }, { "aria-pressed": "false", title: title || null });
    buttons.set(name, one);
    group.append(one);
  }
  return { group, choose };
}

function slider(label, { min, max, step, value, format }, onInput) {
  const id = newId("slider");
  const shown = element("output", { for: id, text: format(value) });
  const input = element("input", { type: "range", id, min, max, step, value });
  const update = () => {
    shown.textContent = format(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", () => {
    update();
    onInput(Number(input.value));
  });
  update();
  const row = element("div", { class: "slider" },
    element("label", { for: id, text: label }), input, shown);
  const set = (number) => {
    input.value = number;
    update();
  };
  return { row, input, set };
}

function checkbox(label, checked, onChange) {
  const input = element("input", { type: "checkbox", checked });
  input.addEventListener("change", () => onChange(input.checked));
  return { row: element("label", { class: "checkbox" }, input, label), input };
}

// A folded part; `open` unfolds it at first.
function folded(title, ...children) {
  return element("details", {}, element("summary", { text: title }), ...children);
}

// Calls a function once before the next picture, however often it is asked for.
function atNextPicture(callback) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      callback();
    });
  };
}
