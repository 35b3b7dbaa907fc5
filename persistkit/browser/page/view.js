/** One view of the browser. */
class View {
  constructor(model, el) {
    this.model = model;
    this.state = { revision: -1, total: 0, listing: true, listed: 0, readOnly: true, selected: null, marked: 0 };
    this.folder = "";
    this.visible = true;
    this.list = new List(this);
    this.tree = new Folders(this);
    this.preview = new Preview(this);
    this.dialog = new Dialog(() => this.list.focus());
    this.build(el);
    this.line = new Line(model, (draw) => this.keepFocus(draw), (message) => this.hear(message), (waiting) => this.drawWaiting(waiting));
    this.watcher = new IntersectionObserver((seen) => {
      this.visible = seen.at(-1).isIntersecting;
      if (this.visible) this.list.soonKinds();
    });
    this.watcher.observe(this.root);
    this.sizes = new ResizeObserver(() => this.list.soonKinds());
    this.sizes.observe(this.list.scroller);
    this.poller = setInterval(() => this.poll(), POLL_MS);
    this.list.load({ follow: true });
    const first = model.get("_first"); // stored with the notebook: rows are there also where no kernel answers
    if (first.rows) this.list.draw({ ...first, selected: null });
    this.preview.clear();
  }

  close() {
    this.release();
    clearInterval(this.poller);
    for (const name of ["listing", "choosing", "kinds", "finding"]) clearTimeout(this[name]);
    this.watcher.disconnect();
    this.sizes.disconnect();
    this.line.close();
    this.preview.forget();
    this.root.remove();
  }

  /** Draw; the focus stays in the view also where the element that had it is taken away. */
  keepFocus(draw) {
    const focused = () => this.root.getRootNode().activeElement; // in a shadow root the document knows only its host
    const before = focused();
    const place = this.preview.root.contains(before) ? this.preview : this.root.contains(before) && this.list;
    draw();
    const now = focused();
    if (place && (!this.root.contains(now) || !now.offsetParent || now.disabled)) place.focus({ preventScroll: true });
  }

  later(name, ms, act) {
    clearTimeout(this[name]);
    this[name] = setTimeout(act, ms);
  }

  /** Ask, and wait for the answer. */
  request(op, content) { return new Promise((resolve) => { this.line.ask(op, { revision: this.state.revision, ...content }, resolve); }); }

  build(el) {
    this.search = h("input.search", { type: "search", placeholder: TEXT.search, label: TEXT.search, spellcheck: "false", input: () => this.find() });
    this.match = choice(TEXT.how, TEXT.matches, () => this.find());
    this.summary = h("span.summary", { role: "status" }, "…");
    this.changed = button(".changed", () => this.refresh(), { hidden: true }, TEXT.changed);
    this.liveChoice = choice(TEXT.live, TEXT.lives, () => this.poll(), { hidden: true });
    this.treeToggle = icon("☰", TEXT.folders, () => this.showTree(this.tree.root.hidden), { "aria-expanded": "false" });
    const bar = h("div.bar", this.treeToggle, this.search, this.match, this.summary, this.changed, this.liveChoice, icon("↻", TEXT.refresh, () => this.refresh()),
      icon("⇲", TEXT.full, () => this.fill()));
    this.crumbs = h("div.crumbs", { hidden: true });
    this.lost = h("div.note.problem.lost", { role: "alert", hidden: true }, TEXT.lost);
    const width = (node, sign, least) => (size, far) => { node.style.flex = `0 0 ${Math.max(least, size + sign * far)}px`; };
    const split = (node, sign, least) => splitter(TEXT.resizePanes, "vertical", () => node.offsetWidth, width(node, sign, least));
    this.treeSplit = split(this.tree.root, 1, 100);
    this.treeSplit.hidden = true;
    this.body = h("div.body", this.tree.root, this.treeSplit, this.list.root, split(this.preview.root, -1, 160), this.preview.root);
    const grip = splitter(TEXT.resizeHeight, "horizontal", () => this.body.offsetHeight, (size, far) => this.setHeight(Math.max(200, size + far)));
    this.root = h("div.root", { role: "region", label: TEXT.title }, bar, this.lost, this.crumbs, this.body, grip, this.dialog.root);
    this.root.classList.add("pk");
    this.setHeight(this.model.get("height") || 440);
    this.release = keepKeys(this.root, (e) => { if (e.key === "Escape") this.escape(e); });
    el.append(this.root);
  }

  setHeight(pixels) { this.root.style.setProperty("--pk-height", `${Math.round(pixels)}px`); }

  fill() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.root.requestFullscreen?.();
  }

  /** Take Python's state; a choice it has not answered yet stays. */
  take(state) {
    const { list } = this;
    if (state.revision !== this.state.revision) list.sendChoice(); // Python knows it by its key, whatever row that has now
    this.state = list.choice?.revision === state.revision ? { ...state, selected: list.choice.row } : state;
    if (this.searching || this.search.getRootNode().activeElement === this.search) return;
    this.search.value = state.query;
    this.match.value = state.match;
  }

  hear(message) {
    const { revision, selected } = this.state;
    const others = message.by !== this.line.view;
    const asked = others && (this.search.value !== message.query || this.match.value !== message.match);
    const following = this.list.rows.querySelector("[aria-selected=true]") !== null;
    this.take(message);
    this.drawBar();
    this.list.drawMarks();
    const fresh = this.state.revision !== revision;
    const chosen = message.cause === "key" && this.state.selected !== selected;
    if (fresh) {
      this.changed.hidden = true;
      this.list.kinds.clear();
      if (!this.tree.root.hidden) this.showTree(true);
    }
    if (fresh || asked || chosen || (others && message.cause === "selected_keys")) this.list.load({ follow: chosen || (fresh && following) });
    if (this.state.selected === null) this.preview.clear();
    else if (fresh || chosen) this.askPreview({});
  }

  /** A page was drawn: what is beside it follows. */
  shown(answer, fresh) {
    this.drawCrumbs();
    if (this.state.selected === null) return this.preview.row === null && fresh ? this.preview.clear() : undefined;
    if (!answer.selectedFound && this.list.choice === null) return this.preview.clear(TEXT.notFound);
    if (fresh || this.preview.row !== this.state.selected) this.askPreview({});
    return undefined;
  }

  drawBar() {
    const s = this.state;
    this.summary.textContent = s.listing ? TEXT.listing(count(s.listed)) : this.list.foundText || s.summary;
    this.summary.title = `${s.place}: ${s.summary}`;
    this.root.classList.toggle("pk-listing", Boolean(s.listing));
    this.liveChoice.hidden = !s.live;
    this.liveChoice.options[1].disabled = s.relists;
  }

  drawWaiting(waiting) {
    this.root.classList.toggle("pk-late", waiting === "late");
    this.lost.hidden = waiting !== "lost";
  }

  /** Say which folder is shown, and lead out of it again. */
  drawCrumbs() {
    this.crumbs.hidden = !this.folder;
    const steps = this.folder.match(/[^:/]*[:/]/g) || [];
    let path = "";
    this.crumbs.replaceChildren(button("", () => this.enter(""), {}, TEXT.allKeys), ...steps.flatMap((step) => {
      path += step;
      const to = path;
      return [h("span.dim", { "aria-hidden": "true" }, "›"), button("", () => this.enter(to), { "aria-current": to === this.folder ? "true" : null }, h("bdi", visible(step)))];
    }), h("span.grow"), icon("✕", TEXT.leaveFolder, () => this.enter("")));
  }

  enter(path) {
    this.folder = path;
    this.tree.choose(path);
    this.list.restart({});
    if (this.preview.row === null) this.preview.clear();
  }

  showTree(on) {
    this.tree.show(on);
    this.treeSplit.hidden = !on;
    this.treeToggle.setAttribute("aria-expanded", String(on));
  }

  escape(e) {
    if (this.dialog.open) return this.dialog.close();
    if (this.preview.root.contains(e.target)) {
      e.preventDefault();
      return this.list.focus();
    }
    if (!this.search.value) return undefined;
    this.search.value = "";
    return this.find();
  }

  /** Search for what is typed: one search at a time, then the newest text, however fast it is typed. */
  find() {
    this.unsearched = this.searching;
    if (this.searching) return;
    this.searching = true;
    this.list.restart({ query: true, done: () => {
      this.searching = false;
      if (this.unsearched) this.find();
    } });
  }

  askPreview({ op = "preview", done, ...asked }) {
    const row = asked.row ?? this.state.selected;
    if (row === null) return;
    this.line.ask(op, { row, revision: this.state.revision, ...asked }, (answer, buffers) => {
      if (answer.error) return this.preview.fail(answer.error);
      if (op === "select") this.tell();
      return this.preview.draw(answer.details, answer.preview, buffers && buffers[0]);
    }, done);
  }

  /** marimo, which alone puts a widget into a shadow root, runs the cells that read it again for what the page sets. */
  tell() {
    if (this.root.getRootNode() === document) return;
    for (const name of ["key", "selected_keys"]) this.model.set(name, this.model.get(name));
    this.model.save_changes();
  }

  compare() {
    this.request("compare", {}).then((answer) => (answer.error ? this.dialog.tell(TEXT.failed, [answer.error]) : this.preview.drawDiff(answer)));
  }

  confirmDelete() {
    const n = this.state.marked;
    let sent = false; // a second click would be refused, and hide what the first one did
    this.dialog.confirmDelete(n, () => sent || (sent = true) && this.line.ask("delete", { count: n }, (answer) => {
      if (answer.error) return this.dialog.tell(TEXT.notDeleted, [answer.error]);
      if (!answer.failed) return this.dialog.close();
      return this.dialog.tell(TEXT.deleted(count(answer.deleted), count(answer.failed)), answer.failures.map(([key, why]) => `${key}: ${why}`));
    }));
  }

  refresh() {
    this.list.sendChoice(); // a row just chosen is known by its key before rows get other numbers
    this.line.ask("refresh", {}, (answer) => {
      this.state = { ...this.state, listing: answer.listing, listed: answer.listed };
      this.drawBar();
      if (answer.listing || answer.revision !== this.state.revision) this.later("listing", 300, () => this.list.load({}));
    });
  }

  poll() {
    const live = this.liveChoice.value;
    if (live === "off" || !this.visible || document.hidden) return;
    this.line.ask("poll", {}, (answer) => {
      if (answer.error) this.list.say(answer.error);
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
