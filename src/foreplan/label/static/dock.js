// Retraining: asked for here, seen here while it goes on, accepted or not.

import { picture } from "./api.js";
import { element } from "./entry.js";
import { play } from "./film.js";

const number = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(1));

// A mean return and, where it is known, its interval.
export function returned({ mean, low, high }) {
  const text = low === null ? number(mean) : `${number(mean)} <small>${number(low)} to ${number(high)}</small>`;
  return text.replaceAll("-", "−");
}

export class Dock {
  constructor(place, act) {
    this.place = place;
    this.act = act; // { retrain, accept, discard, watch(films) }
    this.seen = "";
    this.films = null; // of the last retraining, once it is done
  }

  show(status) {
    const seen = JSON.stringify([status.retraining, status.done, status.policy]);
    if (seen === this.seen) return;
    this.seen = seen;
    const attempt = status.retraining;
    this.films = null;
    if (!attempt) this.idle(status);
    else if (attempt.phase === "ready") this.ready(attempt, status.policy);
    else if (attempt.phase === "failed") this.failed(attempt);
    else this.busy(attempt);
  }

  button(text, key, action, kind = "") {
    const made = element("button", { class: kind }, text, element("kbd", {}, key));
    made.addEventListener("click", (event) => event.detail < 2 && action());
    return made;
  }

  words(title, text) {
    return element("div", {}, element("h3", {}, title), element("p", {}, text));
  }

  idle(status) {
    const many = status.done === 1 ? "1 label" : `${status.done} labels`;
    const learn = this.button("Retrain", "R", this.act.retrain);
    learn.disabled = !status.done;
    const said = status.done ? `It learns from ${many} while you go on. You decide whether it replaces the policy.` : "After some labels it can learn from them, while you go on.";
    this.place.replaceChildren(this.words("Retraining", said), element("div", { class: "side" }, learn));
  }

  busy(attempt) {
    const last = attempt.curve.at(-1);
    const doing = attempt.phase === "fitting" ? (last ? `error ${last[1].toPrecision(3)}` : "beginning") : "playing episodes with it";
    this.place.replaceChildren(this.words(`Learning from ${attempt.labels} labels`, doing), curve(attempt.curve));
  }

  failed(attempt) {
    const close = this.button("Close", "N", this.act.discard);
    this.place.replaceChildren(this.words("Retraining failed", attempt.error), element("div", { class: "side" }, close));
  }

  async ready(attempt, policy) {
    const sure = attempt.better === null ? "" : `better with ${Math.round(100 * attempt.better)} % confidence`;
    const words = element("div", {}, element("h3", {}, "A new policy"), element("dl"), element("p", {}, sure));
    for (const name of ["before", "after"]) {
      const value = element("dd");
      value.innerHTML = returned(attempt[name]); // numbers only
      words.querySelector("dl").append(element("dt", {}, name), value);
    }
    const accept = this.button("Accept", "Y", this.act.accept, "primary");
    const discard = this.button("Discard", "N", this.act.discard);
    const side = element("div", { class: "side" }, accept, discard);
    const films = ["before", "after"].map((name) => element("figure", {}, element("canvas"), element("figcaption", {}, name)));
    this.place.replaceChildren(words, curve(attempt.curve), ...films, side);
    const seen = {};
    for (const [index, name] of ["before", "after"].entries()) {
      const strip = await picture(`/api/film/${name}?of=${policy}-${attempt.labels}-${attempt.after.mean}`);
      play(films[index].querySelector("canvas"), strip, attempt.frames[name]);
      seen[name] = { strip, frames: attempt.frames[name], return: attempt[name].mean };
    }
    this.films = seen;
    films.forEach((film) => film.addEventListener("click", () => this.act.watch(seen)));
  }
}

function curve(points) {
  const svg = element("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": "error on held-out labels" });
  svg.append(element("line", { x1: 0, x2: 100, y1: 100, y2: 100 }));
  if (points.length < 2) return svg;
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const [x0, x1] = [xs[0], xs.at(-1)], [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  const at = ([x, y]) => `${(100 * (x - x0)) / (x1 - x0 || 1)} ${96 - (92 * (y - y0)) / (y1 - y0 || 1)}`;
  svg.append(element("path", { d: `M${points.map(at).join("L")}` }));
  return svg;
}
