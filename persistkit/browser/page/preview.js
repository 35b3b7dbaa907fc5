const MOST_PIXELS = 50e6; // 200 MB once drawn
const MOST_LINES = 20000;

/** A tree of parsed JSON: closed nodes tell their content in one line; what is not here is asked for when it opens. */
class JsonTree {
  constructor(view, tree) {
    this.view = view;
    this.found = [];
    this.place = -1;
    const input = h("input.find", { type: "search", placeholder: TEXTS.findInside, "aria-label": TEXTS.findInside, spellcheck: "false",
      input: () => view.later("finding", 150, () => this.find(input.value)),
      keydown: (e) => { if (e.key === "Enter") this.go(e.shiftKey ? -1 : 1); } });
    this.told = h("span.dim", { role: "status" });
    this.next = icon("↓", TEXTS.nextFound, () => this.go(1), { disabled: true });
    this.body = h("div.json", {}, this.node(tree, undefined, [], 0));
    this.root = h("div.treeview", {}, h("div.inside", {}, input, this.told, this.next,
      button("", () => this.openAll(), {}, TEXTS.expandAll), button("", () => this.closeAll(), {}, TEXTS.collapseAll)), this.body);
  }

  node(node, name, path, depth) {
    const [kind, value, rest, extra] = node;
    const label = name === undefined ? null : h("span.name", {}, name, h("span.dim", {}, ": "));
    if (kind !== "object" && kind !== "array") {
      const text = kind === "string" ? `"${value}"` : value;
      const leaf = h("div.leaf", {}, label, h(`span.${kind}`, {}, h("bdi", {}, text)), rest > 0 ? h("span.dim", {}, TEXTS.moreCharacters(count(rest))) : null, this.tools(path));
      if (!extra) return this.placed(leaf, path);
      // A text that is JSON itself opens like any other node.
      const inner = this.container(extra, h("span", {}, label, h("span.dim", { title: TEXTS.embedded }, "“JSON” ")), path, depth);
      return this.placed(inner, path);
    }
    if (value === 0) return this.placed(h("div.leaf", {}, label, h("span.dim", {}, kind === "object" ? "{}" : "[]"), this.tools(path)), path);
    return this.placed(this.container(node, label, path, depth), path);
  }

  placed(element, path) {
    element.dataset.path = path.join("/");
    return element;
  }

  container([kind, value, children, short], label, path, depth) {
    const [open, close] = kind === "object" ? "{}" : "[]";
    const size = h("span.dim", {}, ` ${plural(value, kind === "object" ? "member" : "item")}`);
    const summary = h("summary", {}, label, h("span.short", {}, `${open} ${short} ${close}`), size, this.tools(path));
    const inner = h("div.inner");
    const details = h("details", {}, summary, inner);
    details.fill = () => {
      if (inner.firstChild) return;
      this.add(inner, kind, children, path, 0, depth);
      this.rest(inner, kind, value, path, depth);
    };
    details.addEventListener("toggle", () => details.open && details.fill());
    if (children.length && (depth < 1 || value === 1)) {
      details.fill();
      details.open = true;
    }
    return details;
  }

  add(inner, kind, children, path, start, depth) {
    children.forEach((child, i) => {
      const [key, inside] = kind === "object" ? child : [start + i, child];
      inner.append(this.node(inside, String(key), [...path, start + i], depth + 1));
    });
  }

  /** Offer or fetch the children that are not here yet. */
  rest(inner, kind, total, path, depth) {
    const here = inner.children.length;
    if (here >= total) return undefined;
    const more = button(".more", () => this.fetch(inner, kind, total, path, depth), {}, TEXTS.moreItems(count(total - here)));
    inner.append(more);
    return here ? undefined : this.fetch(inner, kind, total, path, depth);
  }

  async fetch(inner, kind, total, path, depth, deep = false) {
    const here = [...inner.children].filter((child) => child.tagName !== "BUTTON").length;
    const answer = await this.view.request("node", { row: this.view.preview.row, path, start: here, deep });
    if (answer.error) return this.view.dialog.tell(TEXTS.failed, [answer.error]);
    inner.querySelector(":scope > .pk-more")?.remove();
    this.add(inner, kind, answer.children, path, answer.start, depth);
    return answer.children.length && this.rest(inner, kind, total, path, depth);
  }

  tools(path) {
    const ask = (more) => () => this.view.request("copy", { row: this.view.preview.row, path, ...more }).then((answer) => answer.text ?? answer.error);
    return h("span.nodetools", { click: (e) => e.preventDefault() }, copier("copy", ask({}), TEXTS.copyNode), copier("code", ask({ code: true }), TEXTS.copyPath));
  }

  openAll(root = this.body, left = { nodes: 1500 }) {
    for (const details of root.querySelectorAll("details")) {
      if (left.nodes-- < 0) return;
      details.fill();
      details.open = true;
    }
    if (root.querySelector("details:not([open])")) this.openAll(root, left);
  }

  closeAll() {
    const [first, ...others] = this.body.querySelectorAll("details");
    for (const details of others) details.open = false;
    if (first) first.open = true;
  }

  async find(text) {
    const answer = text ? await this.view.request("find", { row: this.view.preview.row, text }) : { paths: [] };
    this.found = answer.paths || [];
    this.place = -1;
    this.told.textContent = text ? TEXTS.foundInside(0, this.found.length) : "";
    this.next.disabled = !this.found.length;
    if (this.found.length) this.go(1);
  }

  /** Open the way to the next found node and show it. */
  async go(step) {
    if (!this.found.length) return;
    this.place = (this.place + step + this.found.length) % this.found.length;
    const path = this.found[this.place];
    for (let depth = 0; depth <= path.length; depth += 1) {
      const wanted = path.slice(0, depth).join("/");
      let node = [...this.body.querySelectorAll("[data-path]")].find((one) => one.dataset.path === wanted);
      const above = node || depth === 0 ? null : [...this.body.querySelectorAll("details")].find((one) => one.dataset.path === path.slice(0, depth - 1).join("/"));
      for (let tries = 0; !node && above && tries < 100; tries += 1) {
        const more = above.lastChild.querySelector(":scope > .pk-more");
        if (!more) break;
        more.click();
        await new Promise((resolve) => { setTimeout(resolve, 60); });
        node = [...this.body.querySelectorAll("[data-path]")].find((one) => one.dataset.path === wanted);
      }
      if (!node) return;
      if (depth < path.length && node.tagName === "DETAILS") { node.fill(); node.open = true; }
      if (depth === path.length) {
        this.body.querySelector(".pk-here")?.classList.remove("pk-here");
        node.classList.add("pk-here");
        node.scrollIntoView({ block: "nearest" });
        this.root.parentNode.scrollLeft = 0;
      }
    }
    this.told.textContent = TEXTS.foundInside(this.place + 1, this.found.length);
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
    const head = i < index;
    const tag = side(head ? "th" : "td", i);
    const more = head ? { scope: "row" } : {};
    if (cell === null) return h(`${tag}.missing`, more, TEXTS.missing);
    return Array.isArray(cell) ? h(tag, { ...more, title: cell[1] }, h("bdi", {}, cell[0])) : h(tag, more, h("bdi", {}, cell));
  };
  const head = table.columns.map((name, i) => h(side(i < index ? "th.indexname" : "th", i), { scope: "col" }, name, h("span.dtype", {}, table.kinds[i] || "")));
  const number = index ? [] : [h("th")];
  const rows = table.rows.map((row, n) => h("tr", {}, index ? "" : h("th.rownum", { scope: "row" }, String(first + n)), ...row.map(cellOf)));
  const turn = total > step ? h("div.turnrows", {}, icon("‹", TEXTS.previousRows, () => ask({ first: first - step }), { disabled: first <= 0 }),
    h("span.dim", {}, TEXTS.rowsOf(count(first + 1), count(first + table.rows.length), count(total))),
    icon("›", TEXTS.nextRows, () => ask({ first: first + step }), { disabled: first + step >= total })) : null;
  const axes = (table.axes || []).map(([length, place], n) => {
    const input = h("input.axis", { type: "number", min: 0, max: length - 1, value: place, "aria-label": TEXTS.axis(n, length - 1), title: TEXTS.axis(n, length - 1),
      change: () => ask({ places: table.axes.map((axis, m) => (m === n ? Number(input.value) || 0 : axis[1])) }) });
    return input;
  });
  return h("div", {}, h("div.caption", {}, table.summary, axes.length ? h("span.axes", {}, " [", ...axes, ", :, :]") : "", turn), picture(table.picture),
    h("div.wide", {}, h("table.data", {}, h("thead", {}, h("tr", {}, ...number, ...head)), h("tbody", {}, ...rows))));
}

/** Numbers as a line or a heat map, each 0 to 255, null for none. */
function picture(rows) {
  if (!rows) return null;
  const width = rows[0].length;
  const canvas = h("canvas.picture", { role: "img", "aria-label": TEXTS.picture });
  const pen = canvas.getContext("2d");
  if (width === 1) {
    [canvas.width, canvas.height] = [Math.max(2, rows.length), 64];
    pen.strokeStyle = "#3b7dd8";
    pen.beginPath();
    rows.forEach(([value], x) => { if (value !== null) pen.lineTo(x + 0.5, 62 - value / 255 * 60); });
    pen.stroke();
    canvas.classList.add("pk-curve");
  } else {
    [canvas.width, canvas.height] = [width, rows.length];
    const image = pen.createImageData(width, rows.length);
    rows.flat().forEach((value, n) => image.data.set(value === null ? [0, 0, 0, 0] : [Math.min(255, value * 1.6), 60 + value * 0.7, 200 - value * 0.6, 255], n * 4));
    pen.putImageData(image, 0, 0);
  }
  return canvas;
}

/** Markdown by nodes: headings, lists, quotes, code, tables, emphasis, links to the web. */
function markdown(text) {
  const inline = (line) => {
    const parts = [];
    let rest = line;
    for (let found; (found = /(`+)(.+?)\1|\*\*(.+?)\*\*|__(.+?)__|\*([^*\s][^*]*)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/.exec(rest)) !== null;) {
      const [all, , code, strong, strong2, em, label, link] = found;
      parts.push(rest.slice(0, found.index), code !== undefined ? h("code", {}, code) : strong || strong2 ? h("strong", {}, strong || strong2) : em ? h("em", {}, em)
        : h("a", { href: link, target: "_blank", rel: "noopener noreferrer", title: link }, label));
      rest = rest.slice(found.index + all.length);
    }
    return [...parts, rest];
  };
  const root = h("div.markdown", { dir: "auto" });
  const lines = text.split("\n");
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    const take = (pattern) => { const taken = []; while (at < lines.length && pattern.test(lines[at])) taken.push(lines[at++]); return taken; };
    const fence = /^\s*(```+|~~~+)/.exec(line);
    const heading = /^(#{1,6})\s+(.*)/.exec(line);
    if (fence) {
      const code = [];
      for (at += 1; at < lines.length && !lines[at].trim().startsWith(fence[1]); at += 1) code.push(lines[at]);
      at += 1;
      root.append(h("pre", {}, code.join("\n")));
    } else if (heading) {
      root.append(h(`div.h${heading[1].length}`, { role: "heading", "aria-level": heading[1].length }, ...inline(heading[2])));
      at += 1;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      root.append(h("hr"));
      at += 1;
    } else if (/^\s*([-*+]|\d+[.)])\s+/.test(line)) {
      const items = take(/^\s*([-*+]|\d+[.)])\s+|^\s{2,}\S/);
      root.append(h(/^\s*\d/.test(line) ? "ol" : "ul", {}, ...items.map((item) => {
        const [, pad, own] = /^(\s*)(?:(?:[-*+]|\d+[.)])\s+)?(.*)/.exec(item);
        return h("li", { style: `margin-left:${Math.min(6, Math.floor(pad.length / 2))}em` }, ...inline(own));
      })));
    } else if (/^\s*>/.test(line)) {
      root.append(h("blockquote", {}, ...inline(take(/^\s*>/).map((one) => one.replace(/^\s*>\s?/, "")).join(" "))));
    } else if (line.includes("|") && /^\s*\|?[\s:|-]*-[\s:|-]*$/.test(lines[at + 1] || "")) {
      const [head, , ...body] = take(/\|/);
      root.append(h("table.data", {}, h("thead", {}, h("tr", {}, ...cells(head).map((cell) => h("th", {}, ...inline(cell))))),
        h("tbody", {}, ...body.map((one) => h("tr", {}, ...cells(one).map((cell) => h("td", {}, ...inline(cell))))))));
    } else if (line.trim()) {
      const own = [lines[at++], ...take(/^(?!\s*([-*+>]|\d+[.)]|#{1,6}|```|~~~)\s)(?=.*\S)/)];
      root.append(h("p", {}, ...inline(own.join(" "))));
    } else at += 1;
  }
  return root;
}

/** What is known of one value, and the value. */
class Preview {
  constructor(view) {
    this.view = view;
    this.row = null;
    this.urls = [];
    this.wrap = true;
    this.root = h("section.preview", { "aria-label": TEXTS.preview, tabindex: "-1" });
  }

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
    const hint = h("div.hint", {}, note || TEXTS.select);
    this.root.replaceChildren(hint);
    if (view.state.revision < 1 || !view.line) return;
    view.line.ask("overview", { folder: view.folder }, (answer) => {
      if (answer.error || this.row !== null || !hint.isConnected) return;
      const bars = answer.folders.map(([path, label, summary, share]) => button(".bar2", () => view.enter(path), { title: summary },
        h("span.meter", { style: `width:${Math.max(1, share * 100)}%` }), h("bdi.barname", {}, label), h("span.dim", {}, summary)));
      const newest = answer.newest.map(([row, label, , , time]) => button(".new", () => this.open(row), { title: label }, h("bdi.newname", {}, label || TEXTS.emptyKey), h("span.dim", {}, time)));
      this.root.replaceChildren(hint, bars.length ? h("div.overview", {}, h("strong", {}, TEXTS.space), ...bars) : "",
        newest.length ? h("div.overview", {}, h("strong", {}, TEXTS.newest), ...newest) : "", view.state.readOnly ? h("div.dim.foot", {}, TEXTS.readOnly) : "");
    });
  }

  open(row) {
    this.view.state.selected = row;
    this.view.askPreview({ op: "select" });
  }

  draw(details, shown, data) {
    const { view } = this;
    this.forget();
    const wasOpen = this.root.querySelector(".pk-facts")?.open;
    this.row = details.row;
    this.root.dataset.row = details.row;
    const ask = (asked) => view.askPreview({ show: shown.view, ...asked });
    const tabs = shown.views.map((one) => button(".tab", () => view.askPreview({ show: one, start: shown.start, bytes: shown.bytes }), { "aria-pressed": String(one === shown.view) }, one));
    const facts = details.facts.flatMap(([name, text]) => [h("dt", {}, name), h("dd", { title: text }, text)]);
    const part = shown.part ? h("div.note", {}, shown.part, h("span.grow"), ...shown.steps.map(([label, step]) => button("", () => ask(step), {}, label))) : "";
    const notes = [details.guessed, shown.note].filter(Boolean).map((text) => h("div.note.problem", { role: "note" }, text));
    this.value = h("div.value", { "data-kind": shown.view, tabindex: "0", role: "region", "aria-label": TEXTS.value });
    this.root.replaceChildren(
      h("div.title", { title: details.label }, h("bdi", {}, details.label || TEXTS.emptyKey)),
      h("details.facts", { open: wasOpen }, h("summary", { title: TEXTS.details }, details.summary), h("dl", {}, ...facts)),
      h("div.tools", {}, h("span.tabs", { role: "group", "aria-label": TEXTS.showAs }, ...tabs), shown.view === "text" ? this.wrapButton() : "", h("span.grow"),
        details.key === null ? "" : copier(TEXTS.copyKey, () => details.key, TEXTS.copyKey, details.key),
        details.line ? copier(TEXTS.copyCode, () => details.line, TEXTS.copyCode, details.line) : "",
        button("", () => this.download(details.row), { title: details.download, disabled: Boolean(details.download) }, TEXTS.download)),
      ...notes, part, this.value);
    this.value.append(this.body(shown, data, ask));
  }

  wrapButton() {
    return button(".tab", (e) => {
      this.wrap = !this.wrap;
      e.target.setAttribute("aria-pressed", String(this.wrap));
      this.value.querySelector(".pk-lines")?.classList.toggle("pk-wrap", this.wrap);
    }, { "aria-pressed": String(this.wrap) }, TEXTS.wrap);
  }

  body(shown, data, ask) {
    if (shown.view === "json") return new JsonTree(this.view, shown.tree).root;
    if (shown.view === "table") return dataTable(shown, ask);
    if (shown.view === "markdown") return markdown(shown.text);
    if (shown.view === "text") return this.text(shown.text);
    if (shown.view === "hex") return h("pre.hex", {}, data && data.byteLength ? hexDump(data, shown.start, this.root.clientWidth > 620) : TEXTS.empty);
    return this.image(shown.mime, data);
  }

  text(text) {
    if (!text) return h("span.dim", {}, TEXTS.empty);
    const lines = text.split("\n");
    if (lines.length > MOST_LINES) return h("pre", {}, text);
    return h(`div.lines${this.wrap ? ".wrap" : ""}`, { style: `--pk-digits:${String(lines.length).length}` }, ...lines.map((line) => h("div", {}, line || "\u200b")));
  }

  image(mime, data) {
    this.urls = [URL.createObjectURL(new Blob([data], { type: mime }))];
    const box = h("div", {}, h("div.caption", {}, mime));
    const say = (text) => { box.firstChild.textContent = text; };
    // Before it is in the page an image's size is read, but no pixel is decoded: a few bytes can ask for gigabytes.
    const image = h("img", { alt: TEXTS.imageAlt,
      load: () => {
        const size = [count(image.naturalWidth), count(image.naturalHeight)];
        if (image.naturalWidth * image.naturalHeight > MOST_PIXELS) return say(TEXTS.tooLarge(mime, ...size));
        say(TEXTS.drawn(mime, ...size));
        image.width = image.naturalWidth; // an SVG has none of its own
        return box.append(button(".enlarge", () => image.classList.toggle("pk-large"), { title: TEXTS.enlarge, "aria-label": TEXTS.enlarge }, image));
      },
      error: () => say(TEXTS.damagedImage(mime)) });
    [image.src] = this.urls;
    return box;
  }

  download(row) {
    this.view.line.ask("download", { row, revision: this.view.state.revision }, (answer, buffers) => {
      if (answer.error) return this.root.prepend(h("div.note.problem", { role: "alert" }, answer.error));
      const url = URL.createObjectURL(new Blob([buffers[0]], { type: "application/octet-stream" }));
      h("a", { href: url, download: answer.filename }).click();
      return setTimeout(() => URL.revokeObjectURL(url), 10000);
    });
  }

  drawDifferences({ lines, cut }) {
    this.forget();
    const kind = (line) => ({ "+": "added", "-": "removed", "@": "dim" }[line[0]] || "kept");
    this.root.replaceChildren(h("div.title", {}, TEXTS.comparing), h("div.value", { tabindex: "0", role: "region", "aria-label": TEXTS.comparing },
      ...(lines.length ? lines.map((line) => h(`div.diff.${kind(line)}`, {}, line)) : [TEXTS.same]), cut ? h("div.dim", {}, TEXTS.cutOff) : ""));
  }
}
