const ROWS = 50; // of a page

/** Where in `text` the words that are searched for stand, as [start, end]. */
function rangesOf(text, words) {
  const ranges = [];
  for (const word of words) {
    const hay = word === word.toLowerCase() ? text.toLowerCase() : text;
    if (hay.length !== text.length) continue; // lower case of another length: its places would be wrong
    for (let at = hay.indexOf(word); at >= 0 && ranges.length < 50; at = hay.indexOf(word, at + word.length)) ranges.push([at, at + word.length]);
  }
  return ranges.sort((a, b) => a[0] - b[0]);
}

/** The part of a text between two places, with what was searched for marked. */
function markedPart(text, from, to, ranges) {
  const parts = [];
  let at = from;
  for (const [start, end] of ranges) {
    if (end <= at || start >= to) continue;
    parts.push(text.slice(at, Math.max(at, start)), h("mark", text.slice(Math.max(at, start), Math.min(end, to))));
    at = Math.min(end, to);
  }
  return [...parts, text.slice(at, to)];
}

/** A key without the folder it is in; one that is cut keeps its telling end. */
function keyParts(whole, folder = "", words = []) {
  if (!whole) return [h("span.dim", TEXT.emptyKey)];
  const label = whole.startsWith(folder) && whole !== folder ? whole.slice(folder.length) : whole;
  const ranges = rangesOf(label, words);
  const cut = Math.max(0, label.length - 12);
  return [h("bdi.start", ...markedPart(label, 0, cut, ranges)), h("bdi", ...markedPart(label, cut, label.length, ranges))];
}

/** The table of keys, its pages and its marks. */
class List {
  constructor(view) {
    this.view = view;
    this.sort = "key";
    this.descending = false;
    this.offset = 0;
    this.found = 0;
    this.revision = -1; // of the rows that are shown: others may be listed already
    this.asked = {}; // what they were asked by
    this.drawn = 0; // the offset of the rows that are shown
    this.goal = null; // the position the keyboard is on its way to, on a page that is not here yet
    this.choice = null; // a row chosen here whose answer is not here yet: until then Python's word is older
    this.anchor = null; // the position from which Shift marks
    this.kinds = new Map();
    this.build();
  }

  build() {
    this.columns = Object.entries(TEXT.columns).map(([name, label]) => {
      const head = h(`th.${name}`, { scope: "col", "data-column": name },
        name === "kind" ? h("span.hidden", label) : icon(label, TEXT.sortBy(name), () => this.sortBy(name)));
      const width = (size, far) => { head.style.width = `${Math.max(50, Math.min(320, size - far))}px`; };
      if (name === "size" || name === "modified") head.append(splitter(TEXT.width(label), "vertical", () => head.offsetWidth, width));
      return head;
    });
    this.columns[3].firstChild.append(h("span.clock", " (UTC)"));
    this.markAll = h("input", { type: "checkbox", label: TEXT.markPage, change: () => this.markPage(this.markAll.checked) });
    this.rows = h("tbody");
    this.grid = h("table.keys", { role: "grid", label: TEXT.keys },
      h("thead", h("tr", { "aria-rowindex": 1 }, h("th.mark", { scope: "col" }, this.markAll), ...this.columns)), this.rows);
    this.empty = h("div.empty", { hidden: true });
    this.scroller = h("div.scroll", { keydown: (e) => this.key(e), scroll: () => this.soonKinds() }, this.grid, this.empty);
    this.marks = h("div.marks", { hidden: true });
    this.pageInput = h("input.page", { type: "number", min: "1", label: TEXT.page, input: () => { this.typing = true; }, blur: () => { this.typing = false; },
      change: () => { this.typing = false; this.turn((Number(this.pageInput.value) || 1) - 1); } });
    this.pages = h("span.dim");
    const turns = [() => 0, () => this.page - 1, () => this.page + 1, () => this.found];
    [this.first, this.previous, this.nextPage, this.last] = turns.map((page, n) => icon("«‹›»"[n], TEXT.pages[n], () => this.turn(page())));
    const pager = h("div.pager", h("div.turn", this.first, this.previous, this.pageInput, this.pages, this.nextPage, this.last));
    this.root = h("div.list", this.scroller, this.marks, pager);
  }

  get page() { return Math.floor(this.offset / ROWS); }

  boxes() { return [...this.rows.querySelectorAll("input:enabled")]; }

  load({ follow = false, query = false, done }) {
    const { view } = this;
    clearTimeout(view.listing);
    if (follow && this.choice) this.sendChoice();
    const asked = { sort: this.sort, descending: this.descending, folder: view.folder, offset: this.offset, limit: ROWS, follow: follow && this.goal === null };
    if (query) Object.assign(asked, { query: view.search.value, match: view.match.value });
    view.line.ask("page", asked, (answer) => {
      if (answer.error) return this.say(answer.error);
      const fresh = answer.revision !== view.state.revision;
      this.asked = { sort: asked.sort, descending: asked.descending, folder: asked.folder, query: answer.query, match: answer.match };
      this.draw(answer);
      view.shown(answer, fresh);
      if (answer.listing) view.later("listing", 300, () => this.load({ follow }));
    }, done);
  }

  draw(answer) {
    if (answer.revision !== this.revision) {
      this.kinds.clear();
      this.anchor = null;
    }
    this.revision = answer.revision;
    this.view.take(answer);
    Object.assign(this, { offset: answer.offset, drawn: answer.offset, found: answer.found });
    this.words = answer.match === "glob" ? [] : answer.query.split(/\s+/).filter(Boolean);
    this.prefix = answer.folderLabel;
    this.foundText = answer.foundText;
    this.view.drawBar();
    this.rows.replaceChildren(...answer.rows.map((row, i) => this.row(row, i)));
    this.grid.setAttribute("aria-rowcount", this.found + 1);
    const pages = Math.max(1, Math.ceil(this.found / ROWS));
    if (!this.typing) this.pageInput.value = this.page + 1;
    this.pageInput.max = pages;
    this.pages.textContent = TEXT.of(count(pages));
    this.first.disabled = this.previous.disabled = this.page === 0;
    this.last.disabled = this.nextPage.disabled = this.page >= pages - 1;
    for (const th of this.columns) {
      if (th.dataset.column !== "kind") th.setAttribute("aria-sort", th.dataset.column !== this.sort ? "none" : this.descending ? "descending" : "ascending");
    }
    this.markAll.checked = this.boxes().length > 0 && this.boxes().every((box) => box.checked);
    this.say(answer.empty, Boolean(answer.problem), answer.elsewhere);
    const lines = [...this.rows.children];
    const active = (this.goal === null ? lines.find((tr) => tr.getAttribute("aria-selected") === "true") : lines[this.goal - this.drawn]) || lines[0];
    if (active) active.tabIndex = 0;
    if (this.goal !== null) this.choose(active);
    else if (active !== lines[0]) this.reveal(active);
    this.goal = null;
    this.drawMarks();
    this.soonKinds();
  }

  say(text, problem = true, elsewhere = 0) {
    this.empty.hidden = !text;
    this.empty.classList.toggle("pk-problem", problem);
    this.empty.replaceChildren(text || "", elsewhere ? h("p", button(".plain", () => this.view.enter(""), {}, TEXT.elsewhere(count(elsewhere)))) : "");
  }

  row([row, label, size, bytes, time, known, marked], i) {
    const box = h("input", { type: "checkbox", tabindex: "-1", label: TEXT.mark, disabled: !known, click: (e) => { e.stopPropagation(); this.markAt(tr, e); } });
    box.checked = Boolean(marked);
    const key = h("div.keytext", ...keyParts(label, this.prefix, this.words));
    const [flag, title] = known ? TEXT.ambiguous : TEXT.unknown;
    if (known !== 1) key.append(h("span.flag", { title }, flag));
    const tr = h("tr", { tabindex: "-1", "data-row": row, "aria-rowindex": this.offset + i + 2, "aria-selected": String(row === this.view.state.selected), click: (e) => this.click(tr, e) },
      h("td.mark", box), this.kindCell(row), h("td.key", { title: label }, key),
      h("td.size", { title: `${count(bytes)} bytes` }, size), h("td.modified", { title: time }, time.slice(0, 10), h("span.clock", time.slice(10))));
    return tr;
  }

  kindCell(row) {
    const [name, label] = this.kinds.get(row) || ["", ""];
    return h("td.kind", { title: label }, name && h("span.icon", { "aria-hidden": "true" }, ICONS[name] || "01"), name && h("span.kindname", name));
  }

  /** Who turns pages or scrolls quickly waits for no kinds. */
  soonKinds() { this.view.later("kinds", 150, () => this.askKinds()); }

  /** Ask what the rows in view are; a few at a time, so that other requests come in between. */
  askKinds() {
    const { top, bottom } = this.scroller.getBoundingClientRect();
    const lines = [...this.rows.children].filter((tr) => !this.kinds.has(Number(tr.dataset.row)));
    const seen = lines.filter((tr) => { const box = tr.getBoundingClientRect(); return box.bottom > top && box.top < bottom; });
    if (!seen.length || !this.view.visible) return;
    const { revision } = this;
    this.view.line.ask("kinds", { rows: seen.slice(0, 25).map((tr) => Number(tr.dataset.row)), revision }, (answer) => {
      if (answer.error || revision !== this.revision) return;
      for (const [row, name, label] of answer.kinds) this.kinds.set(row, [name, label]);
      for (const tr of this.rows.children) {
        const row = Number(tr.dataset.row);
        if (this.kinds.has(row) && !tr.children[1].firstChild) tr.children[1].replaceWith(this.kindCell(row));
      }
      this.askKinds();
    });
  }

  reveal(tr) {
    const top = tr.offsetTop - 28;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    const bottom = tr.offsetTop + tr.offsetHeight - this.scroller.clientHeight;
    if (bottom > this.scroller.scrollTop) this.scroller.scrollTop = bottom;
  }

  click(tr, e) {
    tr.focus({ preventScroll: true });
    if (e.shiftKey || e.ctrlKey || e.metaKey) return this.markAt(tr, e, true);
    this.anchor = this.position(tr);
    return this.choose(tr);
  }

  position(tr) { return this.drawn + [...this.rows.children].indexOf(tr); }

  choose(tr) {
    if (!tr) return;
    for (const other of this.rows.children) {
      other.tabIndex = other === tr ? 0 : -1;
      other.setAttribute("aria-selected", String(other === tr));
    }
    this.reveal(tr);
    const row = Number(tr.dataset.row);
    const { state, preview } = this.view;
    const { revision } = this;
    if (state.revision === revision) {
      if (state.selected === row && preview.row === row && preview.revision === revision) return;
      state.selected = row;
    }
    this.choice = { row, revision };
    this.view.later("choosing", 60, () => this.sendChoice());
  }

  sendChoice() {
    clearTimeout(this.view.choosing);
    const { choice } = this;
    if (!choice || choice.sent) return;
    choice.sent = true;
    this.view.askPreview({ op: "select", row: choice.row, revision: choice.revision, done: () => { if (this.choice === choice) this.choice = null; } });
  }

  /** Choose the row at a position of all that was found, on its own page. */
  goTo(position) {
    const at = Math.max(0, Math.min(position, this.found - 1));
    const offset = Math.floor(at / ROWS) * ROWS;
    if (offset === this.drawn && this.offset === this.drawn) {
      const tr = this.rows.children[at - offset];
      tr.focus({ preventScroll: true });
      return this.choose(tr);
    }
    this.goal = at;
    this.offset = offset;
    return this.load({});
  }

  key(e) {
    const tr = e.target.closest("tbody tr");
    if (!tr || e.ctrlKey || e.metaKey || e.altKey) return;
    const at = this.goal === null ? this.position(tr) : this.goal;
    const { offset } = this;
    const go = (to) => {
      if (e.shiftKey) this.mark({ between: [at, to], on: true });
      this.goTo(to);
    };
    const acts = {
      ArrowDown: () => go(at + 1), ArrowUp: () => go(at - 1), Home: () => go(offset), End: () => go(offset + ROWS - 1),
      PageDown: () => go(offset + ROWS), PageUp: () => go(offset - ROWS),
      Enter: () => { if (this.goal === null) this.choose(tr); this.view.preview.focus(); },
      " ": () => { const box = tr.querySelector("input:enabled"); if (this.goal === null && box) box.click(); },
    };
    if (!acts[e.key]) return;
    e.preventDefault();
    acts[e.key]();
  }

  /** Mark or unmark a row, or with Shift all rows from the last one on. */
  markAt(tr, e, toggle = false) {
    const box = tr.querySelector("input");
    if (box.disabled) return;
    if (toggle && !e.shiftKey) box.checked = !box.checked;
    const at = this.position(tr);
    if (e.shiftKey && this.anchor !== null) this.mark({ between: [this.anchor, at], on: true });
    else this.mark({ rows: [Number(tr.dataset.row)], on: box.checked });
    this.anchor = at;
  }

  markPage(on) {
    const boxes = this.boxes();
    for (const box of boxes) box.checked = on;
    this.mark({ rows: boxes.map((box) => Number(box.closest("tr").dataset.row)), on });
  }

  mark(asked) {
    this.view.line.ask("mark", { ...this.asked, ...asked, revision: this.revision }, (answer) => {
      this.view.tell();
      if (answer.error) this.view.dialog.tell(TEXT.failed, [answer.error]);
      if (answer.error) this.load({});
    }, () => { if (!asked.rows) this.load({}); }); // of a range or all that is found Python knows which
  }

  drawMarks() {
    const { marked, readOnly } = this.view.state;
    const told = [marked, this.found, readOnly].join();
    if (told === this.told) return; // a button that was just pressed says so until the marks change
    this.told = told;
    this.marks.hidden = !marked;
    this.marks.replaceChildren(h("span", { role: "status" }, TEXT.marked(count(marked))),
      marked < this.found ? button("", () => this.mark({ all: true, on: true }), {}, TEXT.markFound(count(this.found))) : "",
      button("", () => this.mark({ on: false }), {}, TEXT.unmark), h("span.grow"),
      copier(TEXT.copyCode, () => this.view.request("code", {}).then((answer) => answer.text)),
      marked === 2 ? button("", () => this.view.compare(), {}, TEXT.compare) : "",
      readOnly ? "" : button(".danger", () => this.view.confirmDelete(), {}, TEXT.deleteMarked));
  }

  restart(asked) {
    this.offset = 0;
    this.goal = null;
    this.anchor = null;
    this.load(asked);
  }

  turn(page) {
    this.offset = page * ROWS; // Python keeps it among the pages there are
    this.goal = null;
    this.scroller.scrollTop = 0;
    this.load({});
  }

  sortBy(column) {
    this.descending = this.sort === column ? !this.descending : column !== "key";
    this.sort = column;
    this.restart({});
  }

  focus() { (this.rows.querySelector("[tabindex='0']") || this.view.search).focus({ preventScroll: true }); }
}
