// The editor of labels: rows of a name and a description, made, read and checked here.

import { element } from "./making.js";

const field = (properties) => element("input", { type: "text", dir: "auto", autocomplete: "off", ...properties });

export class LabelEditor {
  /** @param {HTMLOListElement} list @param {() => void} onChange */
  constructor(list, onChange) {
    this.list = list;
    this.onChange = onChange;
    this.fixed = false;
    list.addEventListener("input", () => {
      this.clearErrors();
      this.rename();
      onChange();
    });
    list.addEventListener("paste", (event) => this.paste(event));
  }

  /** Show labels in place of those that are there. */
  show(labels, fixed) {
    this.fixed = fixed;
    this.list.replaceChildren();
    for (const { name, description } of labels) this.add(name, description ?? "");
  }

  add(name = "", description = "", after = null) {
    const item = element("li", {}, [
      field({ className: "name", placeholder: "Name", value: name }),
      field({ className: "description", placeholder: "Description (optional)", value: description }),
      element("button", { type: "button", className: "remove" }, [element("span", { ariaHidden: "true" }, ["×"])]),
      element("p", { className: "error" }),
    ]);
    const [nameInput, descriptionInput, remove] = item.children;
    nameInput.readOnly = descriptionInput.readOnly = this.fixed;
    remove.hidden = this.fixed;
    remove.addEventListener("click", () => this.remove(item));
    if (after) after.after(item);
    else this.list.append(item);
    this.rename();
    return nameInput;
  }

  remove(item) {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    this.clearErrors();
    this.rename();
    this.onChange();
    (next?.querySelector(".remove") ?? document.getElementById("add-label")).focus();
  }

  // A list of labels pasted into one name becomes as many rows.
  paste(event) {
    const lines = (event.clipboardData?.getData("text") ?? "").split(/\r?\n/).filter((line) => line.trim());
    const item = event.target.closest("li");
    if (this.fixed || lines.length < 2 || !event.target.classList.contains("name")) return;
    event.preventDefault();
    let last = item;
    for (const line of lines) {
      const [, name, description] = /^([^:]*):?(.*)$/.exec(line);
      last = this.add(name.trim(), description.trim(), last).closest("li");
    }
    if (!event.target.value.trim()) item.remove();
    this.rename();
    this.onChange();
    last.querySelector(".name").focus();
  }

  rename() {
    [...this.list.children].forEach((item, position) => {
      const [name, description, remove, error] = item.children;
      name.ariaLabel = `Name of label ${position + 1}`;
      description.ariaLabel = `Description of label ${position + 1}`;
      remove.ariaLabel = `Remove label ${position + 1}` + (name.value ? `, ${name.value}` : "");
      error.id = `label-error-${position + 1}`;
      name.setAttribute("aria-describedby", error.id);
    });
  }

  clearErrors() {
    for (const item of this.list.children) {
      item.children[0].removeAttribute("aria-invalid");
      item.children[3].textContent = "";
    }
  }

  /** The labels as they stand; rows that are wholly empty do not count. */
  read() {
    return [...this.list.children]
      .map((item) => ({ name: item.children[0].value.trim(), description: item.children[1].value.trim() || null }))
      .filter(({ name, description }) => name || description);
  }

  /** Mark what cannot be asked, and return the first such input, or null. */
  check() {
    this.clearErrors();
    const seen = new Set();
    let first = null;
    for (const item of this.list.children) {
      const [name, description, , error] = item.children;
      const said = name.value.trim();
      if (!said && !description.value.trim()) continue;
      const wrong = !said ? "Give this label a name." : seen.has(said.toLowerCase()) ? "This name is there twice." : "";
      seen.add(said.toLowerCase());
      if (!wrong) continue;
      error.textContent = wrong;
      name.setAttribute("aria-invalid", "true");
      first ??= name;
    }
    return first;
  }
}
