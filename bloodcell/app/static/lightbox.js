"use strict";
// One cell seen closely: the part that the net sees, its Grad-CAM, the field, and the nearest training cells.

import { at, chances, drawn, element, percent } from "./parts.js";

let open, last;

export function closely(how) {
  open = how;
  if (!at("closely").open) at("closely").showModal();
  show();
}

async function show() {
  const { grid, title, blind, digest, label } = open, row = grid.current;
  last = row;
  const find = (name) => at("closely").querySelector(name), part = find(".part"), field = find(".whole img");
  find("h2").textContent = title(row);
  find(".place").textContent = `${grid.place + 1} of ${grid.rows.length}, ${label(row)}`;
  part.src = `/review/part/${row}.jpg?${digest}`;
  part.alt = `${title(row)}, what the classifier sees`;
  field.src = `/review/field/${row}.jpg?${digest}`;
  field.alt = `the picture that ${title(row)} is in`;
  find(".whole svg").replaceChildren();
  if (blind) return;
  find(".seen").hidden = find(".map").hidden = false;
  find(".map").src = `/review/map/${row}.jpg?${digest}`;
  const [cell, near] = await Promise.all([answer(`/review/cell/${row}`), answer(`/review/near/${row}`)]);
  if (last !== row) return; // another cell is shown by now
  showCell(find, cell);
  find(".near").replaceChildren(...(near.missing || near.reason ? [element("p", `Nearest training cells: ${near.missing || near.reason}.`, "small soft")] : near.classes.map(examples)));
}

async function answer(address) {
  try {
    return await (await fetch(address)).json();
  } catch {
    return { reason: "bloodcell app does not answer" };
  }
}

function showCell(find, cell) {
  find(".best").replaceChildren(...(cell.reason ? [cell.reason] : [element("strong", cell.prediction), `, ${percent(Math.max(...cell.probabilities))}`]));
  find(".chances").replaceChildren(...(cell.reason ? [] : chances(cell)));
  find(".flag").textContent = [cell.unlike && "Unlike the training images.", cell.abstained && "Not sure: left to a human."].filter(Boolean).join(" ");
  find(".whole").hidden = !cell.box;
  if (!cell.box || cell.reason) return;
  const [x, y, width, height] = cell.box, svg = find(".whole svg");
  svg.setAttribute("viewBox", `0 0 ${cell.size[0]} ${cell.size[1]}`);
  svg.append(drawn("rect", { x, y, width, height }, "under"), drawn("rect", { x, y, width, height }));
}

function examples({ name, cells }) {
  const made = element("section"), list = element("ul");
  made.append(element("h3", `Nearest training cells: ${name}`));
  list.append(...cells.map(({ id, path }) => {
    const item = element("li"), image = element("img");
    image.src = `/review/example/${id}.jpg`;
    image.alt = `${name}: ${path.split(/[\\/]/).pop()}`;
    item.append(image);
    return item;
  }));
  made.append(cells.length ? list : element("p", "There is none of this class.", "small soft"));
  return made;
}

function step(by) {
  open.grid.go(open.grid.place + by);
  show();
}

at("closely").addEventListener("keydown", (event) => {
  if (event.target.closest("summary")) return;
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  if (event.key in steps) step(steps[event.key]);
  else if (open.key(event)) { if (open.grid.current !== last) show(); return; }
  else return;
  event.preventDefault();
});
at("closely").querySelector(".before").addEventListener("click", () => step(-1));
at("closely").querySelector(".after").addEventListener("click", () => step(1));
at("closely").querySelector(".close").addEventListener("click", () => at("closely").close());
at("closely").addEventListener("close", () => at("grid").focus());
at("closely").querySelector(".map")?.addEventListener("error", (event) => { event.target.hidden = true; });
