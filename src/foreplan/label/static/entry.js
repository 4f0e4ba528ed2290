// How an action is entered: sliders, boxes and a pad where it is continuous, buttons where it is discrete.

const STEPS = { small: 0.01, normal: 0.05, large: 0.25 };
const clip = (value) => Math.min(1, Math.max(-1, Math.round(value * 1000) / 1000 || 0));

export function element(name, attributes = {}, ...children) {
  const space = ["svg", "circle", "line", "path"].includes(name) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const made = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function makeEntry(space, place, decided) {
  return space.kind === "discrete" ? new Choice(space.names, place, decided) : new Motors(space.names, place);
}

class Motors {
  constructor(names, place) {
    this.values = names.map(() => 0);
    this.chosen = 0;
    this.rows = names.map((name, index) => this.makeRow(name, index));
    place.classList.toggle("many", names.length > 3);
    place.append(element("p", { class: "legend" }), ...this.rows.map((row) => row.whole));
    this.legend = place.querySelector(".legend");
    this.pad = names.length > 1 ? new Pad(place, (values) => values.forEach((value, i) => this.set(this.pair[i], value))) : null;
    this.names = names;
    this.choose(0);
  }

  makeRow(name, index) {
    const label = element("label", { title: name, for: `motor-${index}` }, name);
    const slider = element("input", { type: "range", min: -1, max: 1, step: 0.01, tabindex: -1, "aria-label": name });
    const box = element("input", { type: "number", min: -1, max: 1, step: 0.05, id: `motor-${index}` });
    const track = element("div", { class: "track" }, element("i"), slider);
    const whole = element("div", { class: "motor" }, label, track, box);
    slider.addEventListener("input", () => this.set(index, Number(slider.value)));
    box.addEventListener("input", () => this.set(index, box.value === "" ? NaN : Number(box.value), true));
    whole.addEventListener("pointerdown", () => this.choose(index));
    return { whole, slider, box, track };
  }

  // Two motors at once, for the pad: the chosen one and the next.
  get pair() {
    const first = Math.min(this.chosen, this.values.length - 2);
    return [first, first + 1];
  }

  choose(index) {
    this.chosen = Math.min(this.values.length - 1, Math.max(0, index));
    this.rows.forEach((row, i) => row.whole.classList.toggle("chosen", i === this.chosen && this.rows.length > 1));
    this.rows[this.chosen].whole.scrollIntoView({ block: "nearest" });
    this.drawPad();
  }

  set(index, value, fromBox = false) {
    const row = this.rows[index];
    if (!fromBox) value = clip(value);
    this.values[index] = value; // what was typed stays as it is: if it is no action, the server says why
    if (!fromBox) row.box.value = value.toFixed(2);
    row.slider.value = value;
    const share = (50 * (Math.min(1, Math.max(-1, value || 0)) + 1));
    row.track.style.setProperty("--from", `${Math.min(50, share)}%`);
    row.track.style.setProperty("--to", `${100 - Math.max(50, share)}%`);
    this.drawPad();
  }

  show(proposals, values = proposals.policy) {
    this.proposals = proposals;
    this.legend.replaceChildren(...Object.keys(proposals).map((who) => element("span", { class: who }, `the ${who}'s action`)));
    this.rows.forEach((row, index) => {
      row.track.querySelectorAll(".mark").forEach((mark) => mark.remove());
      for (const [who, action] of Object.entries(proposals)) {
        const mark = element("span", { class: `mark ${who}` });
        mark.style.left = `calc(10px + (100% - 20px) * ${(action[index] + 1) / 2})`;
        row.track.prepend(mark);
      }
    });
    values.forEach((value, index) => this.set(index, value));
  }

  drawPad() {
    if (!this.pad || !this.names) return;
    const [a, b] = this.pair;
    this.pad.draw([this.values[a], this.values[b]], this.proposals && [this.proposals.policy[a], this.proposals.policy[b]]);
    this.pad.words.textContent = `${this.names[a]} across, ${this.names[b]} up`;
  }

  key(event) {
    const step = event.shiftKey ? STEPS.large : event.altKey ? STEPS.small : STEPS.normal;
    const value = this.values[this.chosen] || 0;
    const moves = {
      ArrowRight: () => this.set(this.chosen, value + step),
      ArrowLeft: () => this.set(this.chosen, value - step),
      ArrowDown: () => this.choose(this.chosen + 1),
      ArrowUp: () => this.choose(this.chosen - 1),
      End: () => this.set(this.chosen, 1),
      Home: () => this.set(this.chosen, -1),
      "0": () => this.set(this.chosen, 0),
      "-": () => this.set(this.chosen, -value),
    };
    moves[event.key]?.();
    return event.key in moves;
  }

  stick(axes) {
    axes.slice(0, this.values.length).forEach((value, index) => this.set(index, index % 2 ? -value : value)); // up is plus
  }

  get action() {
    return [...this.values];
  }
}

class Pad {
  constructor(place, moved) {
    this.words = element("span");
    this.svg = element("svg", { viewBox: "-1.25 -1.25 2.5 2.5", role: "img", "aria-label": "two motors at once" });
    this.proposal = element("circle", { class: "proposal", r: 0.09, "vector-effect": "non-scaling-stroke" });
    this.dot = element("circle", { class: "dot", r: 0.1 });
    const cross = { class: "cross", "vector-effect": "non-scaling-stroke" };
    this.svg.append(
      element("line", { ...cross, x1: -1.25, x2: 1.25, y1: 0, y2: 0 }),
      element("line", { ...cross, y1: -1.25, y2: 1.25, x1: 0, x2: 0 }),
      this.proposal,
      this.dot,
    );
    place.append(element("div", { class: "pad" }, element("span"), this.svg, this.words));
    const move = (event) => {
      const box = this.svg.getBoundingClientRect();
      moved([2.5 * ((event.clientX - box.left) / box.width - 0.5), -2.5 * ((event.clientY - box.top) / box.height - 0.5)]);
    };
    this.svg.addEventListener("pointerdown", (event) => (this.svg.setPointerCapture(event.pointerId), move(event)));
    this.svg.addEventListener("pointermove", (event) => event.buttons && move(event));
  }

  draw(values, proposal) {
    for (const [circle, at] of [[this.dot, values], [this.proposal, proposal]]) {
      circle.setAttribute("cx", at?.[0] || 0);
      circle.setAttribute("cy", -(at?.[1] || 0));
    }
  }
}

class Choice {
  constructor(names, place, decided) {
    this.decided = decided;
    this.chosen = 0;
    this.rows = names.map((name, index) => {
      const row = element("button", { class: "choice" }, element("kbd", {}, String(index + 1)), name);
      row.addEventListener("click", (event) => event.detail < 2 && (this.choose(index), decided()));
      return row;
    });
    place.append(...this.rows);
  }

  choose(index) {
    this.chosen = (index + this.rows.length) % this.rows.length;
    this.rows.forEach((row, i) => row.classList.toggle("chosen", i === this.chosen));
    this.rows[this.chosen].scrollIntoView({ block: "nearest" });
  }

  show(proposals, values = proposals.policy) {
    this.rows.forEach((row, index) => {
      row.querySelectorAll("em").forEach((mark) => mark.remove());
      for (const [who, action] of Object.entries(proposals)) {
        if (action.indexOf(Math.max(...action)) === index) row.append(element("em", { class: who }, who));
      }
    });
    this.choose(values.indexOf(Math.max(...values)));
  }

  key(event) {
    const number = Number(event.key) - 1;
    if (event.key === "ArrowDown" || event.key === "ArrowRight") this.choose(this.chosen + 1);
    else if (event.key === "ArrowUp" || event.key === "ArrowLeft") this.choose(this.chosen - 1);
    else if (event.key !== " " && number >= 0 && number < this.rows.length) {
      if (!event.repeat) this.choose(number), this.decided();
    } else return false;
    return true;
  }

  stick(axes, buttons) {
    if (buttons[14] || buttons[12]) this.choose(this.chosen - 1);
    if (buttons[15] || buttons[13]) this.choose(this.chosen + 1);
  }

  get action() {
    return this.rows.map((_, index) => (index === this.chosen ? 1 : 0));
  }
}
