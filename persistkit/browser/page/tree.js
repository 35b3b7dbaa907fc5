/** The folders that `:` and `/` make in keys. */
class Folders {
  constructor(view) {
    this.view = view;
    this.opened = new Set([""]);
    this.root = h("div.tree", { role: "tree", label: TEXT.folders, hidden: true, keydown: (e) => this.key(e) });
  }

  show(on) {
    this.root.hidden = !on;
    if (!on) return;
    const all = this.item("", TEXT.allKeys, this.view.state.summary, count(this.view.state.total), false);
    this.root.replaceChildren(all);
    this.open(all.firstChild, true);
  }

  item(path, label, summary, keys, leaf) {
    const group = h("div.group", { role: "group", hidden: true });
    const chosen = path === this.view.folder;
    const twist = leaf ? h("span.twist") : h("span.twist", { click: (e) => { e.stopPropagation(); this.open(item, group.hidden); } });
    const item = h("div.folder", { role: "treeitem", "aria-level": path.split(/[:/]/).length, "aria-expanded": leaf ? null : "false", "aria-selected": String(chosen),
      tabindex: chosen ? "0" : "-1", title: `${label}: ${summary}`, click: () => this.enter(item) },
      twist, h("span.foldername", h("bdi", label)), h("span.count", keys));
    Object.assign(item, { path, group, leaf });
    return h("div", { role: "none" }, item, group);
  }

  open(item, on, following = 0) {
    if (item.leaf) return;
    item.setAttribute("aria-expanded", String(on));
    item.group.hidden = !on;
    this.opened[on ? "add" : "delete"](item.path);
    if (!on || (item.group.firstChild && !following)) return;
    this.view.line.ask("folders", { folder: item.path, following }, (answer) => {
      if (answer.error || answer.folder !== item.path) return;
      item.group.querySelector(":scope > .pk-morefolders")?.remove();
      const made = answer.folders.map((folder) => this.item(...folder));
      item.group.append(...made);
      if (answer.following !== null) item.group.append(button(".morefolders", () => this.open(item, true, answer.following), {}, TEXT.moreFolders));
      for (const one of made) if (this.opened.has(one.firstChild.path)) this.open(one.firstChild, true);
    });
  }

  enter(item) {
    this.view.enter(item.path);
    item.focus({ preventScroll: true });
    this.open(item, true);
  }

  /** Show which folder is chosen. */
  choose(path) {
    for (const item of this.root.querySelectorAll("[role=treeitem]")) {
      item.setAttribute("aria-selected", String(item.path === path));
      item.tabIndex = item.path === path ? 0 : -1;
    }
    if (!this.root.querySelector("[tabindex='0']")) this.root.querySelector("[role=treeitem]")?.setAttribute("tabindex", "0");
  }

  key(e) {
    const item = e.target.closest("[role=treeitem]");
    if (!item || e.ctrlKey || e.metaKey) return;
    const shown = [...this.root.querySelectorAll(".pk-folder")].filter((one) => one.offsetParent);
    const at = shown.indexOf(item);
    const acts = {
      ArrowDown: () => shown[at + 1]?.focus(), ArrowUp: () => shown[at - 1]?.focus(), Home: () => shown[0].focus(), End: () => shown.at(-1).focus(),
      ArrowRight: () => this.open(item, true), ArrowLeft: () => this.open(item, false), Enter: () => this.enter(item), " ": () => this.enter(item),
    };
    if (!acts[e.key] || e.target.tagName === "BUTTON") return;
    e.preventDefault();
    acts[e.key]();
  }
}
