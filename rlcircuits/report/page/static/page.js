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

// Draws a pair when it is first unfolded: a release of 50 pairs opens as quickly as one of two.
rl.show = async pair => {
  if (pair.dataset.drawn) {
    rl.redraw.forEach(draw => draw());
    return;
  }
  pair.dataset.drawn = "begun";
  const data = await rl.unpack(pair.querySelector(".payload").textContent);
  rl.questions(pair, data);
  if (data.edges) {
    const edges = rl.edges(data.edges);
    rl.heat(pair, edges);
    rl.circuit(pair, edges);
  }
  pair.dataset.drawn = "yes";
};

// Unfolds what the address names, and goes there.
rl.reveal = async () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1))), pair = target && target.closest("article.pair");
  const fold = pair && pair.querySelector(":scope > details");
  if (!fold || fold.open) return;
  fold.open = true;
  await rl.show(pair);
  target.scrollIntoView();
};

(function folds() {
  const button = document.getElementById("fold"), all = [...document.querySelectorAll("details.pair-fold")];
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const open = all.some(each => !each.open);
    all.forEach(each => { each.open = open; });
    button.textContent = open ? "Fold all pairs" : "Unfold all pairs";
    button.setAttribute("aria-pressed", open);
  });
  // A second press on a link to a pair that was folded since: the address does not change.
  addEventListener("click", event => {
    const link = event.target.closest && event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) rl.reveal();
  });
})();

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

// Folded pairs stay folded on paper; what an open pair folds is printed.
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.pair-fold)").forEach(each => { each.open = true; }));

addEventListener("DOMContentLoaded", async () => {
  if (typeof DecompressionStream === "undefined") {
    const text = "This browser is too old for the heat maps, the circuit and the details of a question (2023 or later).";
    document.getElementById("main").prepend(rl.make("p", text, "missing"));
    return;
  }
  for (const pair of document.querySelectorAll("article.pair")) {
    const fold = pair.querySelector(":scope > details");
    if (fold) fold.addEventListener("toggle", () => { if (fold.open) rl.show(pair); });
    if (!fold || fold.open) await rl.show(pair);
  }
  addEventListener("hashchange", rl.reveal);
  await rl.reveal();
  document.documentElement.dataset.ready = "yes";
});
