// The viewer in its frame: the page shows it, and hears what is selected in it.
let frame = element.querySelector("iframe");
const show = () => {
  let page = "";
  try { page = props.value ? JSON.parse(props.value) : ""; } catch (error) { page = ""; }
  // A new frame each time: Chromium does not always draw a page that came while it was hidden.
  const fresh = frame.cloneNode(false);
  fresh.hidden = !page;
  element.querySelector(".rdaam-empty").hidden = Boolean(page);
  fresh.srcdoc = page;
  frame.replaceWith(fresh);
  frame = fresh;
};
const hear = (event) => {
  const data = event.data;
  if (event.source !== frame.contentWindow || !data || typeof data.rdaam !== "string") return;
  if (data.rdaam === "size" && Number.isFinite(data.height)) {
    frame.style.height = `${Math.min(Math.max(data.height, 200), 4000)}px`;
  } else if (data.rdaam === "selection") {
    const { attribution, box, polygon } = data;
    trigger("selection", { text: JSON.stringify({ attribution, box, polygon }) });
  }
};
if (element.rdaamHear) window.removeEventListener("message", element.rdaamHear);
element.rdaamHear = hear;
window.addEventListener("message", hear);
show();
watch("value", show);
