/** A question inside the widget: window.confirm would block the page. */
class Dialog {
  constructor(onClose) {
    this.root = h("div.veil", { hidden: true });
    this.onClose = onClose;
  }

  get open() { return !this.root.hidden; }

  close() {
    this.root.hidden = true;
    this.root.replaceChildren();
    this.onClose();
  }

  tell(title, lines) {
    const close = button("", () => this.close(), {}, TEXT.close);
    this.ask(title, [h("ul", ...lines.map((text) => h("li", text)))], [close], close);
  }

  confirmDelete(n, act) {
    const typed = n > 10 ? h("input", { type: "text", inputmode: "numeric", label: TEXT.typeToConfirm(n), input: () => { sure.disabled = typed.value.trim() !== String(n); } }) : null;
    const sure = button(".danger", act, { disabled: n > 10 }, `Delete ${plural(n, "value")}`);
    const cancel = button("", () => this.close(), {}, TEXT.cancel);
    this.ask(TEXT.deleteTitle(plural(n, "value")), [h("p", TEXT.deleteWarning), typed ? h("p", `${TEXT.typeToConfirm(n)}: `, typed) : null], [cancel, sure], cancel);
  }

  ask(title, content, buttons, focused) {
    const keep = (e) => {
      if (e.key !== "Tab") return;
      const all = [...this.root.querySelectorAll("button:enabled, input")];
      const next = all.indexOf(this.root.getRootNode().activeElement) + (e.shiftKey ? -1 : 1);
      e.preventDefault();
      all.at(next % all.length).focus();
    };
    this.root.replaceChildren(h("div.dialog", { role: "alertdialog", "aria-modal": "true", label: title, keydown: keep },
      h("strong", title), ...content, h("div.buttons", ...buttons)));
    this.root.hidden = false;
    focused.focus();
  }
}
