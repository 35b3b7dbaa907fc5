// The page's side of the key browser: it draws and asks; Python makes every page, preview and decision.
// Keys and values are untrusted: they reach the page through textContent only.

const WAIT_MS = 400;
const POLL_MS = 2000;
const MOST_PIXELS = 50e6; // 200 MB once drawn

/** Make an element: h("td.size", {title: "…"}, child, …). Functions are listeners, null is left out. */
function h(name, options = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  node.className = classes.map((c) => `pk-${c}`).join(" ");
  for (const [key, value] of Object.entries(options)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value != null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

const button = (name, click, options, ...children) => h(`button${name}`, { type: "button", click, ...options }, ...children);
const count = (n) => n.toLocaleString("en-US");
const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;

/** A key that is cut keeps its telling end. */
function keyParts(label) {
  if (!label) return [h("span.dim", {}, "(empty key)")];
  const cut = Math.max(0, label.length - 12);
  return [h("bdi.start", {}, label.slice(0, cut)), h("bdi", {}, label.slice(cut))];
}

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  return area.remove();
}

/** Requests and answers of one view; of several questions of one kind only the newest answer counts. */
class Line {
  constructor(model, around, onBroadcast, onWaiting) {
    this.model = model;
    this.view = Math.floor(Math.random() * 2 ** 31);
    this.next = 1;
    this.open = new Map();
    this.listener = (message, buffers) => around(() => {
      if (message.view === undefined) return onBroadcast(message);
      const asked = message.view === this.view ? this.open.get(message.id) : undefined;
      if (!asked) return;
      this.open.delete(message.id);
      clearTimeout(asked.timer);
      asked.done();
      if (![...this.open.values()].some((other) => other.late)) onWaiting(false);
      if (this.latest[asked.kind] === message.id) asked.draw(message, buffers);
    });
    this.onWaiting = onWaiting;
    this.latest = {};
    model.on("msg:custom", this.listener);
  }

  /** Send a request; `draw` gets its answer when no newer one of its kind was asked, `done` is called either way. */
  ask(op, content, draw, done = () => {}) {
    const id = this.next++;
    const kind = op === "preview" ? "select" : op;
    this.latest[kind] = id;
    const asked = { draw, done, kind, late: false };
    asked.timer = setTimeout(() => {
      asked.late = true;
      this.onWaiting(true);
    }, WAIT_MS);
    this.open.set(id, asked);
    this.model.send({ ...content, op, id, view: this.view });
  }

  close() {
    this.model.off("msg:custom", this.listener);
    for (const asked of this.open.values()) clearTimeout(asked.timer);
    this.open.clear();
  }
}

/** A tree of parsed JSON; containers open on demand. */
function jsonTree(node, name, depth = 0) {
  const [kind, value, rest] = node;
  const label = name === undefined ? null : h("span.name", {}, name, h("span.dim", {}, ": "));
  if (kind !== "object" && kind !== "array") {
    const text = kind === "string" ? `"${value}"` : value;
    const left = kind !== "literal" && rest > 0 ? h("span.dim", {}, ` … ${count(rest)} more characters`) : null;
    return h("div.leaf", {}, label, h(`span.${kind}`, {}, text), left);
  }
  const [open, close, one] = kind === "object" ? ["{", "}", "member"] : ["[", "]", "item"];
  if (value === 0) return h("div.leaf", {}, label, h("span.dim", {}, open + close));
  const summary = h("summary", {}, label, h("span.dim", {}, `${open} ${plural(value, one)} ${close}`));
  const inner = h("div.inner");
  const details = h("details", {}, summary, inner);
  const fill = () => {
    if (inner.firstChild) return;
    rest.forEach((child, i) => {
      const [key, inside] = kind === "object" ? child : [i, child];
      inner.append(jsonTree(inside, key, depth + 1));
    });
    if (rest.length < value) inner.append(h("div.leaf.dim", {}, `… ${count(value - rest.length)} more not shown`));
  };
  details.addEventListener("toggle", () => details.open && fill());
  if (depth < 2 || value === 1) {
    fill();
    details.open = true;
  }
  return details;
}

function hexDump(view, start) {
  const lines = [];
  for (let at = 0; at < view.byteLength; at += 16) {
    const bytes = [...new Uint8Array(view.buffer, view.byteOffset + at, Math.min(16, view.byteLength - at))];
    const hex = bytes.map((b) => b.toString(16).padStart(2, "0"));
    const text = bytes.map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : "·")).join("");
    lines.push(`${(start + at).toString(16).padStart(8, "0")}  ${hex.slice(0, 8).join(" ").padEnd(23)}  ${hex.slice(8).join(" ").padEnd(23)}  ${text}`);
  }
  return lines.join("\n");
}

function dataTable(table) {
  const side = (tag, i) => (table.numeric[i] ? `${tag}.num` : tag);
  const head = table.columns.map((name, i) => h(side("th", i), { scope: "col" }, name, h("span.dtype", {}, table.kinds[i] || "")));
  const rows = table.rows.map((row, n) => h("tr", {}, h("th.rownum", { scope: "row" }, String(n)), ...row.map((cell, i) => h(side("td", i), {}, cell))));
  return h("div", {}, h("div.caption", {}, table.summary),
    h("table.data", {}, h("thead", {}, h("tr", {}, h("th"), ...head)), h("tbody", {}, ...rows)));
}

/** One view of the browser. */
class View {
  constructor(model, el) {
    this.state = { revision: -1, total: 0, listing: true, listed: 0, readOnly: true, selected: null };
    this.sort = "key";
    this.descending = false;
    this.folder = "";
    this.offset = 0;
    this.limit = 50;
    this.found = 0;
    this.drawn = 0; // the offset of the rows that are shown
    this.goal = null; // the position the keyboard is on its way to, on a page that is not here yet
    this.choice = null; // a row chosen here whose answer is not here yet: until then Python's word is older
    this.urls = [];
    this.build(el);
    this.line = new Line(model, (draw) => this.keepFocus(draw), (message) => this.hear(message), (waiting) => this.root.classList.toggle("pk-late", waiting));
    this.visible = true;
    this.watcher = new IntersectionObserver((seen) => { this.visible = seen.at(-1).isIntersecting; });
    this.watcher.observe(this.root);
    this.poller = setInterval(() => this.poll(), POLL_MS);
    this.load({ follow: true });
    const first = model.get("_first"); // stored with the notebook: rows are there also where no kernel answers
    if (first.rows) this.drawPage({ ...first, selected: null });
  }

  close() {
    window.removeEventListener("keydown", this.guard, true);
    clearInterval(this.poller);
    clearTimeout(this.listing);
    clearTimeout(this.choosing);
    this.watcher.disconnect();
    this.line.close();
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.root.remove();
  }

  /** Draw; the focus stays in the view also where the element that had it is taken away. */
  keepFocus(draw) {
    const before = document.activeElement;
    const place = this.preview.contains(before) ? this.preview : this.root.contains(before) && this;
    draw();
    const now = document.activeElement;
    if (place && (!this.root.contains(now) || !now.offsetParent || now.disabled)) place.focus({ preventScroll: true });
  }

  /** Focus the row of the keyboard, or where there is none the search. */
  focus() { (this.rows.querySelector("[tabindex='0']") || this.search).focus({ preventScroll: true }); }

  later(name, ms, act) {
    clearTimeout(this[name]);
    this[name] = setTimeout(act, ms);
  }

  build(el) {
    const icon = (label, title, click, more) => button("", click, { title, "aria-label": title, ...more }, label);
    this.search = h("input.search", { type: "search", placeholder: "Search keys", "aria-label": "Search keys", spellcheck: "false",
      input: () => this.find() });
    this.match = h("select", { "aria-label": "How to search", change: () => this.find() },
      h("option", { value: "substring" }, "contains"), h("option", { value: "prefix" }, "starts with"), h("option", { value: "glob" }, "glob * ?"));
    this.summary = h("span.summary", { role: "status" }, "…");
    this.changed = button(".changed", () => this.refresh(), { hidden: true }, "Changed – refresh");
    this.liveChoice = h("select", { "aria-label": "Live view", hidden: true, change: () => this.poll() },
      h("option", { value: "off" }, "Live: off"), h("option", { value: "tell" }, "Live: tell me"), h("option", { value: "auto" }, "Live: refresh"));
    this.treeToggle = icon("☰", "Folders", () => this.showTree(this.tree.hidden), { "aria-expanded": "false" });
    const bar = h("div.bar", {}, this.treeToggle, this.search, this.match, this.summary, this.changed, this.liveChoice, icon("↻", "List again", () => this.refresh()));
    this.tree = h("div.tree", { role: "tree", "aria-label": "Folders", hidden: true, keydown: (e) => this.treeKey(e) });
    this.columns = ["key", "size", "modified"].map((name) =>
      h(`th.${name}`, { scope: "col", role: "columnheader", "data-column": name }, icon(name[0].toUpperCase() + name.slice(1), `Sort by ${name}`, () => this.sortBy(name))));
    this.columns[2].firstChild.append(h("span.clock", {}, " (UTC)"));
    this.markAll = h("input", { type: "checkbox", "aria-label": "Mark this page", change: () => this.markPage(this.markAll.checked) });
    this.markHead = h("th.mark", { scope: "col", role: "columnheader", hidden: true }, this.markAll);
    this.rows = h("tbody");
    this.grid = h("table.keys", { role: "grid", "aria-label": "Keys" }, h("thead", {}, h("tr", { role: "row", "aria-rowindex": 1 }, this.markHead, ...this.columns)), this.rows);
    this.empty = h("div.empty", { hidden: true });
    this.scroller = h("div.scroll", { keydown: (e) => this.gridKey(e) }, this.grid, this.empty);
    this.marks = h("span.marks", { hidden: true });
    this.pageInput = h("input.page", { type: "number", min: "1", "aria-label": "Page", change: () => this.turn((Number(this.pageInput.value) || 1) - 1) });
    this.pages = h("span.dim");
    this.first = icon("«", "First page", () => this.turn(0));
    this.previous = icon("‹", "Previous page", () => this.turn(this.page - 1));
    this.nextPage = icon("›", "Next page", () => this.turn(this.page + 1));
    this.last = icon("»", "Last page", () => this.turn(this.found));
    this.limitChoice = h("select", { "aria-label": "Rows a page", change: () => { this.limit = Number(this.limitChoice.value); this.load({ follow: true }); } },
      ...[25, 50, 100, 250].map((n) => h("option", { value: n, selected: n === 50 }, `${n} rows`)));
    const pager = h("div.pager", {}, this.marks,
      h("div.turn", {}, this.first, this.previous, this.pageInput, this.pages, this.nextPage, this.last, this.limitChoice));
    this.preview = h("section.preview", { "aria-label": "Preview", tabindex: "-1" });
    this.drawNothing();
    this.dialog = h("div.veil", { hidden: true });
    this.root = h("div.root", { role: "region", "aria-label": "Key browser" }, bar,
      h("div.body", {}, this.tree, h("div.list", {}, this.scroller, pager), this.preview), this.dialog);
    this.root.classList.add("pk");
    // JupyterLab's shortcuts must not see what is typed here: "x" would cut the cell.
    this.root.addEventListener("keydown", (e) => {
      if (e.key === "Escape") this.escape(e);
      if (!e.ctrlKey && !e.metaKey) e.stopPropagation();
    });
    // Notebook 7 listens before any element does; this attribute is Lumino's word for "not here".
    this.guard = (e) => this.root.contains(e.target) && e.target.toggleAttribute("data-lm-suppress-shortcuts", !e.ctrlKey && !e.metaKey);
    window.addEventListener("keydown", this.guard, true);
    el.append(this.root);
  }

  /** Take Python's state; a choice it has not answered yet stays. */
  take(state) {
    if (state.revision !== this.state.revision) this.choice = null;
    this.state = this.choice ? { ...state, selected: this.choice.row } : state;
    if (document.activeElement === this.search) return;
    this.search.value = state.query;
    this.match.value = state.match;
  }

  hear(message) {
    const { revision, selected } = this.state;
    const others = message.by !== this.line.view;
    const asked = others && (this.search.value !== message.query || this.match.value !== message.match);
    const following = this.rows.querySelector("[aria-selected=true]") !== null;
    this.take(message);
    this.drawBar();
    const fresh = this.state.revision !== revision;
    const chosen = message.cause === "selected" && this.state.selected !== selected;
    if (fresh) {
      this.changed.hidden = true;
      if (!this.tree.hidden) this.showTree(true);
    }
    if (fresh || asked || chosen || (others && message.cause === "marked")) this.load({ follow: chosen || (fresh && following) });
    if (this.state.selected === null) this.drawNothing();
    else if (fresh || chosen) this.askPreview({});
  }

  load({ follow = false, query = false, done }) {
    clearTimeout(this.listing);
    if (follow && this.choice) this.sendChoice();
    const asked = { sort: this.sort, descending: this.descending, folder: this.folder, offset: this.offset, limit: this.limit, follow: follow && this.goal === null };
    if (query) Object.assign(asked, { query: this.search.value, match: this.match.value });
    this.line.ask("page", asked, (answer) => {
      if (answer.error) return this.say(answer.error);
      const fresh = answer.revision !== this.state.revision || !this.preview.dataset.row;
      this.drawPage(answer);
      if (fresh && this.state.selected !== null) this.askPreview({});
      if (answer.listing) this.later("listing", 300, () => this.load({ follow }));
    }, done);
  }

  drawPage(answer) {
    this.take(answer);
    Object.assign(this, { offset: answer.offset, drawn: answer.offset, found: answer.found, limit: answer.limit });
    this.drawRows(answer.rows);
  }

  say(text, problem = true) {
    this.empty.hidden = !text;
    this.empty.classList.toggle("pk-problem", problem);
    this.empty.textContent = text;
  }

  get page() { return Math.floor(this.offset / this.limit); }

  drawBar() {
    const s = this.state;
    this.summary.textContent = s.listing ? `Listing… ${count(s.listed)}` : this.foundText || s.summary;
    this.summary.title = `${s.place}: ${s.summary}`;
    this.root.classList.toggle("pk-listing", Boolean(s.listing));
    this.liveChoice.hidden = !s.live;
    this.markHead.hidden = s.readOnly;
    this.marks.hidden = s.readOnly || !s.marked;
    this.marks.replaceChildren(
      button(".danger", () => this.confirm(), {}, `Delete ${count(s.marked || 0)} marked…`),
      button("", () => this.mark([], false), {}, "Unmark"));
  }

  drawRows(rows) {
    const { state } = this;
    this.foundText = state.foundText;
    this.drawBar();
    this.rows.replaceChildren(...rows.map((row, i) => this.rowOf(row, i)));
    this.grid.setAttribute("aria-rowcount", this.found + 1);
    const pages = Math.max(1, Math.ceil(this.found / this.limit));
    this.pageInput.value = this.page + 1;
    this.pageInput.max = pages;
    this.pages.textContent = `of ${count(pages)}`;
    this.first.disabled = this.previous.disabled = this.page === 0;
    this.last.disabled = this.nextPage.disabled = this.page >= pages - 1;
    for (const th of this.columns) {
      const on = th.dataset.column === this.sort;
      th.setAttribute("aria-sort", on ? (this.descending ? "descending" : "ascending") : "none");
    }
    this.markAll.checked = false;
    this.say(state.empty, Boolean(state.problem));
    const lines = [...this.rows.children];
    const active = (this.goal === null ? lines.find((tr) => tr.getAttribute("aria-selected") === "true") : lines[this.goal - this.drawn]) || lines[0];
    if (active) active.tabIndex = 0;
    if (this.goal !== null) this.choose(active);
    else if (active !== lines[0]) this.reveal(active);
    this.goal = null;
  }

  reveal(tr) {
    const top = tr.offsetTop - 28;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    const bottom = tr.offsetTop + tr.offsetHeight - this.scroller.clientHeight;
    if (bottom > this.scroller.scrollTop) this.scroller.scrollTop = bottom;
  }

  rowOf([row, label, size, bytes, time, known, marked], i) {
    const box = h("input", { type: "checkbox", tabindex: "-1", "aria-label": "Mark", disabled: !known, click: (e) => { e.stopPropagation(); this.mark([row], box.checked); } });
    box.checked = Boolean(marked);
    const key = h("div.keytext", {}, ...keyParts(label));
    if (known !== 1) key.append(h("span.flag", { title: known ? "several keys share this filename" : "the key of this file cannot be known" }, known ? "ambiguous" : "key unknown"));
    const tr = h("tr", { role: "row", tabindex: "-1", "data-row": row, "aria-rowindex": this.offset + i + 2, "aria-selected": String(row === this.state.selected), click: () => { tr.focus({ preventScroll: true }); this.choose(tr); } },
      this.state.readOnly ? null : h("td.mark", {}, box), h("td.key", { title: label }, key),
      h("td.size", { title: `${count(bytes)} bytes` }, size), h("td.modified", {}, time.slice(0, 10), h("span.clock", {}, time.slice(10))));
    for (const td of tr.children) td.setAttribute("role", "gridcell");
    return tr;
  }

  choose(tr) {
    if (!tr) return;
    for (const other of this.rows.children) {
      other.tabIndex = other === tr ? 0 : -1;
      other.setAttribute("aria-selected", String(other === tr));
    }
    this.reveal(tr);
    const row = Number(tr.dataset.row);
    if (this.state.selected === row && this.preview.dataset.row === String(row)) return;
    this.state.selected = row;
    this.choice = { row };
    this.later("choosing", 60, () => this.sendChoice());
  }

  sendChoice() {
    clearTimeout(this.choosing);
    const { choice } = this;
    if (!choice || choice.sent) return;
    choice.sent = true;
    this.askPreview({ op: "select", done: () => { if (this.choice === choice) this.choice = null; } });
  }

  /** Choose the row at a position of all that was found, on its own page. */
  goTo(position) {
    const at = Math.max(0, Math.min(position, this.found - 1));
    const offset = Math.floor(at / this.limit) * this.limit;
    if (offset === this.drawn && this.offset === this.drawn) {
      const tr = this.rows.children[at - offset];
      tr.focus({ preventScroll: true });
      return this.choose(tr);
    }
    this.goal = at;
    this.offset = offset;
    return this.load({});
  }

  gridKey(e) {
    const tr = e.target.closest("tbody tr");
    if (!tr || e.ctrlKey || e.metaKey || e.altKey) return;
    const at = this.goal === null ? this.drawn + [...this.rows.children].indexOf(tr) : this.goal;
    const { offset, limit } = this;
    const acts = {
      ArrowDown: () => this.goTo(at + 1),
      ArrowUp: () => this.goTo(at - 1),
      Home: () => this.goTo(offset),
      End: () => this.goTo(offset + limit - 1),
      PageDown: () => this.goTo(offset + limit),
      PageUp: () => this.goTo(offset - limit),
      Enter: () => { if (this.goal === null) this.choose(tr); this.preview.focus(); },
      " ": () => { const box = tr.querySelector("input:enabled"); if (this.goal === null) box ? box.click() : this.choose(tr); },
    };
    if (!acts[e.key]) return;
    e.preventDefault();
    acts[e.key]();
  }

  escape(e) {
    if (!this.dialog.hidden) return this.closeDialog();
    if (this.preview.contains(e.target)) {
      e.preventDefault();
      return this.focus();
    }
    if (this.search.value) {
      this.search.value = "";
      this.find();
    }
  }

  /** Search for what is typed: one search at a time, then the newest text, however fast it is typed. */
  find() {
    this.unsearched = this.searching;
    if (this.searching) return;
    this.searching = true;
    this.restart({ query: true, done: () => {
      this.searching = false;
      if (this.unsearched) this.find();
    } });
  }

  restart(asked) {
    this.offset = 0;
    this.goal = null;
    this.load(asked);
  }

  turn(page) {
    this.offset = page * this.limit; // Python keeps it among the pages there are
    this.goal = null;
    this.scroller.scrollTop = 0;
    this.load({});
  }

  sortBy(column) {
    this.descending = this.sort === column ? !this.descending : column !== "key";
    this.sort = column;
    this.restart({});
  }

  showTree(on) {
    this.tree.hidden = !on;
    this.treeToggle.setAttribute("aria-expanded", String(on));
    if (!on) return;
    const all = this.folderItem("", "All keys", count(this.state.total), this.state.summary);
    this.tree.replaceChildren(all);
    this.openFolder(all.firstChild, true);
  }

  folderItem(path, label, keys, summary) {
    const group = h("div.group", { role: "group", hidden: true });
    const name = h("span.foldername", {}, h("bdi", {}, label));
    const level = path.split(/[:/]/).length;
    const item = h("div.folder", { role: "treeitem", "aria-level": level, "aria-expanded": "false", "aria-selected": String(path === this.folder),
      tabindex: path === this.folder ? "0" : "-1", title: `${label}: ${summary}`, click: () => this.enter(item) },
      h("span.twist", { click: (e) => { e.stopPropagation(); this.openFolder(item, group.hidden); } }), name, h("span.count", {}, keys));
    Object.assign(item, { path, group });
    return h("div", { role: "none" }, item, group);
  }

  openFolder(item, open, following = 0) {
    item.setAttribute("aria-expanded", String(open));
    item.group.hidden = !open;
    if (!open || (item.group.firstChild && !following)) return;
    this.line.ask("folders", { folder: item.path, following }, (answer) => {
      if (answer.error || answer.folder !== item.path) return;
      item.group.querySelector(":scope > .pk-morefolders")?.remove();
      item.group.append(...answer.folders.map((folder) => this.folderItem(...folder)));
      if (answer.following !== null) item.group.append(button(".morefolders", () => this.openFolder(item, true, answer.following), {}, "more folders…"));
    });
  }

  enter(item) {
    this.folder = item.path;
    for (const other of this.tree.querySelectorAll("[role=treeitem]")) {
      other.setAttribute("aria-selected", String(other === item));
      other.tabIndex = other === item ? 0 : -1;
    }
    item.focus({ preventScroll: true });
    this.openFolder(item, true);
    this.restart({});
  }

  treeKey(e) {
    const item = e.target.closest("[role=treeitem]");
    if (!item || e.ctrlKey || e.metaKey) return;
    const shown = [...this.tree.querySelectorAll(".pk-folder")].filter((one) => one.offsetParent);
    const at = shown.indexOf(item);
    const acts = {
      ArrowDown: () => shown[at + 1]?.focus(), ArrowUp: () => shown[at - 1]?.focus(), Home: () => shown[0].focus(), End: () => shown.at(-1).focus(),
      ArrowRight: () => this.openFolder(item, true), ArrowLeft: () => this.openFolder(item, false), Enter: () => this.enter(item), " ": () => this.enter(item),
    };
    if (!acts[e.key] || e.target.tagName === "BUTTON") return;
    e.preventDefault();
    acts[e.key]();
  }

  askPreview({ op = "preview", done, ...asked }) {
    const row = this.state.selected;
    if (row === null) return;
    this.line.ask(op, { row, revision: this.state.revision, ...asked }, (answer, buffers) => {
      if (answer.error) return this.preview.replaceChildren(h("div.empty.problem", { role: "alert" }, answer.error));
      return this.drawPreview(answer.details, answer.preview, buffers && buffers[0]);
    }, done);
  }

  drawNothing() {
    delete this.preview.dataset.row;
    this.preview.replaceChildren(h("div.empty", {}, "Select a key to see its value."));
  }

  drawPreview(details, shown, data) {
    const { start, bytes } = shown;
    this.preview.dataset.row = details.row;
    const copier = (label, text) => button("", (e) => copyText(text).then(() => { e.target.textContent = "Copied"; }), { title: text }, label);
    const show = (label, asked) => button("", () => this.askPreview({ kind: shown.kind, ...asked }), {}, label);
    const tabs = shown.choices.map((kind) => button(".tab", () => this.askPreview({ kind, start, bytes }), { "aria-pressed": String(kind === shown.kind) }, kind));
    const facts = details.facts.flatMap(([name, text, title]) => [h("dt", {}, name), h("dd", { title }, text)]);
    const part = shown.part ? h("div.note", {}, shown.part, h("span.grow"), ...shown.steps.map(([label, step]) => show(label, step))) : null;
    this.preview.replaceChildren(
      h("div.title", { title: details.label }, h("bdi", {}, details.label || "(empty key)")),
      h("dl.facts", {}, ...facts),
      h("div.tools", {}, h("span.tabs", { role: "group", "aria-label": "Show as" }, ...tabs), h("span.grow"),
        details.key === null ? null : copier("Copy key", details.key),
        details.line ? copier("Copy code", details.line) : null,
        button("", () => this.download(details.row), { title: details.download, disabled: Boolean(details.download) }, "Download")),
      ...[details.guessed, shown.note].filter(Boolean).map((text) => h("div.note.problem", { role: "note" }, text)), part || "",
      h("div.value", { "data-kind": shown.kind }, this.valueOf(shown, data)));
  }

  valueOf(shown, data) {
    if (shown.kind === "json") return jsonTree(shown.tree);
    if (shown.kind === "table") return dataTable(shown);
    if (shown.kind === "text") return h("pre", {}, shown.text);
    if (shown.kind === "hex") return h("pre.hex", {}, data && data.byteLength ? hexDump(data, shown.start) : "(empty)");
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [URL.createObjectURL(new Blob([data], { type: shown.mime }))];
    const box = h("div", {}, h("div.caption", {}, shown.mime));
    const say = (text) => { box.firstChild.textContent = text; };
    // Before it is in the page an image's size is read, but no pixel is decoded: a few bytes can ask for gigabytes.
    const image = h("img", { alt: "the stored image",
      load: () => {
        const size = `${count(image.naturalWidth)} by ${count(image.naturalHeight)}`;
        if (image.naturalWidth * image.naturalHeight > MOST_PIXELS) return say(`${shown.mime} of ${size} pixels: too large to draw`);
        say(`${shown.mime} · ${size}`);
        return box.append(image);
      },
      error: () => say(`damaged ${shown.mime}: it cannot be drawn; hex shows its bytes`) });
    [image.src] = this.urls;
    return box;
  }

  download(row) {
    this.line.ask("download", { row, revision: this.state.revision }, (answer, buffers) => {
      if (answer.error) return this.preview.prepend(h("div.note.problem", { role: "alert" }, answer.error));
      const url = URL.createObjectURL(new Blob([buffers[0]], { type: "application/octet-stream" }));
      h("a", { href: url, download: answer.filename }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    });
  }

  mark(rows, on) {
    this.line.ask("mark", { rows, on, revision: this.state.revision }, (answer) => {
      if (answer.error) this.tell("Not marked", [answer.error]);
      else if (!rows.length) this.load({});
    });
  }

  markPage(on) {
    const boxes = [...this.rows.querySelectorAll("input:enabled")];
    for (const box of boxes) box.checked = on;
    this.mark(boxes.map((box) => Number(box.closest("tr").dataset.row)), on);
  }

  confirm() {
    const n = this.state.marked;
    const typed = n > 10 ? h("input", { type: "text", inputmode: "numeric", "aria-label": `Type ${n} to confirm`, input: () => { sure.disabled = typed.value.trim() !== String(n); } }) : null;
    const sure = button(".danger", () => this.delete(n), { disabled: n > 10 }, `Delete ${plural(n, "value")}`);
    const cancel = button("", () => this.closeDialog(), {}, "Cancel");
    this.ask(`Delete ${plural(n, "value")}?`, [h("p", {}, "This cannot be undone. Values changed since they were listed are kept."),
      typed ? h("p", {}, `Type ${n} to confirm: `, typed) : null], [cancel, sure], cancel);
  }

  delete(n) {
    this.line.ask("delete", { count: n }, (answer) => {
      if (answer.error) return this.tell("Nothing was deleted", [answer.error]);
      if (!answer.failed) return this.closeDialog();
      return this.tell(`${count(answer.deleted)} deleted, ${count(answer.failed)} kept`, answer.failures.map(([key, why]) => `${key}: ${why}`));
    });
  }

  tell(title, lines) {
    const close = button("", () => this.closeDialog(), {}, "Close");
    this.ask(title, [h("ul", {}, ...lines.map((text) => h("li", {}, text)))], [close], close);
  }

  ask(title, content, buttons, focused) {
    const keep = (e) => {
      if (e.key !== "Tab") return;
      const all = [...this.dialog.querySelectorAll("button:enabled, input")];
      const next = all.indexOf(document.activeElement) + (e.shiftKey ? -1 : 1);
      e.preventDefault();
      all.at(next % all.length).focus();
    };
    this.dialog.replaceChildren(h("div.dialog", { role: "alertdialog", "aria-modal": "true", "aria-label": title, keydown: keep },
      h("strong", {}, title), ...content, h("div.buttons", {}, ...buttons)));
    this.dialog.hidden = false;
    focused.focus();
  }

  closeDialog() {
    this.dialog.hidden = true;
    this.dialog.replaceChildren();
    this.focus();
  }

  refresh() {
    this.sendChoice(); // a row just chosen is known by its key before rows get other numbers
    this.line.ask("refresh", {}, (answer) => {
      this.state = { ...this.state, listing: answer.listing, listed: answer.listed };
      this.drawBar();
      if (answer.listing || answer.revision !== this.state.revision) this.later("listing", 300, () => this.load({}));
    });
  }

  poll() {
    const live = this.liveChoice.value;
    if (live === "off" || !this.visible || document.hidden) return;
    this.line.ask("poll", {}, (answer) => {
      if (answer.error) this.say(answer.error);
      if (!answer.changed || answer.listing) return;
      if (live === "auto") this.refresh();
      else this.changed.hidden = false;
    });
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.close();
  },
};
