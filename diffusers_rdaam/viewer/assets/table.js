// The words of a region as a table: rank, word, bar, and the three numbers.

const FORMATS = {
  lift: (value) => value.toFixed(2),
  score: (value) => (value >= 0.001 || value === 0 ? value.toFixed(4) : value.toExponential(1)),
  share: (value) => `${(value * 100).toFixed(1)} %`,
};
const MEANINGS = {
  lift: "Lift: the attention here over that in the whole image; 1 is as everywhere",
  score: "Score: mean attention probability of the word in the region",
  share: "Share: of the attention to all words",
};

class WordTable {
  // `onChoose(group)` is called with the number of the group of a row.
  constructor(caption, onChoose) {
    this.onChoose = onChoose;
    this.body = element("tbody");
    this.heads = {};
    this.head = element("tr", {},
      element("th", { scope: "col", class: "rank", text: "#", "aria-label": "rank" }),
      element("th", { scope: "col", text: "word" }));
    for (const name of RANKINGS) {
      this.heads[name] = element("th", {
        scope: "col", class: "number", text: name, title: MEANINGS[name],
      });
      this.head.append(this.heads[name]);
    }
    this.caption = element("caption", { class: "unseen", text: caption });
    this.element = element("table", { class: "words" },
      this.caption, element("thead", {}, this.head), this.body);
    this.rows = new Map();
  }

  update(words, ranking, chosen) {
    for (const name of RANKINGS) {
      const sorted = name === ranking;
      this.heads[name].classList.toggle("sorted", sorted);
      if (sorted) this.heads[name].setAttribute("aria-sort", "descending");
      else this.heads[name].removeAttribute("aria-sort");
    }
    const order = ranked(words, ranking);
    const rows = order.map((word) => {
      const row = this.row(word);
      row.rank.textContent = String(word.rank);
      for (const name of RANKINGS) row[name].textContent = FORMATS[name](word[name]);
      const bar = barLength(word, words, ranking);
      row.bar.style.width = `${(bar * 100).toFixed(1)}%`;
      row.line.classList.toggle("under", ranking === "lift" && word.lift < 1);
      row.word.setAttribute("aria-pressed", String(word.group === chosen));
      row.line.classList.toggle("chosen", word.group === chosen);
      return row.line;
    });
    // The order seldom changes while a box is drawn, and a moved row would lose the focus.
    if (rows.some((row, i) => this.body.children[i] !== row)) {
      const focused = document.activeElement;
      this.body.replaceChildren(...rows);
      if (this.body.contains(focused)) focused.focus({ preventScroll: true });
    }
    return order;
  }

  row(word) {
    let row = this.rows.get(word.group);
    if (row) return row;
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    const name = element("button", {
      type: "button", class: "word", on: { click: () => this.onChoose(word.group) },
    }, isolated(word.text));
    const cell = () => element("td", { class: "number" });
    row = { rank: element("td", { class: "rank" }), word: name, bar };
    for (const ranking of RANKINGS) row[ranking] = cell();
    row.line = element("tr", {}, row.rank,
      element("th", { scope: "row" }, name, element("span", { class: "track" }, bar)),
      row.lift, row.score, row.share);
    this.rows.set(word.group, row);
    return row;
  }

  // For another text.
  reset() {
    this.rows.clear();
    this.body.replaceChildren();
  }
}
