"use strict";
// The card of a field: its picture with a numbered box around each cell, a list of the cells, and the chosen one.

import { at, CLASSES, chances, coloured, drawn, element, LEAST, percent, plural, strange } from "./parts.js";

const REASONS = JSON.parse(document.body.dataset.reasons); // why a cell does not count
const LINE = 16, DIGIT = 7.6, PAD = 8; // of a label on the picture, pixels of the screen
const FINE = 36; // cells smaller than this, pixels of the screen, have thinner boxes
const CROWDED = 0.3; // a number that covers others by this part of its area is not shown
const ROOM = 1.6; // side of the enlarged picture in those of the cell

export const words = (cell, count) => `cell ${cell.number} of ${count}: ${cell.prediction}, ${percent(cell.confidence)}${doubt(cell)}`;

// All that is odd of a cell, whether or not it is why the cell does not count.
function doubt({ abstained, unlike, left_out }) {
  const odd = [abstained && "not sure: ask a human", unlike === true && "unlike the training images"].filter(Boolean);
  if (left_out === "border") odd.push("cut by the border");
  return odd.map((text) => `, ${text}`).join("") + (left_out ? ", not counted" : "");
}

export function fieldCard(id, name, { picture, size, cells }) {
  const made = at("field").content.firstElementChild.cloneNode(true);
  const find = (selector) => made.querySelector(selector);
  const counted = cells.filter((cell) => !cell.left_out).length;
  find("h3").textContent = name;
  find(".best").textContent = cells.length ? `${plural(cells.length, "cell")}, ${counted} counted` : "No white cell was found in it.";
  find("img").src = picture;
  find("img").alt = `${name}, a field with ${plural(cells.length, "cell")}`;
  find("svg").setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  if (!cells.length) {
    for (const part of made.querySelectorAll(".kinds, .crowd, .list, .detail")) part.remove();
    find("svg").remove();
    return made;
  }
  find(".kinds").append(...kinds(cells));
  const list = find("[role=listbox]"), help = find(".help");
  list.setAttribute("aria-label", `cells of ${name}`);
  list.setAttribute("aria-describedby", (help.id = `${id}-help`));
  const options = cells.map((cell) => option(cell, `${id}-cell-${cell.number}`, cells.length));
  const boxes = cells.map((cell) => box(cell)), labels = cells.map((cell) => label(cell));
  list.append(...options);
  find("svg").append(...boxes, ...labels);
  choosing(list, options, (place) => {
    for (const each of [boxes, labels]) each.forEach((one, other) => one.classList.toggle("chosen", other === place));
    find("svg").classList.toggle("lit", place >= 0);
    if (place >= 0) find("svg").append(labels[place]); // above the others
    find(".detail").replaceChildren(...(place >= 0 ? detail(cells[place], cells.length, picture, size) : [at("field").content.querySelector(".hint").cloneNode(true)]));
  }, [boxes, labels]);
  new ResizeObserver(() => {
    const unit = size[0] / (find("svg").clientWidth || size[0]), sides = cells.map(({ box }) => Math.max(box[2], box[3])).sort((one, other) => one - other);
    find("svg").classList.toggle("fine", sides[cells.length >> 1] < FINE * unit);
    find(".crowd").hidden = placeLabels(labels, cells, size, unit);
  }).observe(find(".view"));
  return made;
}

// A list of which one option is chosen, by keyboard or by a click on it or on its box.
function choosing(list, options, show, marks) {
  let chosen = -1;
  const choose = (place) => {
    options[chosen]?.setAttribute("aria-selected", "false");
    chosen = place;
    show(place);
    if (place < 0) return list.removeAttribute("aria-activedescendant");
    const option = options[place];
    option.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", option.id);
    const above = option.offsetTop - list.scrollTop, below = above + option.offsetHeight - list.clientHeight;
    list.scrollTop += above < 0 ? above : Math.max(below, 0);
  };
  list.addEventListener("keydown", (event) => {
    const last = options.length - 1, start = Math.max(chosen, 0);
    const places = { ArrowDown: Math.min(chosen + 1, last), ArrowUp: Math.max(start - 1, 0), Home: 0, End: last, Enter: start, " ": start, Escape: -1 };
    if (!(event.key in places)) return;
    event.preventDefault();
    choose(places[event.key]);
  });
  for (const each of [options, ...marks]) {
    each.forEach((one, place) => one.addEventListener("click", () => {
      choose(place === chosen ? -1 : place);
      list.focus({ preventScroll: true }); // so that a screen reader says it, and the arrow keys go on from here
    }));
  }
}

function option(cell, id, count) {
  const made = coloured(element("li"), cell.prediction);
  made.id = id;
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", "false");
  made.setAttribute("aria-label", words(cell, count));
  made.append(element("span", cell.number, cell.left_out ? "chip out" : "chip"), element("span", cell.prediction, "name"), element("span", percent(cell.confidence), "chance"));
  if (cell.left_out) made.append(element("span", `not counted: ${REASONS[cell.left_out]}`, "why"));
  return made;
}

function kinds(cells) {
  const items = CLASSES.map((name) => [name, cells.filter((cell) => cell.prediction === name).length]).filter(([, count]) => count);
  const made = items.map(([name, count]) => {
    const item = coloured(element("li"), name);
    item.append(element("span", undefined, "chip"), `${name} ${count}`);
    return item;
  });
  if (!cells.some((cell) => cell.left_out)) return made;
  const item = element("li");
  item.append(element("span", undefined, "chip out"), "dashed: not counted");
  return [...made, item];
}

function box(cell) {
  const made = coloured(drawn("g", {}, cell.left_out ? "cell out" : "cell"), cell.prediction);
  const [x, y, width, height] = cell.box;
  made.append(drawn("rect", { x, y, width, height }, "under"), drawn("rect", { x, y, width, height }));
  return made;
}

function label(cell) {
  const made = coloured(drawn("g", {}, "label"), cell.prediction);
  const text = drawn("text", {});
  text.textContent = cell.number;
  made.append(drawn("rect", {}), text);
  return made;
}

// Put each number at the side of its box where it covers least of other numbers and boxes, and return whether all have
// room; one without room shows when its cell is chosen. `unit` is a pixel of the screen.
function placeLabels(labels, cells, [across, down], unit) {
  const taken = [], height = LINE * unit;
  labels.forEach((made, place) => {
    const [x, y, w, h] = cells[place].box, width = (DIGIT * String(cells[place].number).length + PAD) * unit;
    const right = x + w - width, bottom = y + h;
    const corners = [[x, y - height], [right, y - height], [x, bottom], [right, bottom], [x - width, y], [x + w, y], [x, y], [right, bottom - height]];
    const fitting = corners.map(([left, top]) => [Math.max(0, Math.min(left, across - width)), Math.max(0, Math.min(top, down - height)), width, height]);
    const cost = (one) => 4 * sum(taken, one) + sum(cells.map((cell) => cell.box), one);
    const costs = fitting.map(cost), best = fitting[costs.indexOf(Math.min(...costs))];
    const crowded = Math.min(...costs) > CROWDED * width * height;
    made.classList.toggle("crowded", crowded);
    if (!crowded) taken.push(best);
    const [rect, text] = made.children;
    for (const [key, value] of Object.entries({ x: best[0], y: best[1], width, height, rx: 2 * unit })) rect.setAttribute(key, value);
    for (const [key, value] of Object.entries({ x: best[0] + width / 2, y: best[1] + height / 2, "font-size": 0.8 * height })) text.setAttribute(key, value);
  });
  return taken.length === labels.length;
}

const sum = (boxes, one) => boxes.reduce((all, other) => all + shared(one, other), 0);

// The area that two boxes share: left, top, width and height.
function shared([a, b, w, h], [c, d, v, g]) {
  return Math.max(0, Math.min(a + w, c + v) - Math.max(a, c)) * Math.max(0, Math.min(b + h, d + g) - Math.max(b, d));
}

// The chosen cell: enlarged from the picture of the field, with the probabilities of all classes.
function detail(cell, count, picture, [width, height]) {
  const [x, y, w, h] = cell.box, side = ROOM * Math.max(w, h);
  const zoom = drawn("svg", { viewBox: `${x + (w - side) / 2} ${y + (h - side) / 2} ${side} ${side}`, "aria-hidden": "true" }, "zoom");
  zoom.append(drawn("image", { href: picture, width, height, preserveAspectRatio: "none" }));
  const said = element("div"), list = element("ul", undefined, "chances");
  list.setAttribute("aria-label", `probabilities of cell ${cell.number}`);
  list.append(...chances(cell));
  said.append(element("h4", `Cell ${cell.number} of ${count}: ${cell.prediction}, ${percent(cell.confidence)}`));
  if (cell.left_out) said.append(element("p", `Not counted: ${REASONS[cell.left_out]}.`, "flag"));
  const more = [cell.abstained && `An answer counts as sure from ${LEAST} probability.`, cell.unlike === true && (cell.other || cell.left_out !== "unlike") && strange(cell.other)];
  if (more.some(Boolean)) said.append(element("p", more.filter(Boolean).join(" "), "small soft"));
  said.append(list);
  return [zoom, said];
}
