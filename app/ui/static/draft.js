/* SPDX-License-Identifier: Apache-2.0 */
/* A prompt that is half written outlives a reload: kept in this browser at every key, not when a page is idle. */
window.mlaDraft = {
  read() { return localStorage.getItem("mla-workbench-draft") || ""; },
  keep(text) { localStorage.setItem("mla-workbench-draft", text || ""); },
};
document.addEventListener("input", ({ target }) => {
  if (target.closest("#prompt")) window.mlaDraft.keep(target.value);
});
