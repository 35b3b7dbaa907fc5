const WAIT_MS = 400;
const LOST_MS = 5000;
const POLL_MS = 2000;
const COPIED_MS = 1500;

/** Make an element: h("td.size", {title: "…"}, child, …), options may be left out. Functions are listeners, null is nothing. */
function h(name, options = {}, ...children) {
  if (options?.constructor !== Object) return h(name, {}, options, ...children);
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  node.className = classes.map((c) => `pk-${c}`).join(" ");
  for (const [key, value] of Object.entries(options)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value != null && value !== false) node.setAttribute(key === "label" ? "aria-label" : key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== ""));
  return node;
}

const button = (name, click, options, ...children) => h(`button${name}`, { type: "button", click, ...options }, ...children);
const icon = (label, title, click, more) => button("", click, { title, label: title, ...more }, label);
const count = (n) => n.toLocaleString("en-US");
const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;
const choice = (label, options, change, more = {}) =>
  h("select", { label, change, ...more }, ...Object.entries(options).map(([value, text]) => h("option", { value }, text)));

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  return area.remove();
}

/** A button that copies what `text` gives, now or later, and says so for a moment. */
function copier(label, text, name = label, title = name) {
  const node = button("", async () => {
    await copyText(await text());
    node.textContent = TEXT.copied;
    setTimeout(() => { node.textContent = label; }, COPIED_MS);
  }, { title, label: name === label ? null : name }, label);
  return node;
}

/** A bar that is dragged, or moved with the arrow keys; `move` gets how far, in pixels. */
function splitter(label, orientation, start, move) {
  const vertical = orientation === "vertical";
  const at = (e) => (vertical ? e.clientX : e.clientY);
  const bar = h(`div.${vertical ? "split" : "grip"}`, { role: "separator", tabindex: "0", label, "aria-orientation": orientation, "aria-valuenow": 50,
    pointerdown: (e) => {
      const [from, size] = [at(e), start()];
      const drag = (moved) => move(size, at(moved) - from);
      const end = () => { bar.removeEventListener("pointermove", drag); bar.removeEventListener("pointerup", end); };
      bar.setPointerCapture(e.pointerId);
      bar.addEventListener("pointermove", drag);
      bar.addEventListener("pointerup", end);
      e.preventDefault();
    },
    keydown: (e) => {
      const far = { ArrowLeft: -24, ArrowRight: 24, ArrowUp: -24, ArrowDown: 24 }[e.key];
      if (!far || vertical !== /Left|Right/.test(e.key)) return;
      e.preventDefault();
      move(start(), far);
    } });
  return bar;
}

/** Requests and answers of one view; of several questions of one kind only the newest answer counts. */
class Line {
  constructor(model, around, onBroadcast, onWaiting) {
    this.model = model;
    this.view = Math.floor(Math.random() * 2 ** 31);
    this.next = 1;
    this.open = new Map();
    this.latest = {};
    this.tellWaiting = () => {
      const all = [...this.open.values()];
      onWaiting(all.some((asked) => asked.lost) ? "lost" : all.some((asked) => asked.late) ? "late" : "");
    };
    this.listener = (message, buffers) => around(() => {
      if (message.view === undefined) return onBroadcast(message);
      const asked = message.view === this.view ? this.open.get(message.id) : undefined;
      if (!asked) return;
      this.open.delete(message.id);
      for (const [id, other] of this.open) if (other.lost && id < message.id) this.open.delete(id); // answers come in order: an older one will not come
      clearTimeout(asked.timer);
      asked.finish();
      this.tellWaiting();
      if (this.latest[asked.kind] === message.id) asked.draw(message, buffers);
    });
    model.on("msg:custom", this.listener);
  }

  /** Send a request; `draw` gets its answer when no newer one of its kind was asked, `done` is called once either way. */
  ask(op, content, draw, done = () => {}) {
    const id = this.next++;
    const kind = { preview: "select", folders: `folders ${content.folder}`, node: `node ${content.path} ${content.start}` }[op] || op;
    this.latest[kind] = id;
    const asked = { draw, kind, late: false, lost: false, finish: () => { asked.finish = () => {}; done(); } };
    asked.timer = setTimeout(() => {
      asked.late = true;
      this.tellWaiting();
      asked.timer = setTimeout(() => {
        asked.lost = true;
        asked.finish(); // one lost answer must not keep others from being asked for
        this.tellWaiting();
      }, LOST_MS - WAIT_MS);
    }, WAIT_MS);
    this.open.set(id, asked);
    try {
      Promise.resolve(this.model.send({ ...content, op, id, view: this.view })).catch(() => {});
    } catch { /* the kernel is gone: the clock says so */ }
  }

  close() {
    this.model.off("msg:custom", this.listener);
    for (const asked of this.open.values()) clearTimeout(asked.timer);
    this.open.clear();
  }
}

/** Text that Python did not write out: what a page would hide or obey is shown as a sign. */
const visible = (text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, "␣");

/** Keep keys that are typed in `root` from JupyterLab, whose shortcut "x" would cut the cell; returns what ends it. */
function keepKeys(root, press) {
  root.addEventListener("keydown", (e) => {
    press(e);
    if (!e.ctrlKey && !e.metaKey) e.stopPropagation();
  });
  // Notebook 7 listens before any element does; this attribute is Lumino's word for "not here".
  const guard = (e) => {
    const inner = e.composedPath()[0];
    if (root.contains(inner)) inner.toggleAttribute("data-lm-suppress-shortcuts", !e.ctrlKey && !e.metaKey);
  };
  window.addEventListener("keydown", guard, true);
  return () => window.removeEventListener("keydown", guard, true);
}
