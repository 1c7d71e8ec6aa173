// The viewer in its frame: the page shows it, and hears what is selected in it.
const frame = element.querySelector("iframe");
const show = () => {
  let page = "";
  try { page = props.value ? JSON.parse(props.value) : ""; } catch (error) { page = ""; }
  frame.hidden = !page;
  element.querySelector(".rdaam-empty").hidden = Boolean(page);
  frame.srcdoc = page;
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
