/* SPDX-License-Identifier: Apache-2.0 */
/* Take a drawing of ours away: as a picture, painted once more with the same strokes, or as the data behind it. */
window.mlaTakeBar = (parent, drawing) => {
  "use strict";
  const { name, file, picture, table } = drawing;
  const escaped = (text) => String(text).replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);

  // a pen with the strokes of a canvas that writes SVG elements instead
  const svgPen = () => {
    const parts = [], ANCHOR = { left: "start", right: "end", center: "middle" };
    const rect = (x, y, wide, high, look) =>
      parts.push(`<rect x="${x.toFixed(2)}" y="${y.toFixed(2)}" width="${wide.toFixed(2)}" height="${high.toFixed(2)}" ${look}/>`);
    return {
      parts, fillStyle: "", strokeStyle: "", lineWidth: 1, globalAlpha: 1, textAlign: "left", font: "",
      fillRect(...box) { rect(...box, `fill="${this.fillStyle}"`); },
      strokeRect(...box) {
        rect(...box, `fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}" opacity="${this.globalAlpha}"`);
      },
      fillText(text, x, y) {
        parts.push(`<text x="${x.toFixed(2)}" y="${y.toFixed(2)}" fill="${this.fillStyle}" ` +
          `text-anchor="${ANCHOR[this.textAlign]}" dominant-baseline="central">${escaped(text)}</text>`);
      },
    };
  };
  const asSvg = ({ width, height, family, paint }) => {
    const pen = svgPen();
    paint(pen);
    return new Blob([`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
      `viewBox="0 0 ${width} ${height}" font-family="${escaped(family)}" font-size="11">${pen.parts.join("")}</svg>`],
      { type: "image/svg+xml" });
  };
  const asPng = ({ width, height, family, paint }) => {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d"), SCALE = 2;
    [canvas.width, canvas.height] = [width * SCALE, height * SCALE];
    pen.scale(SCALE, SCALE);
    pen.font = `11px ${family}`;
    pen.textBaseline = "middle";
    paint(pen);
    return new Promise((ready) => canvas.toBlob(ready, "image/png"));
  };
  // numbers, yes and no, and words without commas: nothing needs quotes
  const cell = (value) => (value === null ? "" : typeof value === "boolean" ? (value ? "True" : "False") : value);
  const asCsv = ({ columns, rows }) =>
    new Blob([[columns, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("")], { type: "text/csv" });
  const asJson = (data) => new Blob([JSON.stringify({ name: file, ...data })], { type: "application/json" });

  const save = (blob, ending) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${file}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const bar = document.createElement("p");
  bar.className = "take";
  const group = (label, about, makers) => {
    const word = document.createElement("span");
    word.textContent = label;
    bar.append(word);
    for (const [ending, make] of Object.entries(makers)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = ending.toUpperCase();
      button.setAttribute("aria-label", about(ending.toUpperCase()));
      button.addEventListener("click", async () => save(await make(), ending));
      bar.append(button);
    }
  };
  group("Picture", (kind) => `${name} as ${kind} picture`, { png: () => asPng(picture()), svg: () => asSvg(picture()) });
  group("Data", (kind) => `data of ${name} as ${kind}`, { csv: () => asCsv(table()), json: () => asJson(table()) });
  parent.append(bar);
};
