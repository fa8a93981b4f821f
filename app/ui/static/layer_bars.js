/* SPDX-License-Identifier: Apache-2.0 */
/* The latent rank of every layer as bars: dragged, nudged by keys, typed in a table, locked.
   value: {ranks: [..] | null, locked: [..]}; shown: what the server says of the layers, see layer_bars.py.
   A rank set by hand is locked: what is redistributed afterwards is the rest. */
window.mlaLayerBars = (element, trigger, props, watch) => {
  "use strict";
  const HEIGHT = 160, root = element.querySelector(".lb");
  let selected = 0, drag = null, told = false, bars = [], rows = [], built = "", top = 1;

  const shown = () => props.shown || { solved: [] };
  const value = () => props.value || { ranks: null, locked: [] };
  const count = () => shown().solved.length;
  const ranks = () => (value().ranks?.length === count() ? value().ranks : shown().solved);
  const isLocked = (layer) => value().locked.includes(layer);
  const make = (tag, className, parent, attributes = {}) => {
    const made = document.createElement(tag);
    made.className = className;
    for (const [name, said] of Object.entries(attributes)) made.setAttribute(name, said);
    parent?.append(made);
    return made;
  };

  // the value reaches Python with the next event, and only once the component has taken it over
  const tell = () => {
    if (told) return;
    told = true;
    setTimeout(() => { told = false; trigger("input"); }, 40);
  };
  const take = (next) => { props.value = next; draw(); tell(); };
  const clamp = (layer, rank) => Math.max(shown().least, Math.min(shown().most[layer], Math.round(rank)));
  const setRank = (layer, rank) => {
    const all = [...ranks()], wanted = clamp(layer, rank);
    if (!Number.isFinite(wanted) || (all[layer] === wanted && isLocked(layer))) return draw();
    all[layer] = wanted;
    const locked = isLocked(layer) ? value().locked : [...value().locked, layer].sort((a, b) => a - b);
    take({ ranks: all, locked });
  };
  const setLock = (layer, on) => {
    const others = value().locked.filter((one) => one !== layer);
    const locked = on ? [...others, layer].sort((a, b) => a - b) : others;
    // a lock holds the rank that is seen, wherever the slider goes
    take({ ranks: locked.length || value().ranks ? [...ranks()] : null, locked });
  };
  const select = (layer, focus) => {
    selected = Math.max(0, Math.min(count() - 1, layer));
    draw();
    if (focus) bars[selected]?.focus();
  };

  const nice = (wanted) => {
    const step = 10 ** Math.floor(Math.log10(Math.max(1, wanted)));
    return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((one) => one * step).find((one) => one >= wanted);
  };

  const build = () => {
    root.replaceChildren();
    const frame = make("div", "lb-frame", root);
    make("div", "lb-scale", frame, { "aria-hidden": "true" });
    const plot = make("div", "lb-plot", frame, { role: "group", "aria-label": "Latent rank of every layer" });
    bars = Array.from({ length: count() }, (_, layer) => bar(plot, layer));
    make("div", "lb-axis", root, { "aria-hidden": "true" });
    line();
    table();
  };
  const bar = (plot, layer) => {
    const made = make("div", "lb-bar", plot, {
      role: "slider", "aria-orientation": "vertical", "aria-label": `Latent rank of layer ${layer}`,
      "data-layer": layer,
    });
    make("i", "lb-fill", made);
    make("b", "lb-solved", made);
    made.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      made.setPointerCapture(event.pointerId);
      drag = { layer, y: event.clientY, rank: ranks()[layer], moved: false };
      select(layer, true);
      event.preventDefault();
    });
    made.addEventListener("pointermove", (event) => {
      if (drag?.layer !== layer) return;
      const up = drag.y - event.clientY;
      drag.moved = drag.moved || Math.abs(up) > 2;
      if (drag.moved) setRank(layer, drag.rank + (up * top) / HEIGHT);
    });
    for (const end of ["pointerup", "pointercancel"])
      made.addEventListener(end, () => { drag = null; draw(); });
    made.addEventListener("dblclick", () => setLock(layer, !isLocked(layer)));
    made.addEventListener("focus", () => { if (selected !== layer) select(layer, false); });
    made.addEventListener("keydown", (event) => onKey(event, layer));
    return made;
  };
  const onKey = (event, layer) => {
    const rank = ranks()[layer], page = Math.max(2, Math.round(top / 10));
    const act = {
      ArrowUp: () => setRank(layer, rank + 1), ArrowDown: () => setRank(layer, rank - 1),
      PageUp: () => setRank(layer, rank + page), PageDown: () => setRank(layer, rank - page),
      Home: () => setRank(layer, shown().least), End: () => setRank(layer, shown().most[layer]),
      ArrowLeft: () => select(layer - 1, true), ArrowRight: () => select(layer + 1, true),
      l: () => setLock(layer, !isLocked(layer)), L: () => setLock(layer, !isLocked(layer)),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  };

  /* the chosen layer in one line: for fingers, and for typing */
  const line = () => {
    const made = make("div", "lb-line", root);
    make("span", "lb-name", made);
    const box = make("input", "lb-rank", made, { type: "number", step: 1, "aria-label": "Rank of the chosen layer" });
    box.addEventListener("change", () => setRank(selected, Number(box.value)));
    lockButton(made, () => selected, "lb-lock");
    make("span", "lb-says", made);
  };
  const lockButton = (parent, layer, className) => {
    const made = make("button", className, parent, { type: "button" });
    made.addEventListener("click", () => setLock(layer(), !isLocked(layer())));
    return made;
  };
  const table = () => {
    const fold = make("details", "lb-table", root), frame = make("div", "frame tall", null);
    make("summary", "", fold).textContent = "As a table";
    fold.append(frame);
    const inner = make("table", "layers", frame), head = make("tr", "", make("thead", "", inner));
    for (const title of ["layer", "latent rank", "lock", "rotary dims", "numbers", "loss, nats"])
      make("th", "", head, { scope: "col" }).textContent = title;
    const body = make("tbody", "", inner);
    rows = bars.map((_, layer) => {
      const row = make("tr", "", body);
      make("th", "", row, { scope: "row" }).textContent = layer;
      const box = make("input", "lb-rank", make("td", "", row),
        { type: "number", step: 1, "aria-label": `Latent rank of layer ${layer}` });
      box.addEventListener("change", () => setRank(layer, Number(box.value)));
      const lock = lockButton(make("td", "", row), () => layer, "lb-lock");
      return { row, box, lock, cells: [0, 1, 2].map(() => make("td", "", row)) };
    });
  };

  const text = (number) => (number === null || number === undefined ? "–" : number < 0.001 ? "< 0.001" : number.toPrecision(2));
  const drawLock = (button, layer) => {
    const on = isLocked(layer);
    button.textContent = on ? "locked" : "lock";
    button.setAttribute("aria-pressed", on);
    button.setAttribute("aria-label", `Lock layer ${layer}`);
  };
  const drawBox = (box, layer) => {
    box.min = shown().least;
    box.max = shown().most[layer];
    if (document.activeElement !== box || Number(box.value) === ranks()[layer]) box.value = ranks()[layer];
  };
  const drawBar = (made, layer) => {
    const rank = ranks()[layer], most = shown().most[layer], lost = shown().loss?.[layer];
    made.children[0].style.height = `${Math.min(100, (100 * rank) / top)}%`;
    made.children[1].style.bottom = `${Math.min(100, (100 * shown().solved[layer]) / top)}%`;
    made.classList.toggle("locked", isLocked(layer));
    made.classList.toggle("selected", layer === selected);
    made.tabIndex = layer === selected ? 0 : -1;
    const words = `rank ${rank} of ${most}${isLocked(layer) ? ", locked" : ""}`;
    made.setAttribute("aria-valuemin", shown().least);
    made.setAttribute("aria-valuemax", most);
    made.setAttribute("aria-valuenow", rank);
    made.setAttribute("aria-valuetext", words);
    made.title = `layer ${layer}: ${words}${lost === null || lost === undefined ? "" : `, ${text(lost)} nats predicted`}`;
  };
  const drawLine = () => {
    const lost = shown().loss?.[selected];
    root.querySelector(".lb-name").textContent = `Layer ${selected}`;
    drawBox(root.querySelector(".lb-line .lb-rank"), selected);
    drawLock(root.querySelector(".lb-line .lb-lock"), selected);
    const loss = lost === null || lost === undefined ? "" : ` · loses ${text(lost)} nats, predicted`;
    root.querySelector(".lb-says").textContent =
      `of ${shown().most[selected]} · ${shown().solved[selected]} at the slider${loss}`;
  };
  const drawRow = ({ row, box, lock, cells }, layer) => {
    row.classList.toggle("locked", isLocked(layer));
    drawBox(box, layer);
    drawLock(lock, layer);
    const cached = ranks()[layer] + shown().rotary[layer];
    [shown().rope[layer], cached, text(shown().loss?.[layer])].forEach((said, index) => {
      cells[index].textContent = said;
    });
  };
  const draw = () => {
    if (built !== String(count())) { built = String(count()); if (count()) build(); else root.replaceChildren(); }
    if (!count()) return;
    selected = Math.min(selected, count() - 1);
    // while a bar is held its scale is too
    if (!drag) top = Math.min(Math.max(...shown().most), nice(1.35 * Math.max(...ranks(), ...shown().solved)));
    const scale = root.querySelector(".lb-scale");
    scale.replaceChildren();
    for (const share of [1, 0.5, 0]) make("span", "", scale).textContent = Math.round(top * share);
    const axis = root.querySelector(".lb-axis");
    axis.replaceChildren();
    for (const words of ["layer 0", String(count() - 1)]) make("span", "", axis).textContent = words;
    bars.forEach(drawBar);
    rows.forEach(drawRow);
    drawLine();
  };
  watch(["value", "shown"], draw);
  draw();
};
