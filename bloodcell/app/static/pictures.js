"use strict";
// The small pictures of the cells. One request brings many, those in view first, so that a busy server never lags behind
// by more than one request; some beyond the view are there before they are seen.

import { element } from "./parts.js";

const ONCE = 96; // pictures of a request
const KEPT = 3000; // pictures that the page remembers
const AGAIN = 1000; // milliseconds until a request that had no answer is sent again

export class Pictures {
  // wanted(): rows whose pictures are to be there, the most urgent first; ask(rows): a promise of their pictures, base64.
  constructor(wanted, ask) {
    Object.assign(this, { wanted, ask, images: new Map(), busy: false });
  }

  // The image of a cell, always the same element; its picture may come later.
  of(row) {
    if (!this.images.has(row)) {
      const image = element("img");
      image.alt = "";
      image.width = image.height = 112;
      this.images.set(row, image);
      this.load();
    }
    return this.images.get(row);
  }

  has(row) { return this.images.get(row)?.hasAttribute("src"); }

  async load() {
    if (this.busy) return;
    this.busy = true;
    await null; // until all of this turn are drawn
    for (let rows; (rows = this.wanted().filter((row) => !this.has(row)).slice(0, ONCE)).length;) {
      try {
        const found = await this.ask(rows);
        for (const row of rows) this.of(row).src = `data:image/jpeg;base64,${found[row] ?? ""}`;
      } catch {
        await new Promise((done) => setTimeout(done, AGAIN));
      }
    }
    this.busy = false;
    this.forget();
  }

  forget() {
    const needed = new Set(this.wanted());
    for (const row of this.images.keys()) if (this.images.size > KEPT && !needed.has(row)) this.images.delete(row);
  }
}
