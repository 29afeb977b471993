// The edges, unpacked, and their three heat maps: writers down, readers across, one colour scale.
rl.edges = packed => {
  const { writers, readers, unit } = packed, list = [];
  let place = 0;
  packed.steps.forEach((step, which) => {
    place += step;
    list.push({
      row: Math.floor(place / readers.length), column: place % readers.length,
      before: packed.before[which] * unit, after: packed.after[which] * unit,
      change: (packed.after[which] - packed.before[which]) * unit,
    });
  });
  const at = new Map(list.map(edge => [edge.row * readers.length + edge.column, edge]));
  const largest = Math.max(1e-30, ...["before", "after", "change"].map(which => list.reduce((most, edge) => Math.max(most, Math.abs(edge[which])), 0)));
  const layer = name => (name.includes(".") ? Number(name.split(".")[1]) : name === "embed" ? -1 : Infinity);
  const describe = edge => `${writers[edge.row]} → ${readers[edge.column]}: ${rl.signed(edge.before)} before, ${rl.signed(edge.after)} after, change ${rl.signed(edge.change)} nats`;
  return { writers, readers, list, at, largest, layer, describe };
};

rl.heat = (pair, edges) => {
  const { writers, readers } = edges, canvases = [...pair.querySelectorAll("canvas.heat")], margin = { left: 44, top: 24 };
  const section = canvases[0].closest("section"), readout = section.querySelector(".readout");
  let cell = 0, chosen = null;

  const channels = colour => [1, 3, 5].map(start => parseInt(colour.slice(start, start + 2), 16));
  // Square root: most edges are far smaller than the largest, and would all be white.
  const strength = value => Math.sqrt(Math.min(1, Math.abs(value) / edges.largest));

  function draw() {
    const expand = colour => (colour.length === 4 ? "#" + [...colour.slice(1)].map(each => each + each).join("") : colour);
    const page = channels(expand(rl.colour("--page"))), rose = channels(rl.colour("--rose")), fell = channels(rl.colour("--fell"));
    if (!cell) cell = Math.max(3, Math.min(28, Math.floor((canvases[0].parentElement.clientWidth - margin.left - 6) / readers.length)));
    for (const canvas of canvases) {
      const width = margin.left + cell * readers.length + 4, height = margin.top + cell * writers.length + 4, ratio = Math.min(devicePixelRatio || 1, 2);
      canvas.width = width * ratio;
      canvas.height = height * ratio;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      const context = canvas.getContext("2d");
      context.scale(ratio, ratio);
      context.fillStyle = rl.colour("--panel");
      context.fillRect(margin.left, margin.top, cell * readers.length, cell * writers.length);
      for (const edge of edges.list) {
        const value = edge[canvas.dataset.which], share = strength(value), to = value > 0 ? rose : fell;
        context.fillStyle = `rgb(${page.map((from, which) => Math.round(from + (to[which] - from) * share)).join(",")})`;
        context.fillRect(margin.left + edge.column * cell, margin.top + edge.row * cell, cell, cell);
      }
      label(context, readers, true);
      label(context, writers, false);
      if (chosen) {
        context.strokeStyle = rl.colour("--text");
        context.lineWidth = 2;
        context.strokeRect(margin.left + chosen.column * cell, margin.top + chosen.row * cell, cell, cell);
      }
    }
    section.querySelector(".heat-scale").textContent = `full colour: ±${rl.number(edges.largest)} nats; the strength of the colour is the square root of |score|`;
  }

  function label(context, names, across) {
    context.fillStyle = rl.colour("--muted");
    context.font = "10px system-ui, sans-serif";
    context.textAlign = across ? "left" : "right";
    let last = null, free = -Infinity;
    names.forEach((name, which) => {
      const layer = edges.layer(name);
      if (layer === last) return;
      last = layer;
      const text = layer === -1 ? "embed" : layer === Infinity ? "logits" : `L${layer}`, at = which * cell;
      const needs = across ? context.measureText(text).width + 4 : 11;
      if (at < free) return;
      free = at + needs;
      if (across) context.fillText(text, Math.min(margin.left + at, margin.left + cell * names.length - needs + 6), margin.top - 6);
      else context.fillText(text, margin.left - 4, margin.top + at + Math.max(8, Math.min(cell, 12)));
    });
  }

  function show(edge) {
    if (!edge || edge === chosen) return;
    chosen = edge;
    readout.textContent = edges.describe(edge);
    draw();
  }

  for (const canvas of canvases) {
    const find = event => {
      const box = canvas.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left - margin.left) / cell), row = Math.floor((event.clientY - box.top - margin.top) / cell);
      if (column >= 0 && column < readers.length && row >= 0) show(edges.at.get(row * readers.length + column));
    };
    canvas.addEventListener("pointermove", find);
    canvas.addEventListener("pointerdown", find);
    canvas.parentElement.addEventListener("keydown", event => {
      const [down, across] = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key] || [0, 0];
      if (!down && !across) return;
      event.preventDefault();
      if (!chosen) { show(edges.list[0]); return; }
      for (let row = chosen.row + down, column = chosen.column + across; row >= 0 && column >= 0 && row < writers.length && column < readers.length; row += down, column += across) {
        const edge = edges.at.get(row * readers.length + column);
        if (edge) { show(edge); break; }
      }
    });
  }
  section.querySelectorAll("[data-zoom]").forEach(button => button.addEventListener("click", () => {
    cell = Math.max(1, Math.min(40, button.dataset.zoom > 0 ? Math.ceil(cell * 1.4) : Math.floor(cell / 1.4)));
    draw();
  }));
  rl.redraw.push(() => { if (section.clientWidth) draw(); });
  draw();
};
