/* SPDX-License-Identifier: Apache-2.0 */
/* Buttons with data-verb and data-row: one listener for all of them, however often the rows are drawn anew. */
window.mlaActions = (element, trigger, watch) => {
  "use strict";
  let focused = null;

  const tell = (button) => trigger("click", { verb: button.dataset.verb, row: button.dataset.row });
  const make = (tag, text, className = "") => {
    const made = document.createElement(tag);
    made.textContent = text;
    made.className = className;
    return made;
  };
  // a dialog outlives the row it was asked for: the answer still names verb and row
  const ask = (button) => {
    const { verb, row, confirm } = button.dataset;
    const dialog = make("dialog", "", "ask"), buttons = make("div", "", "ask-buttons");
    const no = make("button", "Keep"), yes = make("button", button.textContent, "yes");
    dialog.setAttribute("aria-label", button.getAttribute("aria-label"));
    dialog.append(make("p", confirm), buttons);
    buttons.append(no, yes);
    no.onclick = () => dialog.close();
    yes.onclick = () => { dialog.close(); tell({ dataset: { verb, row } }); };
    dialog.onclose = () => { dialog.remove(); refocus(); };
    (element.closest(".gradio-container") || document.body).append(dialog);
    dialog.showModal();
    no.focus();
  };
  const refocus = () => {
    if (!focused || (document.activeElement && document.activeElement !== document.body)) return;
    const rows = [...element.querySelectorAll("[data-row]")].filter((one) => one.dataset.row === focused.row);
    (rows.find((one) => one.dataset.verb === focused.verb) || rows[0])?.focus({ preventScroll: true });
  };

  element.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-verb]");
    if (!button) return;
    focused = { ...button.dataset };
    button.dataset.confirm ? ask(button) : tell(button);
  });
  element.addEventListener("focusin", (event) => { focused = { ...event.target.dataset }; });
  element.addEventListener("focusout", (event) => { if (event.relatedTarget) focused = null; });
  watch("value", refocus);
};
