// A viewer as a widget of anywidget. `_state` is what is selected, and by whom: the kernel, or one of
// the views, of which there is one for each cell that shows the widget.

const regionOf = ({ attribution = 0, box = null, polygon = null }) =>
  box || polygon ? JSON.stringify([attribution, box, polygon]) : "none";
const wordOf = ({ attribution = 0, word = null }) =>
  word === null ? "none" : JSON.stringify([attribution, word]);

function render({ model, el }) {
  const view = `view ${Math.random()}`;
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts allow-downloads");
  frame.setAttribute("allow", "clipboard-write");
  frame.title = model.get("_title");
  frame.style.cssText = "display:block;width:100%;height:640px;border:0";
  // What this view's page shows; a message is passed on only if it changes that, so that two views
  // do not answer each other for ever.
  let region = regionOf({});
  let word = wordOf({});

  const tell = (change) => {
    model.set("_state", { ...model.get("_state"), ...change, by: view });
    model.save_changes();
  };
  const told = (message) => {
    const { attribution } = message;
    if (message.rdaam === "selection") {
      const { box, polygon, words, mask = null } = message;
      const change = { attribution, box, polygon, mask, words };
      region = mask ? null : regionOf(change);
      tell(change);
    }
    if (message.rdaam === "word") {
      word = wordOf(message);
      const { text = null, record = 0 } = message;
      tell({ attribution, word: message.word, record, text });
    }
  };
  const show = () => {
    const state = model.get("_state");
    if (state.by === view || !frame.contentWindow) return;
    const { attribution = 0, box = null, polygon = null } = state;
    if (!state.mask && regionOf(state) !== region) {
      region = regionOf(state);
      frame.contentWindow.postMessage({ rdaam: "select", attribution, box, polygon }, "*");
    }
    if (!state.record && wordOf(state) !== word) {
      word = wordOf(state);
      frame.contentWindow.postMessage(
        { rdaam: "choose-word", attribution, word: state.word ?? null }, "*");
    }
  };
  frame.addEventListener("load", () => {
    follow(frame, told);
    region = regionOf({});
    word = wordOf({});
    show();
  });
  model.on("change:_state", show);
  frame.srcdoc = model.get("_page");
  el.append(frame);
  return () => {
    model.off("change:_state", show);
    window.removeEventListener("message", frame.rdaamListener);
  };
}

export default { render };
