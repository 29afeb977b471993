"use strict";
// The theme, what is packed for each pair, and printing. Texts from outside are set with textContent only.
const rl = {
  colour: name => getComputedStyle(document.documentElement).getPropertyValue(name).trim(),
  // Functions that draw again when the theme or the width changes.
  redraw: [],
  // Element with a class and a text.
  make(tag, text, name) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  },
  number: value => (value === null || Number.isNaN(value) ? "–" : Number(value.toPrecision(3)).toString().replace("-", "−")),
  signed: value => (value > 0 ? "+" : "") + rl.number(value),
  async unpack(text) {
    const bytes = Uint8Array.from(atob(text.trim()), each => each.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  },
};

(function theme() {
  const button = document.getElementById("theme"), order = ["system", "light", "dark"];
  let chosen = "system";
  try { chosen = localStorage.getItem("rlcircuits-theme") || "system"; } catch { /* not kept */ }
  if (!order.includes(chosen)) chosen = "system";
  function show() {
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    button.lastElementChild.textContent = chosen;
    rl.redraw.forEach(draw => draw());
  }
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = order[(order.indexOf(chosen) + 1) % order.length];
    try { localStorage.setItem("rlcircuits-theme", chosen); } catch { /* not kept */ }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  let width = innerWidth, wait = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(wait);
    wait = setTimeout(() => rl.redraw.forEach(draw => draw()), 100);
  });
  show();
})();

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(each => { each.open = true; }));

addEventListener("DOMContentLoaded", async () => {
  if (typeof DecompressionStream === "undefined") {
    const text = "This browser is too old for the heat maps, the circuit and the details of a question (2023 or later).";
    document.getElementById("main").prepend(rl.make("p", text, "missing"));
    return;
  }
  for (const pair of document.querySelectorAll("article.pair")) {
    const data = await rl.unpack(pair.querySelector(".payload").textContent);
    rl.questions(pair, data);
    if (data.edges) {
      const edges = rl.edges(data.edges);
      rl.heat(pair, edges);
      rl.circuit(pair, edges);
    }
  }
  document.documentElement.dataset.ready = "yes";
});
