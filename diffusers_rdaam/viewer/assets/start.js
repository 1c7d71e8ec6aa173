// The beginning: panels from the data, selections in common, and the page around where this is in a
// frame.

function start() {
  const data = JSON.parse(document.getElementById("rdaam-data").textContent);
  const main = document.getElementById("viewers");
  const viewers = data.entries.map((entry, i) => new Viewer(entry, i, data.entries.length));
  main.classList.toggle("several", viewers.length > 1);
  let linked = viewers.length > 1;
  if (viewers.length > 1) {
    const link = checkbox("Same region and word in all images", true, (on) => { linked = on; });
    main.append(element("div", { class: "link" }, link.row));
  }
  main.append(element("div", { class: "panels" }, ...viewers.map((viewer) => viewer.element)));
  const others = (viewer) => (linked ? viewers.filter((other) => other !== viewer) : []);
  viewers.forEach((viewer, number) => {
    viewer.listeners.selection = (form, words) => {
      for (const other of others(viewer)) other.selectRegion(inOther(form, viewer, other), { tells: false });
      post(number, form, words, viewer);
    };
    viewer.listeners.word = (chosen) => {
      for (const other of others(viewer)) other.choose(sameWord(chosen, viewer, other), { tells: false });
      const { word = null, record = 0, label = null } = chosen || {};
      toParent({ rdaam: "word", attribution: number, word, record, text: label });
    };
  });
  window.rdaam = { viewers: viewers.map(programmable) };
  listen(viewers);
  reportHeight(main);
}

// A region of one image in another: the same, or scaled where the other has another size.
function inOther(form, from, to) {
  if (!form) return null;
  const factors = [to.size[1] / from.size[1], to.size[0] / from.size[0]];
  if (form.box) return { box: form.box.map((edge, i) => edge * factors[i % 2]) };
  if (form.polygon) return { polygon: form.polygon.map((p) => p.map((x, i) => x * factors[i])) };
  return String(from.size) === String(to.size) ? { mask: form.mask.slice() } : null;
}

function sameWord(chosen, from, to) {
  if (!chosen) return null;
  const wanted = chosen.label.toLowerCase();
  for (let record = 0; record < to.records.length; record += 1) {
    const group = to.records[record].groups
      .findIndex((one) => one.label.toLowerCase() === wanted);
    if (group >= 0) return to.ofGroup(record, group);
  }
  return null;
}

function toParent(message) {
  // The page around may be of any origin, and what is told is no secret from who shows this one.
  if (window.parent !== window) window.parent.postMessage(message, "*");
}

function post(number, form, words, viewer) {
  const message = {
    rdaam: "selection", attribution: number, box: form?.box || null, polygon: form?.polygon || null,
    words,
  };
  if (form?.mask) message.mask = runLengths(form.mask, ...viewer.size);
  toParent(message);
}

// What another program may ask of a panel; coordinates are pixels of the image.
function programmable(viewer) {
  const answerOf = (region) => {
    const record = viewer.main;
    const answer = record.regionWords(region, viewer.choice(record));
    const words = ranked(answer.words, "lift").map(
      ({ text, score, lift, share, rank }) => ({ text, score, lift, share, rank }));
    return { words, noWord: answer.noWord, contrast: answer.contrast, special: answer.special };
  };
  const indexOf = (record) => (record === undefined ? 0 : record);
  return {
    size: viewer.size,
    words: viewer.records[0].words.map((word) => word.text),
    maps: viewer.records[0].choices.map(({ kind, label }) => ({ kind, label })),
    // The map of a word, or of the words of a list, `height * width`; of another text by `record`.
    wordMap(index, record) {
      const of = viewer.records[indexOf(record)];
      const words = [index].flat().map((one) => of?.words[one]);
      if (!words.every(Boolean)) throw new Error(`There is no word ${index}.`);
      const columns = [...new Set(words.flatMap((word) => word.columns))];
      return of.map(columns, viewer.size, viewer.choice(of));
    },
    region(form) {
      const region = Region.of(form, viewer.size);
      if (!region) throw new Error("The region is empty or lies outside the image.");
      return answerOf(region);
    },
    // Of the chosen word: the mask's pixels and the box around its largest part.
    wordMask(threshold) {
      if (!viewer.chosen) return null;
      const record = viewer.records[viewer.chosen.record];
      const values = record.map(viewer.chosen.columns, viewer.size, viewer.choice(record));
      const mask = maskOver(values, threshold === undefined ? viewer.mapThreshold : threshold);
      return { mask, box: largestBox(mask, ...viewer.size) };
    },
    selfAttention: (x, y) => viewer.selfAttention([x, y], viewer.size),
    showMaps: (kind, label) => viewer.show({ kind, label: label === undefined ? null : label }),
    selectBox: (box) => Boolean(viewer.selectRegion(box && { box })),
    selectPolygon: (points) => Boolean(viewer.selectRegion(points && { polygon: points })),
    chooseWord: (index, record) =>
      viewer.choose(index === null ? null : viewer.ofWord(indexOf(record), index)),
    python: () => pythonOf(viewer.form, viewer.size),
    csv: () => csvOf(viewer.tableRows()),
    coco: () => viewer.coco(fileName(viewer.entry.title)),
  };
}

// What the page around asks; anybody else's messages are left alone.
function listen(viewers) {
  const isPair = (point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite);
  window.addEventListener("message", ({ source, data }) => {
    if (source !== window.parent || source === window || !data || typeof data !== "object") return;
    if (data.rdaam === "theme" && ["light", "dark"].includes(data.theme)) {
      document.documentElement.dataset.theme = data.theme;
    }
    const number = data.attribution === undefined ? 0 : data.attribution;
    const viewer = Number.isInteger(number) ? viewers[number] : null;
    if (!viewer) return;
    if (data.rdaam === "select") {
      const { box, polygon } = data;
      if (Array.isArray(box) && box.length === 4 && box.every(Number.isFinite)) {
        viewer.selectRegion({ box });
      } else if (Array.isArray(polygon) && polygon.length >= 3 && polygon.every(isPair)) {
        viewer.selectRegion({ polygon });
      } else if (!box && !polygon) viewer.selectRegion(null);
    }
    if (data.rdaam === "choose-word") {
      viewer.choose(Number.isInteger(data.word) ? viewer.ofWord(0, data.word) : null);
    }
  });
}

function reportHeight(main) {
  if (window.parent === window) return;
  let last = 0;
  new ResizeObserver(() => {
    const height = Math.ceil(main.getBoundingClientRect().height);
    if (height !== last) toParent({ rdaam: "size", height });
    last = height;
  }).observe(main);
}

// The script is here, so that the page is: what is wrong from now on is said below.
document.getElementById("incomplete")?.remove();
try {
  start();
} catch (error) {
  document.getElementById("viewers").append(element("p", {
    class: "remark", role: "alert",
    text: `This page cannot be shown: ${error.message} Make the file anew with to_html().`,
  }));
  throw error;
}
