// A brush over a picture: strokes in pixels of the image, painted by pointer or keyboard.
const host = element.querySelector(".rdaam-painter");
const canvas = host.querySelector("canvas");
const size = host.querySelector("input");
const picture = new Image();
let strokes = [];
let current = null;
let cursor = null;
let erase = false;
// The picture and its sides.
let shown = { picture: "", width: 0, height: 0 };

const radius = () => (Number(size.value) / 100) * Math.max(shown.width, shown.height) / 2;
const draw = () => {
  canvas.hidden = !shown.picture;
  host.querySelector(".rdaam-empty").hidden = Boolean(shown.picture);
  if (!shown.picture) return;
  canvas.width = shown.width;
  canvas.height = shown.height;
  const pen = canvas.getContext("2d");
  if (picture.complete && picture.naturalWidth) {
    pen.drawImage(picture, 0, 0, shown.width, shown.height);
  }
  const layer = document.createElement("canvas");
  layer.width = shown.width;
  layer.height = shown.height;
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
    pen.lineWidth = Math.max(shown.width / 200, 1);
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
  const x = ((event.clientX - edges.left) / edges.width) * shown.width;
  const y = ((event.clientY - edges.top) / edges.height) * shown.height;
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
  try { shown = JSON.parse(props.label); } catch (error) { /* The picture before stays. */ }
  try { strokes = JSON.parse(props.value || "{}").strokes || []; } catch (error) { strokes = []; }
  picture.onload = draw;
  picture.src = shown.picture || "";
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
  const step = Math.max(shown.width, shown.height) / 32;
  if (steps[event.key]) {
    const [x, y] = cursor || [shown.width / 2, shown.height / 2];
    cursor = [
      Math.min(Math.max(x + step * steps[event.key][0], 0), shown.width),
      Math.min(Math.max(y + step * steps[event.key][1], 0), shown.height),
    ];
    draw();
  } else if (event.key === " " || event.key === "Enter") {
    cursor = cursor || [shown.width / 2, shown.height / 2];
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
watch(["label", "value"], begin);
