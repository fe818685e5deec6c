"use strict";
// A grid of any number of cells of which only those that are seen are in the page; one is current, several may be chosen.

import { element } from "./parts.js";

const SPARE = 2; // rows above and below those that are seen

export class Grid {
  // make(row): the inside of a cell, as an element; name(row): what a screen reader says of it.
  constructor(frame, { make, name, moved }) {
    Object.assign(this, { frame, make, name, moved, rows: [], place: 0, chosen: new Set(), anchor: 0, shown: new Map(), top: 0, upwards: false });
    this.sheet = element("div", undefined, "sheet");
    this.sheet.setAttribute("role", "presentation");
    frame.append(this.sheet);
    frame.addEventListener("scroll", () => this.draw(), { passive: true });
    frame.addEventListener("click", (event) => this.clicked(event));
    frame.addEventListener("keydown", (event) => this.pressed(event));
    new ResizeObserver(() => this.measure()).observe(frame);
  }

  // Show other cells, by their rows in the table.
  set(rows, keep = -1) {
    this.rows = rows;
    this.chosen.clear();
    this.frame.scrollTop = 0;
    this.place = this.anchor = Math.max(0, rows.indexOf(keep));
    this.measure();
    this.go(this.place);
  }

  get current() { return this.rows[this.place]; }
  get picked() { return this.chosen.size ? [...this.chosen].sort((one, other) => one - other).map((place) => this.rows[place]) : this.rows.length ? [this.current] : []; }

  measure() {
    const style = getComputedStyle(this.frame), least = parseFloat(style.getPropertyValue("--cell"));
    this.height = parseFloat(style.getPropertyValue("--cell-height"));
    this.columns = Math.max(1, Math.floor(this.frame.clientWidth / least));
    this.frame.style.setProperty("--columns", this.columns);
    this.sheet.style.height = `${Math.ceil(this.rows.length / this.columns) * this.height}px`;
    this.frame.setAttribute("aria-rowcount", Math.ceil(this.rows.length / this.columns));
    this.frame.setAttribute("aria-colcount", this.columns);
    this.clear();
  }

  clear() {
    for (const line of this.shown.values()) line.remove();
    this.shown.clear();
    this.draw();
  }

  // Put the rows that are seen into the page, and take the others out.
  draw() {
    if (!this.height) return;
    if (this.frame.scrollTop !== this.top) this.upwards = this.frame.scrollTop < this.top;
    this.top = this.frame.scrollTop;
    const first = Math.max(0, Math.floor(this.frame.scrollTop / this.height) - SPARE);
    const last = Math.min(Math.ceil(this.rows.length / this.columns), Math.ceil((this.frame.scrollTop + this.frame.clientHeight) / this.height) + SPARE);
    for (const [line, made] of this.shown) if (line < first || line >= last) { made.remove(); this.shown.delete(line); }
    for (let line = first; line < last; line += 1) if (!this.shown.has(line)) this.shown.set(line, this.sheet.appendChild(this.line(line)));
  }

  // Rows of the table: those that are seen, then those of some lines beyond, first where the scrolling goes.
  near(lines) {
    const first = Math.floor(this.frame.scrollTop / this.height), last = Math.ceil((this.frame.scrollTop + this.frame.clientHeight) / this.height);
    const below = Array.from({ length: lines }, (_, step) => last + step), above = below.map((_, step) => first - 1 - step);
    const order = Array.from({ length: last - first }, (_, step) => first + step).concat(this.upwards ? [above, below] : [below, above]).flat();
    return order.flatMap((line) => (line < 0 ? [] : this.rows.slice(line * this.columns, (line + 1) * this.columns)));
  }

  line(line) {
    const made = element("div", undefined, "line");
    made.setAttribute("role", "row");
    made.setAttribute("aria-rowindex", line + 1);
    made.style.top = `${line * this.height}px`;
    for (let place = line * this.columns; place < Math.min((line + 1) * this.columns, this.rows.length); place += 1) made.append(this.cell(place));
    return made;
  }

  cell(place) {
    const made = element("div", undefined, "tile");
    made.id = `tile-${place}`;
    made.dataset.place = place;
    made.setAttribute("role", "gridcell");
    made.setAttribute("aria-colindex", (place % this.columns) + 1);
    made.append(this.make(this.rows[place]));
    this.mark(made, place);
    return made;
  }

  mark(made, place) {
    made.setAttribute("aria-label", this.name(this.rows[place]));
    made.setAttribute("aria-selected", this.chosen.has(place));
    made.classList.toggle("current", place === this.place);
  }

  // Draw some rows of the table anew, or all that are seen.
  refresh(rows) {
    const some = rows && new Set(rows);
    for (const made of this.sheet.querySelectorAll(".tile")) {
      const place = Number(made.dataset.place);
      if (!some || some.has(this.rows[place])) made.replaceChildren(this.make(this.rows[place]));
      this.mark(made, place);
    }
  }

  go(place, extend = false) {
    if (!this.rows.length) return this.frame.removeAttribute("aria-activedescendant");
    this.place = Math.max(0, Math.min(place, this.rows.length - 1));
    if (extend) {
      const [low, high] = [this.anchor, this.place].sort((one, other) => one - other);
      this.chosen = new Set(Array.from({ length: high - low + 1 }, (_, step) => low + step));
    } else this.anchor = this.place;
    const top = Math.floor(this.place / this.columns) * this.height;
    this.frame.scrollTop = Math.min(top, Math.max(this.frame.scrollTop, top + this.height - this.frame.clientHeight));
    this.draw();
    this.refresh([]);
    this.frame.setAttribute("aria-activedescendant", `tile-${this.place}`);
    this.moved(this.current);
  }

  choose(place) {
    if (!this.chosen.delete(place)) this.chosen.add(place);
    this.refresh([]);
    this.moved(this.current);
  }

  release() { this.chosen.clear(); this.refresh([]); this.moved(this.current); }

  clicked(event) {
    const made = event.target.closest(".tile");
    if (!made) return;
    const place = Number(made.dataset.place);
    if (event.ctrlKey || event.metaKey) this.choose(place);
    else if (!event.shiftKey) this.chosen.clear();
    this.go(place, event.shiftKey);
    this.frame.focus({ preventScroll: true });
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = this.columns * Math.max(1, Math.floor(this.frame.clientHeight / this.height));
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: page, PageUp: -page, Home: -this.rows.length, End: this.rows.length };
    if (event.key === " ") this.choose(this.place);
    else if (event.key === "Escape" && this.chosen.size) this.release();
    else if (event.key in steps) {
      if (!event.shiftKey && this.chosen.size) this.chosen.clear();
      this.go(this.place + steps[event.key], event.shiftKey);
    } else return;
    event.preventDefault();
  }
}
