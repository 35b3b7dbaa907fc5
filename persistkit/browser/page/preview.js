const MOST_PIXELS = 50e6; // 200 MB once drawn
const MOST_LINES = 20000;

/** A tree of parsed JSON: closed nodes tell their content in one line; what is not here is asked for when it opens. */
class JsonTree {
  constructor(view, tree) {
    this.view = view;
    this.found = [];
    const input = h("input.find", { type: "search", placeholder: TEXT.findInside, label: TEXT.findInside, spellcheck: "false",
      input: () => view.later("finding", 150, () => this.find(input.value)),
      keydown: (e) => { if (e.key === "Enter") this.go(e.shiftKey ? -1 : 1); } });
    this.told = h("span.dim", { role: "status" });
    this.next = icon("↓", TEXT.nextFound, () => this.go(1), { disabled: true });
    this.body = h("div.json", this.node(tree, undefined, []));
    this.root = h("div.treeview", h("div.inside", input, this.told, this.next,
      button("", () => this.openAll(), {}, TEXT.expandAll), button("", () => this.closeAll(), {}, TEXT.collapseAll)), this.body);
  }

  ask(op, more) { return this.view.request(op, { row: this.view.preview.row, revision: this.view.preview.revision, ...more }); }

  node([kind, value, rest, extra], name, path) {
    const label = name === undefined ? null : h("span.name", name, h("span.dim", ": "));
    let made;
    if (kind === "object" || kind === "array") {
      made = value ? this.container([kind, value, rest, extra], label, path)
        : h("div.leaf", label, h("span.dim", kind === "object" ? "{}" : "[]"), this.tools(path));
    } else if (extra) { // a text that is JSON itself opens like any other node
      made = this.container(extra, h("span", label, h("span.dim", "“JSON” ")), path);
    } else {
      made = h("div.leaf", label, h(`span.${kind}`, h("bdi", kind === "string" ? `"${value}"` : value)),
        rest > 0 ? h("span.dim", TEXT.moreCharacters(count(rest))) : null, this.tools(path));
    }
    made.dataset.path = path;
    return made;
  }

  container([kind, total, children, short], label, path) {
    const [open, close] = kind === "object" ? "{}" : "[]";
    const inner = h("div.inner");
    const details = h("details", h("summary", label, h("span.short", `${open} ${short} ${close}`),
      h("span.dim", ` ${plural(total, kind === "object" ? "member" : "item")}`)), this.tools(path), inner);
    const more = button(".more", () => details.more(), {});
    let here = 0;
    const add = (nodes) => {
      more.before(...nodes.map((child) => {
        const place = here++;
        return this.node(kind === "object" ? child[1] : child, String(kind === "object" ? child[0] : place), [...path, place]);
      }));
      more.hidden = here >= total;
      more.textContent = TEXT.moreItems(count(total - here));
    };
    /** Fetch the next children; one request at a time. */
    details.more = (deep) => {
      details.busy ||= this.ask("node", { path, start: here, deep }).then((answer) => {
        details.busy = null;
        if (answer.error) return this.view.dialog.tell(TEXT.failed, [answer.error]);
        add(answer.children);
        return answer.children.length;
      });
      return details.busy;
    };
    details.fill = (deep) => {
      if (!inner.firstChild) {
        inner.append(more);
        add(children);
      }
      return here ? undefined : details.more(deep);
    };
    details.addEventListener("toggle", () => details.open && details.fill());
    if (children.length && (!path.length || total === 1)) {
      details.fill();
      details.open = true;
    }
    return details;
  }

  tools(path) {
    const ask = (more) => () => this.ask("copy", { path, ...more }).then((answer) => answer.text ?? answer.error);
    return h("span.nodetools", copier("copy", ask({}), TEXT.copyNode), copier("code", ask({ code: true }), TEXT.copyPath));
  }

  async openAll() {
    for (let left = 1000, closed; left && (closed = this.body.querySelector("details:not([open])")); left -= 1) {
      closed.open = true;
      await closed.fill(true);
    }
  }

  closeAll() { this.body.querySelectorAll("details").forEach((details, n) => { details.open = !n; }); }

  async find(text) {
    this.found = (text && (await this.ask("find", { text })).paths) || [];
    this.place = -1;
    this.told.textContent = text ? TEXT.foundInside(0, this.found.length) : "";
    this.next.disabled = !this.found.length;
    this.go(1);
  }

  /** Open the way to the next found node and show it. */
  async go(step) {
    if (!this.found.length) return;
    this.place = (this.place + step + this.found.length) % this.found.length;
    let node = this.body.firstChild;
    for (const place of this.found[this.place]) {
      node.open = true;
      await node.fill();
      while (node.lastChild.children.length < place + 2 && await node.more());
      node = node.lastChild.children[place];
    }
    this.body.querySelector(".pk-here")?.classList.remove("pk-here");
    node.classList.add("pk-here");
    node.scrollIntoView({ block: "nearest" });
    this.root.parentNode.scrollLeft = 0;
    this.told.textContent = TEXT.foundInside(this.place + 1, this.found.length);
  }
}

function hexDump(view, start, wide) {
  const lines = [];
  const each = wide ? 16 : 8;
  for (let at = 0; at < view.byteLength; at += each) {
    const bytes = [...new Uint8Array(view.buffer, view.byteOffset + at, Math.min(each, view.byteLength - at))];
    const hex = bytes.map((b) => b.toString(16).padStart(2, "0"));
    const text = bytes.map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : "·")).join("");
    const right = wide ? `  ${hex.slice(8).join(" ").padEnd(23)}` : "";
    lines.push(`${(start + at).toString(16).padStart(8, "0")}  ${hex.slice(0, 8).join(" ").padEnd(23)}${right}  ${text}`);
  }
  return lines.join("\n");
}

function dataTable(table, ask) {
  const { index, first, total, step } = table;
  const side = (tag, i) => (table.numeric[i] ? `${tag}.num` : tag);
  const cellOf = (cell, i) => {
    const [text, title] = [cell].flat();
    const tag = side(i < index ? "th" : "td", i);
    return h(text === null ? `${tag}.missing` : tag, { title, scope: i < index ? "row" : null }, h("bdi", text ?? TEXT.missing));
  };
  const head = table.columns.map((name, i) => h(side("th", i), { scope: "col" }, name, h("span.dtype", table.kinds[i] || "")));
  const number = index ? [] : [h("td")];
  const rows = table.rows.map((row, n) => h("tr", index ? "" : h("th.rownum", { scope: "row" }, String(first + n)), ...row.map(cellOf)));
  let wanted = first; // clicks may come faster than answers: each counts
  const by = (far) => () => {
    if (wanted + far < 0 || wanted + far >= total) return;
    wanted += far;
    ask({ first: wanted });
  };
  const turn = total > step ? h("div.turnrows", icon("‹", TEXT.previousRows, by(-step), { disabled: first <= 0 }),
    h("span.dim", TEXT.rowsOf(count(first + 1), count(first + table.rows.length), count(total))),
    icon("›", TEXT.nextRows, by(step), { disabled: first + step >= total })) : null;
  const axes = (table.axes || []).map(([length, place], n) => {
    const name = TEXT.axis(n, length - 1);
    return h("input.axis", { type: "number", min: 0, max: length - 1, value: place, label: name, title: name,
      change: (e) => ask({ places: table.axes.map((axis, m) => (m === n ? Number(e.target.value) || 0 : axis[1])) }) });
  });
  return h("div", h("div.caption", table.summary, axes.length ? h("span.axes", " [", ...axes, ", :, :]") : "", turn), picture(table.picture),
    h("div.wide", h("table.data", h("thead", h("tr", ...number, ...head)), h("tbody", ...rows))));
}

/** Numbers as a line or a heat map, each 0 to 255, null for none. */
function picture(rows) {
  if (!rows) return null;
  const width = rows[0].length;
  const canvas = h("canvas.picture", { role: "img", label: TEXT.picture });
  const pen = canvas.getContext("2d");
  if (width === 1) {
    [canvas.width, canvas.height] = [Math.max(2, rows.length), 64];
    [pen.strokeStyle, pen.lineWidth] = ["#4a90e2", 1.5];
    pen.beginPath();
    rows.forEach(([value], x) => { if (value !== null) pen.lineTo(x + 0.5, 62 - value / 255 * 60); });
    pen.stroke();
    canvas.classList.add("pk-curve");
  } else {
    [canvas.width, canvas.height] = [width, rows.length];
    const image = pen.createImageData(width, rows.length);
    rows.flat().forEach((value, n) => image.data.set(value === null ? [0, 0, 0, 0] : [value, 60 + value * 0.7, 200 - value * 0.6, 255], n * 4));
    pen.putImageData(image, 0, 0);
  }
  return canvas;
}

/** Markdown by nodes: headings, lists, quotes, code, tables, emphasis, links to the web. No pattern looks back twice. */
function markdown(text) {
  const inline = (line) => {
    const parts = [];
    let rest = line;
    for (let found; (found = /(`{1,3})([^`]+)\1|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^[\]]+)\]\((https?:\/\/[^\s()]+)\)/.exec(rest)) !== null;) {
      const [all, , code, strong, em, label, link] = found;
      parts.push(rest.slice(0, found.index), code ? h("code", code) : strong ? h("strong", strong) : em ? h("em", em)
        : h("a", { href: link, target: "_blank", rel: "noopener noreferrer", title: link }, label));
      rest = rest.slice(found.index + all.length);
    }
    return [...parts, rest];
  };
  const lines = text.split("\n");
  const nodes = [];
  const take = (pattern) => { const taken = []; while (lines.length && pattern.test(lines[0])) taken.push(lines.shift()); return taken; };
  const row = (tag, line) => h("tr", ...line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => h(tag, {}, ...inline(cell.trim()))));
  const item = /^\s*([-*+]|\d+[.)])\s+/;
  while (lines.length) {
    const line = lines[0];
    const heading = /^(#{1,6})\s+(.*)/.exec(line);
    if (/^\s*```/.test(line)) {
      lines.shift();
      nodes.push(h("pre", take(/^(?!\s*```)/).join("\n")));
      lines.shift();
    } else if (heading) nodes.push(h(`div.h${heading[1].length}`, { role: "heading", "aria-level": heading[1].length }, ...inline(lines.shift() && heading[2])));
    else if (item.test(line)) nodes.push(h(/^\s*\d/.test(line) ? "ol" : "ul", {}, ...take(item).map((one) => h("li", ...inline(one.replace(item, ""))))));
    else if (/^\s*>/.test(line)) nodes.push(h("blockquote", ...inline(take(/^\s*>/).map((one) => one.replace(/^\s*>\s?/, "")).join(" "))));
    else if (line.includes("|") && /^[\s:|-]+$/.test(lines[1] || "")) {
      const [head, , ...body] = take(/\|/);
      nodes.push(h("table.data", h("thead", row("th", head)), h("tbody", ...body.map((one) => row("td", one)))));
    } else {
      const own = [lines.shift(), ...take(/^(?!\s*([-*+>|#`]|\d+[.)]))(?=.*\S)/)].join(" ").trim();
      if (own) nodes.push(h("p", ...inline(own)));
    }
  }
  return h("div.markdown", { dir: "auto" }, ...nodes);
}

/** What is known of one value, and the value. */
class Preview {
  constructor(view) {
    this.view = view;
    this.row = null;
    this.urls = [];
    this.wrap = true;
    this.root = h("section.preview", { label: TEXT.preview, tabindex: "-1" });
  }

  /** The value takes the focus, so that PageDown scrolls it. */
  focus(options) { (this.root.querySelector(".pk-value") || this.root).focus(options); }

  forget() {
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
  }

  fail(text) { this.root.replaceChildren(h("div.empty.problem", { role: "alert" }, text)); }

  /** Nothing is selected: say where the space is, and what is new. */
  clear(note = "") {
    this.forget();
    this.row = null;
    delete this.root.dataset.row;
    const { view } = this;
    const hint = h("div.hint", note || TEXT.select);
    this.root.replaceChildren(hint);
    if (view.state.revision < 1 || !view.line) return;
    view.line.ask("overview", { folder: view.folder }, (answer) => {
      if (answer.error || this.row !== null || !hint.isConnected) return;
      const bars = answer.folders.map(([path, label, summary, share]) => button("", () => view.enter(path), { title: summary },
        h("span.meter", { style: `width:${Math.max(1, share * 100)}%` }), h("bdi.barname", label), h("span.dim", summary)));
      const newest = answer.newest.map(([row, label, , , time]) => button("", () => this.open(row, answer.revision), { title: label },
        h("div.barname.keytext", ...keyParts(label, view.list.prefix)), h("span.dim", time)));
      this.root.replaceChildren(hint, bars.length ? h("div.overview", h("strong", TEXT.space), ...bars) : "",
        newest.length ? h("div.overview", h("strong", TEXT.newest), ...newest) : "", view.state.readOnly ? h("div.dim", TEXT.readOnly) : "");
    });
  }

  open(row, revision) {
    if (revision === this.view.state.revision) this.view.state.selected = row;
    this.view.askPreview({ op: "select", row, revision });
  }

  draw(details, shown, data) {
    const { view } = this;
    this.forget();
    const wasOpen = this.root.querySelector(".pk-facts")?.open;
    this.row = details.row;
    this.revision = details.revision;
    this.root.dataset.row = details.row;
    const waited = this.root.matches(":focus");
    const ask = (asked) => view.askPreview({ show: shown.view, ...asked });
    const tabs = shown.views.map((one) => button(".tab", () => one !== shown.view && view.askPreview({ show: one, start: shown.start, bytes: shown.bytes }), { "aria-pressed": String(one === shown.view) }, one));
    const facts = details.facts.flatMap(([name, text]) => [h("dt", name), h("dd", { title: text }, text)]);
    const part = shown.part ? h("div.note", shown.part, h("span.grow"), ...shown.steps.map(([label, step]) => button("", () => ask(step), {}, label))) : "";
    const notes = [details.guessed, shown.note].filter(Boolean).map((text) => h("div.note.problem", { role: "note" }, text));
    this.value = h("div.value", { "data-kind": shown.view, tabindex: "0", role: "region", label: TEXT.value });
    this.root.replaceChildren(
      h("div.title", { title: details.label, tabindex: details.label[60] && "0" }, h("bdi", details.label || TEXT.emptyKey)),
      h("details.facts", { open: wasOpen }, h("summary", details.summary), h("dl", ...facts)),
      h("div.tools", h("span.tabs", { role: "group", label: TEXT.showAs }, ...tabs), shown.view === "text" ? this.wrapButton() : "", h("span.grow"),
        details.key === null ? "" : copier(TEXT.copyKey, () => details.key, TEXT.copyKey, details.key),
        details.line ? copier(TEXT.copyCode, () => details.line, TEXT.copyCode, details.line) : "",
        button("", () => this.download(details), { title: details.download, disabled: Boolean(details.download) }, TEXT.download)),
      ...notes, part, this.value);
    this.value.append(this.body(shown, data, ask));
    if (waited) this.focus();
  }

  wrapButton() {
    return button(".tab", (e) => {
      this.wrap = !this.wrap;
      e.target.setAttribute("aria-pressed", String(this.wrap));
      this.value.querySelector(".pk-lines")?.classList.toggle("pk-wrap", this.wrap);
    }, { "aria-pressed": String(this.wrap) }, TEXT.wrap);
  }

  body(shown, data, ask) {
    if (shown.view === "json") return new JsonTree(this.view, shown.tree).root;
    if (shown.view === "table") return dataTable(shown, ask);
    if (shown.view === "markdown") return markdown(shown.text);
    if (shown.view === "text") return this.text(shown.text);
    if (shown.view === "hex") return h("pre.hex", data && data.byteLength ? hexDump(data, shown.start, this.root.clientWidth > 620) : TEXT.empty);
    return this.image(shown.mime, data);
  }

  text(text) {
    if (!text) return h("span.dim", TEXT.empty);
    const lines = text.split("\n");
    if (lines.length > MOST_LINES) return h("pre", text);
    return h(`div.lines${this.wrap ? ".wrap" : ""}`, { style: `--pk-digits:${String(lines.length).length}` }, ...lines.map((line) => h("div", line || "\u200b")));
  }

  image(mime, data) {
    this.urls = [URL.createObjectURL(new Blob([data], { type: mime }))];
    const box = h("div", h("div.caption", mime));
    const say = (text) => { box.firstChild.textContent = text; };
    // Before it is in the page an image's size is read, but no pixel is decoded: a few bytes can ask for gigabytes.
    const image = h("img", { alt: TEXT.imageAlt,
      load: () => {
        const size = [count(image.naturalWidth), count(image.naturalHeight)];
        if (image.naturalWidth * image.naturalHeight > MOST_PIXELS) return say(TEXT.tooLarge(mime, ...size));
        say(TEXT.drawn(mime, ...size));
        if (mime.includes("svg")) image.width = image.naturalWidth; // it has none of its own
        return box.append(button(".enlarge", () => image.classList.toggle("pk-large"), { label: TEXT.enlarge }, image));
      },
      error: () => say(TEXT.damagedImage(mime)) });
    [image.src] = this.urls;
    return box;
  }

  download({ row, revision }) {
    this.view.line.ask("download", { row, revision }, (answer, buffers) => {
      if (answer.error) return this.root.prepend(h("div.note.problem", { role: "alert" }, answer.error));
      const url = URL.createObjectURL(new Blob([buffers[0]], { type: "application/octet-stream" }));
      h("a", { href: url, download: answer.filename }).click();
      return setTimeout(() => URL.revokeObjectURL(url), 10000);
    });
  }

  drawDiff({ names, rows, notes }) {
    this.forget();
    const side = (parts, n) => h("td", parts && h(`div.diff.${n ? "added" : "removed"}`,
      parts.map(([text, mark]) => (mark ? h(n ? "ins" : "del", text) : text))));
    const drawn = rows.map(([path, ...sides]) => h("tr", h("th", { scope: "row" }, h("div.diff", path)), sides.map(side)));
    this.root.replaceChildren(h("div.title", TEXT.comparing), h("div.value", { tabindex: "0", role: "region", label: TEXT.comparing },
      notes.map((note) => h("div", note)), h("table.data", h("tr", names.map((name) => h("th", { scope: "col" }, h("div.diff", name)))), drawn)));
  }
}
