// A brush over a picture: strokes in pixels of the image, painted by pointer or keyboard.
const host = element.querySelector(".rdaam-painter");
const canvas = host.querySelector("canvas");
const size = host.querySelector("input");
const picture = new Image();
let strokes = [];
let current = null;
let cursor = null;
let erase = false;

const radius = () => (Number(size.value) / 100) * Math.max(props.width, props.height) / 2;
const draw = () => {
  canvas.hidden = !props.picture;
  host.querySelector(".rdaam-empty").hidden = Boolean(props.picture);
  if (!props.picture) return;
  canvas.width = props.width;
  canvas.height = props.height;
  const pen = canvas.getContext("2d");
  if (picture.complete && picture.naturalWidth) {
    pen.drawImage(picture, 0, 0, props.width, props.height);
  }
  const layer = document.createElement("canvas");
  layer.width = props.width;
  layer.height = props.height;
  const paint = layer.getContext("2d");
  paint.lineCap = paint.lineJoin = "round";
  for (const stroke of current ? [...strokes, current] : strokes) {
    paint.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    paint.strokeStyle = "#ffb000";
    paint.lineWidth = 2 * stroke.radius;
    paint.beginPath();
    const [first, ...rest] = stroke.points;
    paint.moveTo(...first);
    paint.lineTo(first[0] + 0.01, first[1]);
    for (const point of rest) paint.lineTo(...point);
    paint.stroke();
  }
  pen.globalAlpha = 0.6;
  pen.drawImage(layer, 0, 0);
  pen.globalAlpha = 1;
  if (cursor) {
    pen.strokeStyle = "#000";
    pen.lineWidth = Math.max(props.width / 200, 1);
    pen.beginPath();
    pen.arc(...cursor, radius(), 0, 2 * Math.PI);
    pen.stroke();
  }
};
const tell = () => {
  props.value = strokes.length ? JSON.stringify({ strokes }) : "";
  trigger("change");
};
const place = (event) => {
  const edges = canvas.getBoundingClientRect();
  const x = ((event.clientX - edges.left) / edges.width) * props.width;
  const y = ((event.clientY - edges.top) / edges.height) * props.height;
  return [Math.round(x * 10) / 10, Math.round(y * 10) / 10];
};
const finish = () => {
  if (!current) return;
  strokes.push(current);
  current = null;
  draw();
  tell();
};
const begin = () => {
  strokes = [];
  current = cursor = null;
  try { strokes = JSON.parse(props.value || "{}").strokes || []; } catch (error) { strokes = []; }
  picture.onload = draw;
  picture.src = props.picture || "";
  draw();
};

canvas.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  cursor = null;
  current = { radius: radius(), erase, points: [place(event)] };
  draw();
});
canvas.addEventListener("pointermove", (event) => {
  if (!current) return;
  current.points.push(place(event));
  draw();
});
canvas.addEventListener("pointerup", finish);
canvas.addEventListener("pointercancel", finish);
canvas.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const step = Math.max(props.width, props.height) / 32;
  if (steps[event.key]) {
    const [x, y] = cursor || [props.width / 2, props.height / 2];
    cursor = [
      Math.min(Math.max(x + step * steps[event.key][0], 0), props.width),
      Math.min(Math.max(y + step * steps[event.key][1], 0), props.height),
    ];
    draw();
  } else if (event.key === " " || event.key === "Enter") {
    cursor = cursor || [props.width / 2, props.height / 2];
    current = { radius: radius(), erase, points: [cursor] };
    finish();
  } else {
    return;
  }
  event.preventDefault();
});
host.querySelector("[data-tool=erase]").addEventListener("click", (event) => {
  erase = !erase;
  event.currentTarget.setAttribute("aria-pressed", String(erase));
});
host.querySelector("[data-tool=clear]").addEventListener("click", () => {
  strokes = [];
  draw();
  tell();
});
begin();
watch(["picture", "value"], begin);
