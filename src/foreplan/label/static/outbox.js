// Labels on their way. Each is kept in the browser until the server has acknowledged it, and is sent until then, in
// order: its id makes sure that it counts once. A reload, a lost connection or a killed server loses nothing.

import { Refused, ask, wait } from "./api.js";

const KEY = "foreplan-outbox";

export class Outbox {
  constructor(refused, changed) {
    this.refused = refused; // (item, reason)
    this.changed = changed; // (waiting, online)
    this.items = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    this.sending = false;
    addEventListener("online", () => this.send());
    this.send();
  }

  get states() {
    return this.items.map((item) => item.message.state).filter(Boolean);
  }

  add(kind, message) {
    this.items.push({ kind, message });
    this.keep();
    this.send();
  }

  keep() {
    localStorage.setItem(KEY, JSON.stringify(this.items));
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    for (let pause = 100; this.items.length; ) {
      const item = this.items[0];
      try {
        await ask(item.kind, item.message);
        pause = 100;
      } catch (error) {
        if (!(error instanceof Refused) || error.status === 403) {
          this.changed(this.items.length, false);
          await wait(pause);
          pause = Math.min(2 * pause, 2000);
          continue;
        }
        this.refused(item, error.message);
      }
      this.items.shift();
      this.keep();
      this.changed(this.items.length, true);
    }
    this.sending = false;
  }
}
