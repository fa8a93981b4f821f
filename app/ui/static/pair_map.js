/* SPDX-License-Identifier: Apache-2.0 */
/* What each rotary pair contributes, layers x frequencies, kept pairs outlined and toggled.
   value: {kept: layers x rows x pairs | null}; map: scores and words; solved: {kept}, see pair_map.py. */
window.mlaPairMap = (element, trigger, props, watch) => {
  "use strict";
  const ROW = 16, LEFT = 32, TOP = 4, BOTTOM = 20;
  const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369",
    "#e1cc55", "#fee838"].map((one) => [1, 3, 5].map((at) => parseInt(one.slice(at, at + 2), 16)));
  const OUTLINE = "#ff3d2e";
  const root = element.querySelector(".pm");
  let row = -1, at = null, focused = false, told = false, built = "", values = [], low = 0, high = 1;

  const map = () => (props.map?.scores ? props.map : null);
  const solved = () => props.solved || { kept: [] };
  const sameShape = (kept) => kept?.length === map().scores.length && kept[0]?.length === map().scores[0].length;
  const kept = () => (sameShape(props.value?.kept) ? props.value.kept : solved().kept);
  const rowsShown = () => (row < 0 ? map().scores[0].map((_, index) => index) : [row]);
  const timesKept = (layer, pair) => rowsShown().filter((one) => kept()[layer]?.[one]?.includes(pair)).length;
  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const make = (tag, className, parent, attributes = {}) => {
    const made = document.createElement(tag);
    made.className = className;
    for (const [name, said] of Object.entries(attributes)) made.setAttribute(name, said);
    parent?.append(made);
    return made;
  };

  const tell = () => {
    if (told) return;
    told = true;
    setTimeout(() => { told = false; trigger("input"); }, 40);
  };
  const toggle = (layer, pair) => {
    if (!map().drops || !kept().length) return;
    const all = kept().map((rows) => rows.map((pairs) => [...pairs]));
    const keep = timesKept(layer, pair) < rowsShown().length;
    for (const one of rowsShown()) {
      const others = all[layer][one].filter((found) => found !== pair);
      all[layer][one] = keep ? [...others, pair].sort((a, b) => a - b) : others;
    }
    props.value = { kept: all };
    draw();
    tell();
  };

  const build = () => {
    root.replaceChildren();
    const bar = make("div", "pm-bar", root);
    if (map().scores[0].length > 1) {
      const label = make("label", "", bar);
      label.append(`${map().row} `);
      const box = make("select", "pm-row", label);
      make("option", "", box, { value: -1 }).textContent = "all";
      map().scores[0].forEach((_, index) => { make("option", "", box, { value: index }).textContent = index; });
      box.value = row;
      box.addEventListener("change", () => { row = Number(box.value); measure(); draw(); say(); });
    }
    const key = make("span", "pm-key", bar);
    make("span", "pm-low", key);
    make("i", "", key);
    make("span", "pm-high", key);
    const frame = make("div", "pm-frame", root, {
      tabindex: 0, role: "application",
      "aria-label": `${map().name}: layers by rotary pairs. Arrow keys move${map().drops ? ", space keeps or drops" : ""}.`,
    });
    make("canvas", "", frame, { "aria-hidden": "true" });
    make("div", "pm-says", root, { role: "status", "aria-live": "polite" });
    window.mlaTakeBar(root, { name: map().name, file: "rope_pairs", picture, table });
    frame.addEventListener("pointermove", (event) => { at = cell(event); draw(); say(); });
    frame.addEventListener("pointerleave", () => { if (!focused) at = null; draw(); say(); });
    frame.addEventListener("click", (event) => {
      at = cell(event);
      if (at) toggle(...at);
      say();
    });
    frame.addEventListener("focus", () => { focused = frame.matches(":focus-visible"); at = at || [0, 0]; draw(); say(); });
    frame.addEventListener("blur", () => { focused = false; at = null; draw(); say(); });
    frame.addEventListener("keydown", onKey);
    new ResizeObserver(() => draw()).observe(frame);
  };
  const onKey = (event) => {
    const [layer, pair] = at || [0, 0], layers = map().scores.length, pairs = map().scores[0][0].length;
    const to = {
      ArrowLeft: [layer, pair - 1], ArrowRight: [layer, pair + 1], ArrowUp: [layer - 1, pair],
      ArrowDown: [layer + 1, pair], Home: [layer, 0], End: [layer, pairs - 1],
    }[event.key];
    const toggles = event.key === " " || event.key === "Enter";
    if ((!to && !toggles) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    focused = true;
    if (to) at = [Math.max(0, Math.min(layers - 1, to[0])), Math.max(0, Math.min(pairs - 1, to[1]))];
    if (toggles) toggle(layer, pair);
    draw();
    say();
  };

  const size = (width = root.querySelector(".pm-frame").clientWidth) => {
    const layers = map().scores.length, pairs = map().scores[0][0].length;
    return { width, height: TOP + layers * ROW + BOTTOM, cell: (width - LEFT - (map().drops ? 56 : 0)) / pairs, layers, pairs };
  };
  const cell = (event) => {
    const box = root.querySelector("canvas").getBoundingClientRect(), { cell: wide, layers, pairs } = size();
    const pair = Math.floor((event.clientX - box.left - LEFT) / wide), layer = Math.floor((event.clientY - box.top - TOP) / ROW);
    return pair >= 0 && pair < pairs && layer >= 0 && layer < layers ? [layer, pair] : null;
  };
  const measure = () => {
    values = map().scores.map((rows) =>
      rows[0].map((_, pair) => rowsShown().reduce((sum, one) => sum + rows[one][pair], 0)));
    const positive = values.flat().filter((one) => one > 0);
    low = Math.log10(Math.min(...positive, Infinity));
    high = Math.log10(Math.max(...positive, 0));
    if (!Number.isFinite(low)) [low, high] = [0, 1];
  };
  const colour = (value) => {
    const share = value > 0 && high > low ? (Math.log10(value) - low) / (high - low) : 0;
    const place = Math.max(0, Math.min(1, share)) * (CIVIDIS.length - 1), left = Math.min(CIVIDIS.length - 2, Math.floor(place));
    const mix = CIVIDIS[left].map((one, index) => Math.round(one + (CIVIDIS[left + 1][index] - one) * (place - left)));
    return `rgb(${mix.join(",")})`;
  };
  const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 0.001 ? value.toPrecision(3) : value.toExponential(1));

  /* one key of the same width is cached for every KV head: rows of a layer must keep equally many pairs,
     unless all heads share what is kept */
  const missing = (layer, rows) => {
    if (map().shared || !map().drops || !kept().length) return 0;
    const found = kept()[layer].map((pairs) => pairs.length), most = Math.max(...found);
    return (rows || found.map((_, one) => one)).reduce((sum, one) => sum + most - found[one], 0);
  };
  const say = () => {
    const says = root.querySelector(".pm-says"), broken = values.map((_, layer) => missing(layer)).findIndex((one) => one);
    says.classList.toggle("wrong", broken >= 0);
    const words = [];
    if (at) {
      const [layer, pair] = at, times = timesKept(layer, pair), all = rowsShown().length;
      const stays = !map().drops ? "exact" : all > 1 ? `kept in ${times} of ${all}` : times ? "kept" : "dropped";
      words.push(`layer ${layer}, pair ${pair}: ${map().unit} ${number(values[layer][pair])}, ${stays}, one turn every ${map().periods[pair]} tokens`);
    }
    if (broken >= 0) {
      const each = kept()[broken].map((pairs) => pairs.length).join(", ");
      words.push(`layer ${broken} keeps ${each} pairs: every ${map().row} must keep equally many, ${missing(broken)} missing`);
    }
    says.textContent = words.join(" · ") || map().hint;
  };

  const draw = () => {
    if (!map()) { built = ""; root.replaceChildren(); make("p", "caption", root).textContent = props.map?.words ?? ""; return; }
    const key = `${map().key}`;
    if (built !== key) { built = key; row = -1; at = null; build(); measure(); say(); }
    root.classList.toggle("exact", !map().drops);
    root.dataset.kept = JSON.stringify(kept());
    const canvas = root.querySelector("canvas"), box = size(), { width, height, cell: wide } = box;
    if (!width) return;
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.font = `11px ${getComputedStyle(root).fontFamily}`;
    pen.textBaseline = "middle";
    paint(pen, box);
    if (at) {
      pen.strokeStyle = style("--ink");
      pen.lineWidth = 2;
      pen.strokeRect(LEFT + at[1] * wide - 1, TOP + at[0] * ROW - 1, wide + 1, ROW + 1);
    }
    root.querySelector(".pm-low").textContent = number(10 ** low);
    root.querySelector(".pm-high").textContent = `${number(10 ** high)} ${map().unit}`;
  };
  /* the map itself, `down` pixels below the top, with whatever draws like a canvas */
  const paint = (pen, { height, cell: wide, layers, pairs }, down = 0) => {
    const soft = style("--soft"), wrong = style("--bad");
    for (let layer = 0; layer < layers; layer++) {
      const y = down + TOP + layer * ROW;
      for (let pair = 0; pair < pairs; pair++) {
        pen.fillStyle = colour(values[layer][pair]);
        pen.fillRect(LEFT + pair * wide, y, Math.max(1, wide - 1), ROW - 1);
      }
      pen.textAlign = "right";
      pen.fillStyle = soft;
      if (layers <= 16 || layer % 5 === 0) pen.fillText(layer, LEFT - 8, y + ROW / 2);
      if (!map().drops || !kept().length) continue;
      outline(pen, layer, y, wide, pairs);
      const by = missing(layer, rowsShown()), found = rowsShown().reduce((sum, one) => sum + kept()[layer][one].length, 0);
      pen.textAlign = "left";
      pen.fillStyle = missing(layer) ? wrong : soft;
      pen.fillText(by ? `${found} (−${by})` : `${found}`, LEFT + pairs * wide + 8, y + ROW / 2);
    }
    pen.fillStyle = soft;
    pen.textAlign = "left";
    pen.fillText("fast", LEFT, down + height - 8);
    pen.textAlign = "right";
    pen.fillText("slow", LEFT + pairs * wide, down + height - 8);
  };
  /* the same with what the page says beside it: what the colours are, and whose */
  const picture = () => {
    const WIDTH = 960, KEY = 120, HEAD = 32, box = size(WIDTH), end = WIDTH - 16;
    const whose = row < 0 ? `all ${map().scores[0].length} rows (${map().row})` : `${map().row} ${row}`;
    const paintAll = (pen) => {
      pen.fillStyle = style("--card");
      pen.fillRect(0, 0, WIDTH, HEAD + box.height);
      pen.fillStyle = style("--ink");
      pen.textAlign = "left";
      pen.fillText(`${map().name}, ${whose}`, LEFT, HEAD / 2);
      const most = `${number(10 ** high)} ${map().unit}`, right = end - 7 * most.length;
      pen.fillText(most, right, HEAD / 2);
      for (let step = 0; step < KEY; step++) {
        pen.fillStyle = colour(10 ** (low + ((high - low) * step) / (KEY - 1)));
        pen.fillRect(right - 8 - KEY + step, HEAD / 2 - 4, 1.5, 8);
      }
      pen.fillStyle = style("--ink");
      pen.textAlign = "right";
      pen.fillText(number(10 ** low), right - KEY - 16, HEAD / 2);
      paint(pen, box, HEAD);
    };
    return { width: WIDTH, height: HEAD + box.height, family: getComputedStyle(root).fontFamily, paint: paintAll };
  };
  /* the columns of a job's rope_contribution; where nothing is dropped every pair is kept */
  const isKept = (layer, one, pair) => {
    if (!map().drops) return true;
    return kept().length ? kept()[layer][one].includes(pair) : null;
  };
  const table = () => ({
    columns: ["layer", "row", "pair", "tokens_per_turn", "score", "is_kept"],
    rows: map().scores.flatMap((heads, layer) => heads.flatMap((scores, one) => scores.map((score, pair) =>
      [layer, one, pair, map().turns[pair], score, isKept(layer, one, pair)]))),
  });
  const outline = (pen, layer, y, wide, pairs) => {
    for (let pair = 0; pair < pairs; pair++) {
      const times = timesKept(layer, pair);
      if (!times) continue;
      pen.strokeStyle = OUTLINE;
      pen.globalAlpha = times < rowsShown().length ? 0.6 : 1;
      pen.lineWidth = wide > 5 ? 1.5 : 1;
      pen.strokeRect(LEFT + pair * wide + 0.75, y + 0.75, Math.max(1, wide - 2.5), ROW - 2.5);
      pen.globalAlpha = 1;
    }
  };
  // where a cell is on the screen, for whoever points at it
  root.placeOf = (layer, pair) => {
    root.scrollIntoView({ block: "center" });
    const box = root.querySelector("canvas").getBoundingClientRect();
    return [box.left + LEFT + (pair + 0.5) * size().cell, box.top + TOP + (layer + 0.5) * ROW];
  };
  watch(["value", "map", "solved"], () => { draw(); if (map()) say(); });
  draw();
};
