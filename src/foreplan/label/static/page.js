// The page: what is on the screen, and what every key and button does.

import { Refused, ask, newId, picture } from "./api.js";
import { Dock, returned } from "./dock.js";
import { element, makeEntry } from "./entry.js";
import { play, stop } from "./film.js";
import { watchGamepad } from "./gamepad.js";
import { Outbox } from "./outbox.js";
import { Supply } from "./supply.js";

const $ = (id) => document.getElementById(id);
const page = (sessionStorage.page ??= newId()); // this tab
const timings = []; // milliseconds from an answer to the next state on the screen
const past = JSON.parse(sessionStorage.past ?? "[]"); // what was answered here, for undo: [{id, state, action}]
let hello, entry, supply, outbox, dock, shownAt, hold, status;

// ---------------------------------------------------------------- one state after another
function show(state, values) {
  closeCompare();
  $("empty").hidden = state !== null;
  if (state === null) return sayEmpty();
  $("frame").replaceChildren(state.image);
  play($("clip").querySelector("canvas"), state.strip, state.frames);
  $("place").textContent = `episode ${state.episode + 1}, decision ${state.time}, ${state.seconds.toFixed(2)} s`;
  $("obs").tBodies[0].replaceChildren(...state.obs.map(observation));
  $("obs").classList.toggle("scalars", state.obs.every((part) => part.values.length === 1));
  entry.show(state.proposals, values);
  shownAt = performance.now();
}

function observation({ name, values, unit }) {
  const text = (value) => (Math.abs(value) >= 1000 ? value.toPrecision(4) : value.toFixed(values.length > 1 ? 2 : 3)).replace("-", "−");
  const numbers = values.map((value, index) => element("span", { title: `${name}[${index}] ${value}` }, text(value)));
  return element("tr", {}, element("th", { scope: "row", title: name }, name), element("td", {}, ...numbers, ...(unit ? [element("small", {}, unit)] : [])));
}

function next() {
  const asked = performance.now();
  const state = supply.take();
  show(state);
  if (state) requestAnimationFrame(() => setTimeout(() => timings.push(performance.now() - asked))); // it is painted
}

function sayEmpty() {
  const done = status && status.left === 0 && !outbox.items.length;
  const more = hello.retrains ? "\nRetrain with R: a new policy visits new states." : "";
  $("empty").textContent = done ? `All states of this policy are labelled.${more}` : "The next state is being drawn …";
}

function answer(verdict, action = null) {
  const state = supply.current;
  if (!state) return;
  const id = newId();
  const seconds = (performance.now() - shownAt) / 1000;
  outbox.add("answer", { id, verdict, action, seconds, page, who: localStorage.who || "someone", state: state.id, policy: state.policy });
  past.push({ id, action, state });
  remember();
  count(1);
  next();
}

async function undo() {
  const last = past.pop();
  if (!last) return toast("There is nothing to take back.");
  remember();
  outbox.add("undo", { undo: last.id, page, state: last.state.id });
  count(-1);
  supply.putBack(supply.current);
  supply.current = last.state;
  if (!last.state.image) await supply.draw(last.state); // the page was reloaded meanwhile
  if (supply.current === last.state) show(last.state, last.action ?? undefined);
}

function remember() {
  past.splice(0, past.length - 20);
  sessionStorage.past = JSON.stringify(past, (key, value) => (key === "image" || key === "strip" ? undefined : value));
}

// ---------------------------------------------------------------- looking ahead
async function preview() {
  const state = supply.current;
  if (!state) return;
  toast("Looking ahead …", 20_000);
  try {
    const found = await ask("preview", { state: state.id, policy: state.policy, action: entry.action, hold });
    if (supply.current === state) await compare(found);
    $("toast").hidden = true;
  } catch (error) {
    toast(error instanceof Refused ? error.message : "The server cannot be reached; labels are kept here.");
  }
}

// Two films side by side, each { strip, frames, return }.
function beside(yours, policy, titles, verdict) {
  for (const [film, figure, title] of [[yours, ".yours", titles[0]], [policy, ".policy", titles[1]]]) {
    const value = element("b", {}, film.return.toFixed(2).replace("-", "−"));
    document.querySelector(`#compare ${figure} figcaption`).replaceChildren(title, value);
    play(document.querySelector(`#compare ${figure} canvas`), film.strip, film.frames);
  }
  $("verdict").textContent = verdict;
  $("compare").hidden = false;
}

async function compare(found) {
  for (const who of ["label", "policy"]) found[who].strip = await picture(found[who].strip);
  const end = (film) => (film.ended ? ", then the episode ended" : "");
  const titles = [`Your action${end(found.label)}`, `The policy's${end(found.policy)}`];
  const held = (hold * hello.decision).toFixed(2);
  const gain = found.label.return - found.policy.return;
  const says = Math.abs(gain) < 0.005 ? "both return the same" : `yours returns ${Math.abs(gain).toFixed(2)} ${gain > 0 ? "more" : "less"}`;
  const verdict = `In the next ${hello.ahead} s ${says}. It is held for ${held} s ([ ] change that), then the policy goes on.`;
  beside(found.label, found.policy, titles, verdict);
}

function watch(films = dock.films) {
  if (!films) return toast("There is no new policy to watch.");
  beside(films.after, films.before, ["After", "Before"], "The same beginning, the first seconds; mean returns of evaluation episodes.");
}

function closeCompare() {
  $("compare").hidden = true;
  document.querySelectorAll("#compare canvas").forEach(stop);
}

function holdFor(decisions) {
  hold = Math.min(Math.max(1, decisions), Math.round(hello.ahead / hello.decision));
  if (!$("compare").hidden) preview();
}

// ---------------------------------------------------------------- numbers, always shown
function count(change) {
  if (!status) return;
  status.left -= change;
  $("left").textContent = status.left;
}

async function refresh() {
  try {
    const fresh = await ask("status");
    if (status && fresh.policy !== status.policy) {
      toast("A new policy is in charge; these are states that it visits.");
      supply.forget();
      show(null);
    }
    status = fresh;
    const waiting = outbox.items.length;
    $("done").textContent = status.done;
    $("left").textContent = Math.max(0, status.left - waiting);
    $("seconds").textContent = status.seconds === null ? "–" : `${status.seconds.toFixed(1)} s`;
    $("agreement").textContent = status.agreement === null ? "–" : `${Math.round(100 * status.agreement)} %`;
    $("return").innerHTML = status.return ? returned(status.return) : "–";
    $("run").textContent = `${hello.run}, ${status.policy}`;
    dock.show(status);
    if (!supply.current) sayEmpty();
  } catch { /* said by whoever needs the server more */ }
  setTimeout(refresh, status?.retraining ? 400 : 1000);
}

let silence;
function toast(text, milliseconds = 4500) {
  clearTimeout(silence);
  $("toast").textContent = text;
  $("toast").hidden = false;
  silence = setTimeout(() => ($("toast").hidden = true), milliseconds);
}

function offline(isOffline, reason = "") {
  const waiting = outbox?.items.length ?? 0;
  const kept = waiting ? ` ${waiting} label${waiting === 1 ? " is" : "s are"} kept here and sent later.` : "";
  $("offline").textContent = reason || `The server cannot be reached.${kept}`;
  $("offline").hidden = !isOffline;
}

// ---------------------------------------------------------------- keys and buttons
const order = (name) => () => ask(name, {}).catch((error) => toast(error.message));
const actions = {
  label: () => answer("label", entry.action),
  accept: () => supply.current && answer("label", supply.current.proposals.policy),
  planner: () => supply.current?.proposals.planner && entry.show(supply.current.proposals, supply.current.proposals.planner),
  skip: () => answer("skip"),
  bad: () => answer("bad"),
  undo,
  preview,
  help: () => $("keys").showModal(),
  theme: () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  retrain: order("retrain"),
  watch: () => watch(),
  take: order("accept"),
  discard: order("discard"),
};
const KEYS = {
  Enter: ["label", "label with the action that is set"],
  a: ["accept", "the policy's own action is right"],
  m: ["planner", "take the planner's action"],
  p: ["preview", "look a second ahead"],
  s: ["skip", "skip: I do not know"],
  b: ["bad", "bad state: learn nothing from it"],
  u: ["undo", "take the last answer back"],
  r: ["retrain", "retrain"],
  v: ["watch", "watch the policies before and after"],
  y: ["take", "accept the new policy"],
  n: ["discard", "discard the new policy"],
  t: ["theme", "light or dark"],
  "?": ["help", "this"],
};
const ENTRY_KEYS = {
  continuous: { "↑ ↓": "choose a motor", "← →": "change it by 0.05; with Shift 0.25, with Alt 0.01", "0 −": "zero; the other sign" },
  discrete: { "1 … 9": "label with this action", "↑ ↓": "choose an action" },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || $("keys").open) return;
  if (event.key === "Escape") return closeCompare();
  if (event.target.matches("input:not([type=range])")) {
    if (event.key === "Enter" || event.key === "ArrowUp" || event.key === "ArrowDown") event.target.blur();
    if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
  }
  if (event.key === "[" || event.key === "]") return holdFor(hold + (event.key === "]" ? 1 : -1));
  const name = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key]?.[0];
  if (name || entry?.key(event)) event.preventDefault();
  if (name && !event.repeat) actions[name]();
});

$("close").addEventListener("click", closeCompare);
for (const name of ["label", "accept", "skip", "bad", "undo", "preview", "help", "theme"]) {
  $(name).addEventListener("click", (event) => {
    event.currentTarget.blur(); // so that Enter labels, whatever was clicked before
    if (event.detail < 2) actions[name](); // the second click of a double click is no second answer
  });
}

// ---------------------------------------------------------------- light and dark
const dark = matchMedia("(prefers-color-scheme: dark)");
function setTheme(theme, keep = true) {
  document.documentElement.dataset.theme = theme;
  if (keep) localStorage.theme = theme;
}
const followTheme = () => setTheme(localStorage.theme ?? (dark.matches ? "dark" : "light"), false);
dark.addEventListener("change", followTheme);
followTheme();

// ---------------------------------------------------------------- beginning
async function begin() {
  hello = await ask("hello");
  document.title = `label ${hello.env}`;
  document.body.className = hello.drawing ? "drawing" : "photo";
  $("env").textContent = hello.env;
  const keys = { ...ENTRY_KEYS[hello.space.kind], ...Object.fromEntries(Object.entries(KEYS).map(([key, [, what]]) => [key.length === 1 ? key.toUpperCase() : key, what])), "[ ]": "hold the action longer, or not, when looking ahead" };
  $("keys").querySelector("dl").append(...Object.entries(keys).flatMap(([key, what]) => [element("dt", {}, key), element("dd", {}, what)]));
  $("who").value = localStorage.who ?? "";
  $("who").addEventListener("input", () => (localStorage.who = $("who").value.trim()));
  hold = Math.max(1, Math.round(0.2 / hello.decision));
  entry = makeEntry(hello.space, $("entry"), () => actions.label());
  outbox = new Outbox((item, reason) => toast(`Not accepted: ${reason}.`, 8000), (waiting, online) => offline(!online));
  supply = new Supply(page, outbox, {
    arrived: () => supply.current || next(),
    lost: () => (toast("This state was handed to someone else while you were away."), next()),
    offline,
  });
  dock = new Dock($("dock"), { retrain: actions.retrain, accept: actions.take, discard: actions.discard, watch });
  watchGamepad(() => entry, actions);
  show(null);
  supply.fill();
  refresh();
}

window.foreplan = { timings, get current() { return supply?.current?.id; }, get ready() { return supply?.queue.length ?? 0; } };
begin().catch((error) => toast(error.message, 1e9));
