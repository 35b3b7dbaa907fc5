/** One view of the timeline. */
class TimelineView {
  constructor(model, el) {
    this.model = model;
    this.position = model.get("step");
    this.build(el);
    this.line = new Line(model, (draw) => draw(), () => {}, (waiting) => {
      this.root.classList.toggle("pk-late", waiting === "late");
      this.lost.hidden = waiting !== "lost";
    });
    this.onStep = () => this.show(this.model.get("step"));
    this.onRun = () => this.drawRun();
    model.on("change:step", this.onStep);
    model.on("change:_run", this.onRun);
    this.drawRun();
  }

  close() {
    this.release();
    clearTimeout(this.asking);
    this.model.off("change:step", this.onStep);
    this.model.off("change:_run", this.onRun);
    this.line.close();
    this.root.remove();
  }

  build(el) {
    this.title = h("strong.runname");
    this.whose = h("span.dim");
    this.status = h("span.status");
    this.summary = h("span.summary", { role: "status" });
    this.reason = h("div.reason.dim", { hidden: true });
    this.lost = h("div.note.problem", { role: "alert", hidden: true }, TEXT.lost);
    this.strip = h("div.strip", { role: "slider", tabindex: "0", label: TEXT.steps, "aria-valuemin": "1",
      pointerdown: (e) => { this.strip.setPointerCapture(e.pointerId); this.scrub(e); },
      pointermove: (e) => { if (e.buttons) this.scrub(e); } });
    const turn = (sign, name, to) => icon(sign, TEXT[name], () => this.go(to()));
    this.back = [turn("⇤", "first", () => 0), turn("←", "previous", () => this.position - 1)];
    this.forth = [turn("→", "next", () => this.position + 1), turn("⇥", "last", () => this.steps.length - 1)];
    this.place = h("span.place");
    this.failure = button(".plain", () => this.go(this.nextFailure()), { title: "e" }, TEXT.failure);
    this.list = h("div.steps", { role: "listbox", tabindex: "0", label: TEXT.steps });
    this.facts = h("div.stepfacts.dim");
    this.said = h("div.said");
    this.changed = h("div.changed");
    this.detail = h("div.detail", { tabindex: "0", role: "region", "aria-live": "polite" }, this.facts, this.said, this.changed);
    this.note = h("div.dim.reason", { hidden: true });
    this.root = h("div.root", { role: "region" },
      h("div.bar", this.title, this.whose, this.status, this.summary, icon("↻", TEXT.refresh, () => this.refresh())),
      this.reason, this.lost, this.strip,
      h("div.bar.walk", ...this.back, this.place, ...this.forth, h("span.grow"), this.failure),
      h("div.body", this.list, this.detail), this.note);
    this.root.classList.add("pk", "pk-run");
    this.root.style.setProperty("--pk-height", `${this.model.get("height") || 440}px`);
    this.release = keepKeys(this.root, (e) => this.press(e));
    el.append(this.root);
  }

  drawRun() {
    const run = this.model.get("_run");
    this.steps = run.steps || [];
    this.root.setAttribute("aria-label", TEXT.title(run.title));
    this.title.textContent = run.title;
    this.title.title = run.title;
    this.whose.textContent = [run.runtime, run.agent].filter(Boolean).join(" · ");
    this.status.textContent = run.status;
    this.status.className = `pk-status pk-${run.status}`;
    this.summary.textContent = run.summary;
    this.reason.textContent = run.reason;
    this.reason.hidden = !run.reason;
    this.note.textContent = run.note;
    this.note.hidden = !run.note;
    this.group = Math.ceil(this.steps.length / MOST_BARS) || 1;
    const longest = Math.max(...this.steps.map((step) => step.ms || 0));
    this.bars = [];
    for (let first = 0; first < this.steps.length; first += this.group) {
      const group = this.steps.slice(first, first + this.group);
      const step = group.find((one) => one.failed) || group[0];
      const ms = Math.max(...group.map((one) => one.ms || 0));
      const height = longest ? 12 + 88 * Math.sqrt(ms / longest) : 50;
      this.bars.push(h(`div.stripbar.is-${step.kind}${step.failed ? ".failed" : ""}`, {
        title: `${first + 1}${group.length > 1 ? ` to ${first + group.length}` : ""}. ${step.label}${step.duration ? ` · ${step.duration}` : ""}` },
      h("i", { style: `height:${height}%` })));
    }
    this.strip.replaceChildren(...this.bars);
    this.strip.setAttribute("aria-valuemax", this.steps.length);
    this.rows = this.steps.map((step, n) => h(`div.step.is-${step.kind}${step.failed ? ".failed" : ""}`, {
      role: "option", id: `pk-${this.line?.view ?? ""}-${n}`, title: step.text, click: () => this.go(n) },
    h("span.number.dim", String(n + 1)), h("span.glyph", { "aria-hidden": "true" }, step.failed ? "✕" : GLYPHS[step.kind]),
    h("span.what", step.label), h("span.excerpt.dim", step.text), h("span.took.dim", step.duration)));
    this.list.replaceChildren(...this.rows);
    const failures = this.steps.some((step) => step.failed);
    this.failure.disabled = !failures;
    this.failure.textContent = failures ? TEXT.failure : TEXT.noFailure;
    this.show(this.model.get("step"));
  }

  /** Choose a step, for Python and every other view too. */
  go(position) {
    const bounded = Math.max(0, Math.min(position, this.steps.length - 1));
    if (bounded === this.position) return;
    this.show(bounded);
    this.model.set("step", bounded);
    this.model.save_changes();
  }

  scrub(e) {
    const box = this.strip.getBoundingClientRect();
    this.go(Math.floor(((e.clientX - box.left) / box.width) * this.steps.length));
  }

  press(e) {
    const to = { ArrowLeft: this.position - 1, ArrowUp: this.position - 1, ArrowRight: this.position + 1, ArrowDown: this.position + 1,
      Home: 0, End: this.steps.length - 1, e: this.nextFailure() }[e.key];
    const scrolling = this.detail.contains(e.target) && !/Left|Right|^e$/.test(e.key);
    if (to === undefined || scrolling || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    this.go(to);
  }

  nextFailure() {
    const failed = [...this.steps.keys()].filter((n) => this.steps[n].failed);
    return failed.find((n) => n > this.position) ?? failed[0] ?? this.position;
  }

  show(position) {
    this.position = position;
    const { length } = this.steps;
    const step = this.steps[position];
    for (const one of this.back) one.disabled = position <= 0;
    for (const one of this.forth) one.disabled = position >= length - 1;
    this.place.textContent = length ? TEXT.place(position + 1, length) : TEXT.nothing;
    this.strip.setAttribute("aria-valuenow", position + 1);
    this.strip.setAttribute("aria-valuetext", step ? `${this.place.textContent}: ${step.label}` : "");
    for (const chosen of this.root.querySelectorAll("[aria-selected=true]")) chosen.removeAttribute("aria-selected");
    if (!step) return;
    this.bars[Math.floor(position / this.group)].setAttribute("aria-selected", "true");
    const row = this.rows[position];
    row.setAttribute("aria-selected", "true");
    this.list.setAttribute("aria-activedescendant", row.id);
    const [top, bottom] = [row.offsetTop, row.offsetTop + row.offsetHeight]; // scrollIntoView would move the notebook too
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    if (bottom > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = bottom - this.list.clientHeight;
    clearTimeout(this.asking);
    this.detail.classList.add("pk-stale");
    this.asking = setTimeout(() => { // a step that is only passed by is not asked for
      this.line.ask("step", { position }, (answer) => this.drawStep(answer));
      this.line.ask("changes", { position }, (answer) => this.drawChanges(answer));
    }, 40);
  }

  drawStep(answer) {
    this.changed.replaceChildren();
    this.detail.classList.remove("pk-stale");
    this.detail.scrollTop = 0;
    if (answer.error) return this.said.replaceChildren(h("div.note.problem", answer.error));
    this.facts.replaceChildren(...answer.facts.map(([name, value]) => h("span", h("b", name), ` ${value}`)));
    if (answer.code) this.facts.append(copier(TEXT.copyCode, () => answer.code));
    this.said.replaceChildren(...answer.messages.map((message) => this.message(message)));
    if (answer.failure) this.said.append(h("div.message.failed", h("div.role", TEXT.error), h("pre", answer.failure)));
    if (!this.said.hasChildNodes()) this.said.append(h("div.dim", answer.code ? TEXT.silent : TEXT.unended));
    return undefined;
  }

  message(message) {
    const part = (name, text, kind = "") => (text ? [h("div.part.dim", name), h(`pre${kind}`, text)] : []);
    if (message.tool === undefined) {
      const role = TEXT.roles[message.role] || message.role;
      return h(`div.message.is-${message.role in GLYPHS ? message.role : "state"}`, h("div.role", role),
        message.text ? h("div.text", message.text) : h("div.dim", TEXT.noText), part(TEXT.data, message.data));
    }
    const outcome = message.kind ? `${message.outcome} (${message.kind})` : message.outcome;
    return h(`div.message.is-tool${message.failure != null || message.outcome === "failed" ? ".failed" : ""}`,
      h("div.role", TEXT.roles.tool, " ", h("code", message.tool), h("span.outcome", outcome)),
      part(TEXT.arguments, message.arguments), part(TEXT.result, message.result), part(TEXT.error, message.failure, ".problem"),
      part(TEXT.data, message.data));
  }

  drawChanges(answer) {
    if (answer.error) return this.changed.replaceChildren(h("div.note.problem", answer.error));
    if (!answer.changes) return this.changed.replaceChildren();
    const line = ([path, before, after, change]) => h("tr", h("td.path", path), h("td.dim", TEXT.change[change] || change),
      h("td", before && h("div.removed", before), after && h("div.added", after)));
    const table = answer.changes.length ? h("table.changes", h("tbody", answer.changes.map(line))) : h("div.dim", TEXT.same);
    this.changed.replaceChildren(h("div.role", TEXT.changes), table, h("div.dim", answer.note));
    return undefined;
  }

  refresh() {
    this.line.ask("refresh", {}, (answer) => {
      if (answer.error) this.said.replaceChildren(h("div.note.problem", answer.error));
    });
  }
}

export default {
  render({ model, el }) {
    const view = new TimelineView(model, el);
    return () => view.close();
  },
};
