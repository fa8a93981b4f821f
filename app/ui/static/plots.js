// SPDX-License-Identifier: Apache-2.0
// What a plot can do beyond drawing: leave the page as a picture, and open what a point stands for.
(() => {
  // on a phone a plot is narrow; its picture is not
  const WIDTH = 960;

  const token = (name) =>
    getComputedStyle(document.querySelector(".gradio-container")).getPropertyValue(name).trim();

  // the page colours type by CSS, which a picture does not take along
  const inPageColours = (graph) => ({
    data: graph.data,
    layout: {
      ...graph.layout,
      autosize: false,
      paper_bgcolor: token("--card"),
      font: { ...graph.layout.font, color: token("--ink") },
    },
  });

  const take = async (button) => {
    const graph = document.querySelector(`#${button.dataset.plot} .js-plotly-plot`);
    if (!graph || !window.Plotly) return;
    const format = button.dataset.format;
    const size = { width: Math.max(WIDTH, graph.offsetWidth), height: graph.offsetHeight };
    const address = await window.Plotly.toImage(inPageColours(graph), {
      format,
      ...size,
      scale: format === "png" ? 2 : 1,
    });
    const link = document.createElement("a");
    link.href = address;
    link.download = `${button.dataset.file}.${format}`;
    link.click();
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[data-plot][data-format]");
    if (button) take(button);
  });

  // a point whose customdata is an address of this site is a link
  const addressOf = (event) => {
    const data = event.points[0]?.customdata;
    return typeof data === "string" && data.startsWith("/") ? data : null;
  };

  document.addEventListener("pointerover", (event) => {
    const graph = event.target.closest?.(".js-plotly-plot");
    if (!graph || graph.dataset.opens || !graph.on) return;
    graph.dataset.opens = "yes";
    const point = (is) => {
      const layer = graph.querySelector(".nsewdrag");
      if (layer) layer.style.cursor = is ? "pointer" : "";
    };
    graph.on("plotly_click", (clicked) => {
      const address = addressOf(clicked);
      if (address) window.location.href = address;
    });
    graph.on("plotly_hover", (hovered) => point(addressOf(hovered) !== null));
    graph.on("plotly_unhover", () => point(false));
  });
})();
