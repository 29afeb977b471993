// The circuit: components by layer from top to bottom, and the strongest edges between them.
rl.circuit = (pair, edges) => {
  const svg = pair.querySelector("svg.circuit"), section = svg.closest("section"), readout = section.querySelector(".readout");
  const slider = section.querySelector(".circuit-size"), count = section.querySelector(".circuit-count"), by = section.querySelector(".circuit-by");
  const space = "http://www.w3.org/2000/svg", nodeWidth = 62, nodeHeight = 20, rowHeight = 46;
  const ranks = {
    either: edge => Math.max(Math.abs(edge.before), Math.abs(edge.after)),
    before: edge => Math.abs(edge.before),
    after: edge => Math.abs(edge.after),
    change: edge => Math.abs(edge.change),
  };
  // attn.3.h2.q belongs to attn.3.h2; mlp.3 and logits are their own.
  const node = reader => reader.replace(/\.[qkv]$/, "");
  const port = reader => (/\.[qkv]$/.test(reader) ? reader.slice(-1) : "");
  const step = name => (name === "embed" ? -1 : name === "logits" ? Infinity : 2 * Number(name.split(".")[1]) + (name.startsWith("mlp") ? 1 : 0));

  function element(tag, attributes, text) {
    const made = document.createElementNS(space, tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function draw() {
    const rank = ranks[by.value], shown = [...edges.list].sort((a, b) => rank(b) - rank(a)).slice(0, Number(slider.value));
    count.textContent = `${shown.length} of ${edges.list.length}`;
    const names = new Set(["embed", "logits"]);
    shown.forEach(edge => { names.add(edges.writers[edge.row]); names.add(node(edges.readers[edge.column])); });
    const rows = new Map();
    [...names].sort((a, b) => step(a) - step(b)).forEach(name => rows.set(step(name), [...(rows.get(step(name)) || []), name]));
    const widest = Math.max(...[...rows.values()].map(row => row.length));
    const width = Math.max(svg.parentElement.clientWidth - 2, 60 + widest * (nodeWidth + 10)), height = rows.size * rowHeight + 20;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.style.width = `${width}px`;
    svg.style.height = `${height}px`;
    const at = new Map(), boxes = element("g", {}), lines = element("g", {});
    [...rows.values()].forEach((row, down) => {
      row.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
      row.forEach((name, place) => {
        // Attention stands left of the middle and the MLP right, so that edges along the stream do not hide each other.
        const shift = row.length > 1 ? 0 : name.startsWith("attn") ? -0.17 : name.startsWith("mlp") ? 0.17 : 0;
        const x = 30 + (width - 60) * (row.length > 1 ? (place + 0.5) / row.length : 0.5 + shift), y = 12 + down * rowHeight;
        at.set(name, [x, y]);
        boxes.append(element("rect", { x: x - nodeWidth / 2, y, width: nodeWidth, height: nodeHeight, rx: 4 }), element("text", { x, y: y + 14 }, name));
      });
    });
    const most = Math.max(...shown.map(rank), 1e-30);
    shown.reverse().forEach(edge => {
      const writer = edges.writers[edge.row], reader = edges.readers[edge.column], side = { q: -18, k: 0, v: 18 }[port(reader)] || 0;
      const [x0, y0] = at.get(writer), [x1, y1] = at.get(node(reader)), from = y0 + nodeHeight, to = y1, end = x1 + side;
      const bend = Math.max(14, (to - from) * 0.45), out = (to - from > rowHeight ? 1 : 0) * (Math.sign(end - x0) || (edge.column % 2 ? 1 : -1)) * Math.min(width * 0.3, (to - from) * 0.25);
      const relative = Math.abs(edge.change) / (Math.max(Math.abs(edge.before), Math.abs(edge.after)) || 1);
      const path = element("path", {
        d: `M${x0} ${from}C${x0 + out} ${from + bend} ${end + out} ${to - bend} ${end} ${to}`,
        "stroke-width": Math.max(0.8, 7 * rank(edge) / most).toFixed(2),
        class: relative < 0.1 ? "same" : edge.change > 0 ? "rose" : "fell",
      });
      path.append(element("title", {}, edges.describe(edge)));
      path.addEventListener("pointerenter", () => { readout.textContent = edges.describe(edge); });
      lines.append(path);
      if (port(reader)) boxes.append(element("text", { x: end, y: to - 2, class: "port" }, port(reader)));
    });
    svg.replaceChildren(lines, boxes);
  }

  slider.max = Math.min(200, edges.list.length);
  slider.value = Math.min(20, edges.list.length);
  slider.addEventListener("input", draw);
  by.addEventListener("change", draw);
  rl.redraw.push(() => { if (section.clientWidth) draw(); });
  draw();
};
