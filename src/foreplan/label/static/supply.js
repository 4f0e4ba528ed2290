// The states to come: a few are always leased and their pictures decoded, so that the next is on screen at once.

import { Refused, ask, picture, wait } from "./api.js";

const AHEAD = 6;
const HEARTBEAT = 20_000; // milliseconds; leases last three times as long

export class Supply {
  constructor(page, outbox, listener) {
    this.page = page;
    this.outbox = outbox;
    this.listener = listener; // { arrived(), lost(states), offline(isOffline) }
    this.current = null;
    this.queue = [];
    this.loading = new Map();
    this.filling = false;
    setInterval(() => this.fill(true), HEARTBEAT);
  }

  take() {
    this.current = this.queue.shift() ?? null;
    this.fill();
    return this.current;
  }

  putBack(state) {
    if (state) this.queue.unshift(state);
  }

  forget() {
    this.current = null;
    this.queue = [];
    this.loading.clear();
    this.fill();
  }

  async fill(always = false) {
    if (this.filling) return;
    this.filling = true;
    while (always || this.queue.length + this.loading.size < AHEAD) {
      always = false;
      const mine = [this.current, ...this.queue, ...this.loading.values()].filter(Boolean).map((state) => state.id);
      const onTheirWay = this.outbox.states;
      const holding = [...new Set([...mine, ...onTheirWay])];
      const want = Math.max(0, AHEAD - this.queue.length - this.loading.size);
      try {
        const { states, lost } = await ask("lease", { page: this.page, holding, want });
        this.listener.offline(false);
        this.drop(lost, new Set([...onTheirWay, ...this.outbox.states]));
        for (const state of states) this.load(state);
        if (states.length < want) {
          if (this.current) break; // the pictures of the others are being made
          await wait(300);
        }
      } catch (error) {
        this.listener.offline(true, error instanceof Refused ? error.message : "");
        await wait(700);
      }
    }
    this.filling = false;
    if (this.queue.length + this.loading.size < AHEAD) setTimeout(() => this.fill(), 1000);
  }

  async load(state) {
    this.loading.set(state.id, state);
    try {
      await this.draw(state);
      if (this.loading.has(state.id)) this.queue.push(state);
    } catch {
      await wait(500); // it is leased to this page and will be offered again
    }
    this.loading.delete(state.id);
    this.listener.arrived();
  }

  async draw(state) {
    const id = encodeURIComponent(state.id);
    [state.image, state.strip] = await Promise.all([picture(`/api/frame/${id}`), picture(`/api/clip/${id}`)]);
  }

  // Another page has them now. What is on its way from here may be answered or open by now: that is no loss.
  drop(lost, answered) {
    const gone = lost.filter((id) => !answered.has(id));
    this.queue = this.queue.filter((state) => !gone.includes(state.id));
    gone.forEach((id) => this.loading.delete(id));
    if (this.current && gone.includes(this.current.id)) this.listener.lost(this.current);
  }
}
