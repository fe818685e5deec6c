"use strict";
// The state of the page is only here: the server keeps no image after its answer.

import { recount } from "./count.js";
import { fieldCard } from "./field.js";
import { at, chances, CLASSES, element, LEAST, MANY, percent, plural, strange, tableRow } from "./parts.js";

const AT_ONCE = 3; // images that are sent at the same time
const { header, cellHeader, most } = document.body.dataset;
const DOUBTS = { ask: "not sure: ask a human", unlike: "not like a stained white cell", bad: "unreadable" };

const results = []; // in the order of the files: {kind, name, answer}, undefined until the answer arrives
let stop = new AbortController();
let waiting = [], busy = 0;

// The kind of an image: the first of five that fits.
function kindOf(answer) {
  if (answer.reason) return "bad";
  if (answer.cells) return "field";
  if (answer.unlike === true || answer.cell === "none" || answer.found === false) return "unlike";
  return answer.abstained ? "ask" : "sure";
}

function take(files) {
  if (!files.length) return;
  for (const file of files) {
    waiting.push({ file, number: results.length });
    results.push(undefined);
  }
  at("results").hidden = at("working").hidden = false;
  showProgress();
  while (busy < AT_ONCE && waiting.length) work();
}

async function work() {
  busy += 1;
  const { signal } = stop;
  while (waiting.length && !signal.aborted) {
    const { file, number } = waiting.shift();
    const answer = await ask(file, signal);
    if (signal.aborted) return; // the page was cleared and counts from 0 again
    results[number] = { kind: kindOf(answer), name: file.name, answer };
    show(number);
    showProgress();
    if (results[number].kind !== "bad") recount(results.filter(Boolean));
  }
  busy -= 1;
}

async function ask(file, signal) {
  if (file.size > Number(most)) return { reason: `larger than ${Number(most) / 1e6} MB, the limit` };
  let response;
  try {
    const query = new URLSearchParams({ name: file.name });
    response = await fetch(`/examine?${query}`, { method: "POST", body: file, signal });
  } catch {
    return { reason: "no answer; the file cannot be opened, or bloodcell app has ended" };
  }
  try {
    return await response.json();
  } catch {
    return { reason: response.status === 503 ? "the server is busy; try again" : `failed (${response.status}); see the terminal of bloodcell app` };
  }
}

function showProgress() {
  const done = results.filter(Boolean);
  at("bar").max = results.length;
  at("bar").value = done.length;
  at("working").hidden = done.length === results.length;
  const words = Object.entries(DOUBTS).map(([kind, text]) => [done.filter((one) => one.kind === kind).length, text]);
  const doubts = words.filter(([count]) => count).map(([count, text]) => `${count} ${text}`).join(", ");
  const fields = done.filter((one) => one.kind === "field"), cells = fields.reduce((sum, one) => sum + one.answer.cells.length, 0);
  const found = fields.length ? `; ${plural(fields.length, "field")} with ${plural(cells, "cell")}` : "";
  const end = `${plural(results.length, "image")} done${found}${doubts ? `; ${doubts}` : ""}`;
  at("status").textContent = done.length < results.length ? `${done.length} of ${plural(results.length, "image")}` : results.length ? end : "";
  at("download").disabled = !done.some((one) => one.answer.row);
  at("download").hidden = fields.length > 0 && at("download").disabled;
  at("download-cells").hidden = !cells;
  summarise(done, words);
}

function summarise(all, doubts) {
  const done = all.filter((one) => one.kind !== "field");
  at("singles").hidden = !done.length;
  const sure = CLASSES.map((name) => [done.filter((one) => one.kind === "sure" && one.answer.prediction === name).length, name]);
  const items = [...sure, ...doubts].map(([count, text], place) => {
    const item = element("li", undefined, place < CLASSES.length ? "" : "doubt");
    item.append(element("strong", count.toLocaleString("en")), text);
    return count || (place < CLASSES.length && !MANY) ? item : null;
  });
  at("summary").replaceChildren(...items.filter(Boolean));
}

// Answers come in any order; cards and rows have the order of the files.
function show(number) {
  for (const [parent, made] of [[at("cards"), card(number)], [at("rows"), row(number)]]) {
    made.dataset.number = number;
    parent.insertBefore(made, [...parent.children].find((other) => Number(other.dataset.number) > number) ?? null);
  }
}

function card(number) {
  const { kind, name, answer } = results[number];
  const id = `image-${number + 1}`;
  const made = kind === "field" ? fieldCard(id, name, answer) : imageCard(kind, name, answer);
  made.id = id;
  if (answer.others) made.querySelector("h3").after(element("p", `Only the first of its ${(answer.others + 1).toLocaleString("en")} pictures is read. Save each as a file of its own.`, "note"));
  return made;
}

function imageCard(kind, name, answer) {
  const made = at("card").content.firstElementChild.cloneNode(true);
  const find = (selector) => made.querySelector(selector);
  made.classList.add(kind);
  find("h3").textContent = name;
  find(".flag").textContent = flag(kind, answer);
  find(".flag").hidden = kind === "sure";
  if (kind === "bad") {
    for (const part of made.querySelectorAll(".view, .buttons, .key, .best, .note, .chances")) part.remove();
    return made;
  }
  draw(made, name, answer);
  const best = kind === "unlike" ? "If it is one of the classes: " : "";
  find(".best").append(best, element("strong", answer.prediction), `, ${percent(answer.confidence)}`);
  find(".note").textContent = note(answer);
  find(".note").hidden = !find(".note").textContent;
  find(".chances").append(...chances(answer));
  return made;
}

function flag(kind, answer) {
  if (kind === "bad") return `Cannot be read: ${answer.reason}.`;
  if (kind === "ask") return "Not sure: ask a human.";
  if (answer.cell === "none") return "This does not look like a stained white cell: none was found.";
  if (answer.found === false) return "This does not look like a stained white cell: no cell was found.";
  return kind === "unlike" ? "This does not look like a stained white cell of a kind that the classifier knows." : "";
}

// More reasons than the flag gives.
function note({ unlike, other, cell, abstained }) {
  const why = [];
  if (cell === "none") why.push("So the net looked at the whole image.");
  if (unlike === true) why.push(strange(other));
  if (abstained) why.push(`An answer counts as sure from ${LEAST} probability.`);
  return why.join(" ");
}

function draw(made, name, answer) {
  const image = made.querySelector("img"), svg = made.querySelector("svg"), look = made.querySelector(".look");
  const [width, height] = answer.size;
  const seen = answer.square ? `${name}, with the square around the cell` : name;
  image.src = answer.picture;
  image.alt = seen;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (answer.square) {
    const [x, y, side] = answer.square;
    for (const rect of svg.children) for (const [key, value] of Object.entries({ x, y, width: side, height: side })) rect.setAttribute(key, value);
  } else svg.remove();
  if (!answer.looked) return made.querySelector(".buttons").remove();
  const key = made.querySelector(".key");
  key.querySelector(".name").textContent = answer.prediction;
  look.addEventListener("click", () => {
    const on = look.getAttribute("aria-pressed") !== "true";
    look.setAttribute("aria-pressed", on);
    image.src = on ? answer.looked : answer.picture;
    image.alt = on ? `${name}: evidence for ${answer.prediction} (Grad-CAM)` : seen;
    key.hidden = !on;
  });
}

function row(number) {
  const { kind, name, answer } = results[number];
  const link = element("a", name);
  link.href = `#image-${number + 1}`;
  const others = { bad: `${DOUBTS.bad}: ${answer.reason}`, sure: "sure", field: `field with ${plural(answer.cells?.length ?? 0, "cell")}` };
  const cells = { answer: others[kind] ?? DOUBTS[kind], "most probable class": answer.prediction ?? "", probability: answer.prediction ? percent(answer.confidence) : "" };
  return tableRow([link], cells, ["probability"]);
}

function download(name, first, rows) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([first, ...rows.filter(Boolean)], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function clear() {
  stop.abort();
  stop = new AbortController();
  waiting = [];
  busy = results.length = 0;
  at("cards").replaceChildren();
  at("rows").replaceChildren();
  showProgress();
  recount(results);
  at("results").hidden = at("working").hidden = true;
  at("status").textContent = "All images are cleared.";
  at("files").focus();
}

at("files").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});
at("download").addEventListener("click", () => download("predictions.csv", header, results.map((one) => one?.answer.row)));
at("download-cells").addEventListener("click", () => download("cells.csv", cellHeader, results.map((one) => one?.answer.rows)));
at("clear").addEventListener("click", clear);
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault(); // otherwise the browser opens the file
    at("drop").classList.toggle("over", type === "dragover");
    if (type === "drop") take([...event.dataTransfer.files]);
  });
}
