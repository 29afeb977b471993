// The plots of questions: the dot under the pointer, or chosen with the arrow keys, shows its question and answers.
rl.questions = (pair, data) => {
  const panel = pair.querySelector(".chosen-question"), plots = [...pair.querySelectorAll("svg.paired")];
  const left = 46, right = 312, top = 8, bottom = 262;
  let chosen = -1;

  function place(plot, question) {
    const values = data.metrics[plot.dataset.metric], low = Number(plot.dataset.low), high = Number(plot.dataset.high);
    const before = values.before[question], after = values.after[question];
    if (before === null || after === null || before === undefined) return null;
    return [left + (right - left) * (before - low) / (high - low), bottom + (top - bottom) * (after - low) / (high - low)];
  }

  function show(question, metric) {
    chosen = question;
    for (const plot of plots) {
      const at = place(plot, question) || [-20, -20], ring = plot.querySelector(".chosen");
      ring.setAttribute("cx", at[0]);
      ring.setAttribute("cy", at[1]);
    }
    const values = data.metrics[metric], before = values.before[question], after = values.after[question];
    const text = data.texts[question];
    const parts = [rl.make("p", data.questions[question], "chosen-name"), ...(text ? [rl.make("pre", text, "question")] : []), rl.make("p", `${values.label}: ${rl.number(before)} → ${rl.number(after)} (${rl.signed(after - before)})`, "small")];
    const answers = data.answers[question], sides = rl.make("div", undefined, "two");
    if (answers) {
      ["before", "after"].forEach((side, which) => {
        const [text, grade, right] = answers[which], one = rl.make("div"), head = rl.make("p", undefined, "small");
        head.append(rl.make("strong", side), `: ${right ? "✓" : "✗"} ${grade}`);
        one.append(head, rl.make("pre", text));
        sides.append(one);
      });
      parts.push(sides);
    } else {
      parts.push(rl.make("p", "The answers are not stored beside the comparison.", "muted small"));
    }
    panel.replaceChildren(...parts);
  }

  for (const plot of plots) {
    const metric = plot.dataset.metric;
    const known = data.questions.map((_, question) => question).filter(question => place(plot, question));
    const ordered = [...known].sort((a, b) => place(plot, a)[0] - place(plot, b)[0]);
    function nearest(event) {
      const box = plot.getBoundingClientRect(), x = (event.clientX - box.left) * 320 / box.width, y = (event.clientY - box.top) * 300 / box.height;
      let best = -1, least = 400;
      for (const question of known) {
        const [px, py] = place(plot, question), far = (px - x) ** 2 + (py - y) ** 2;
        if (far < least) { best = question; least = far; }
      }
      return best;
    }
    const point = event => {
      const question = nearest(event);
      if (question >= 0 && question !== chosen) show(question, metric);
    };
    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerdown", point);
    plot.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!step || !ordered.length) return;
      event.preventDefault();
      const here = ordered.indexOf(chosen);
      show(ordered[here < 0 ? 0 : (here + step + ordered.length) % ordered.length], metric);
    });
  }
};
