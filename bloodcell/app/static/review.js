"use strict";
// All cells of a folder: which are seen, in which order, and what a human decides on them. The server has the truth: a
// label shows when it is on the disk.

import { Grid } from "./grid.js";
import { learning, told } from "./learn.js";
import { closely } from "./lightbox.js";
import { at, CLASSES, coloured, element, percent, plural } from "./parts.js";
import { Pictures } from "./pictures.js";

export const LABELS = [...CLASSES, ...JSON.parse(document.body.dataset.further), "readers disagree"];
const NONE = CLASSES.length, UNSURE = NONE + 1, DISAGREE = NONE + 2; // "no white cell", "cannot tell"
const BLIND = document.body.dataset.blind === "true";
const OFTEN = 1500; // milliseconds between two looks at what goes on
const AHEAD = 12; // lines of the grid whose pictures are there before they are seen
const wait = (time) => new Promise((done) => setTimeout(done, time));

let table, labels = { own: [], all: [], version: -1 }, batch = null, kept = Promise.resolve();
const undone = [];

export async function ask(address, options) {
  const response = await fetch(`/review/${address}`, options);
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.reason), { answer, known: response.status !== 503 }); // 503: it has just begun, and has no cells yet
  return answer;
}
export const send = (address, content) => ask(address, { method: "POST", body: JSON.stringify(content) });
const say = (text) => { at("said").textContent = text; };

// What a cell is called.
export const title = (row) => `${table.paths[table.path[row]]}${table.number ? `, cell ${table.number[row]}` : ""}`;
const own = (row) => labels.own[row] ?? -1;
const shownLabel = (row) => (own(row) >= 0 ? own(row) : labels.all[row] ?? -1);

function name(row) {
  const answer = BLIND ? "" : `: ${CLASSES[table.prediction[row]]}, ${percent(table.confidence[row] / 1e4)}${table.unlike?.[row] ? ", unlike the training images" : ""}`;
  const label = shownLabel(row);
  return `${title(row)}${answer}${label >= 0 ? `; label: ${LABELS[label]}` : ""}`;
}

function make(row) {
  const made = document.createDocumentFragment(), label = shownLabel(row);
  made.append(pictures.of(row));
  const line = element("span", undefined, label >= 0 ? "said label" : "said"), text = label >= 0 ? LABELS[label] : BLIND ? "" : CLASSES[table.prediction[row]];
  const chip = element("span", undefined, "dot"), colour = label >= 0 ? label : BLIND ? -1 : table.prediction[row];
  if (colour >= 0 && colour < NONE) coloured(chip, CLASSES[colour]);
  line.append(chip, element("span", text, "what"));
  if (label < 0 && !BLIND) made.append(element("span", `${Math.round(table.confidence[row] / 100)}\u00a0%`, table.abstained[row] || table.unlike?.[row] ? "share ask" : "share"));
  made.append(line);
  return made;
}

const grid = new Grid(at("grid"), { make, name, moved: () => showPicked() });
const pictures = new Pictures(() => grid.near(AHEAD), (rows) => ask(`views?digest=${table.digest}&rows=${rows.join()}`));

function showPicked() {
  const picked = grid.picked;
  at("picked").textContent = picked.length > 1 ? `${plural(picked.length, "cell")} chosen` : picked.length ? title(picked[0]) : "";
  for (const button of at("palette").querySelectorAll("button[data-label]")) button.setAttribute("aria-pressed", picked.length > 0 && picked.every((row) => own(row) === Number(button.dataset.label)));
}

function showCounts() {
  const decided = labels.own.filter((label) => label >= 0).length;
  at("counts").textContent = `${plural(grid.rows.length, "cell")} shown of ${table.path.length.toLocaleString("en")}; ${decided.toLocaleString("en")} with your label`;
  if (at("next")) at("next").textContent = batch ? "Next 25 to label" : "Label these 25 next";
}

// The rows that the choices let through, in the chosen order.
function chosenRows() {
  const [show, kind, slide, sort] = ["show", "kind", "slide", "sort"].map((id) => at(id).value), words = at("search").value.trim().toLowerCase();
  const every = table.path.map((_, row) => row);
  const shows = { all: () => true, open: (row) => shownLabel(row) < 0, labelled: (row) => shownLabel(row) >= 0, differs: (row) => own(row) >= 0 && own(row) !== table.prediction?.[row], disagree: (row) => labels.all[row] === DISAGREE, unlike: (row) => table.unlike?.[row], ask: (row) => table.abstained?.[row] };
  const found = every.filter((row) => shows[show](row) && (!kind || Number(kind) === (shownLabel(row) >= 0 ? shownLabel(row) : table.prediction?.[row])) && (!slide || table.slide[row] === Number(slide)) && (!words || name(row).toLowerCase().includes(words)));
  const keys = { doubt: (row) => -table.doubt[row], class: (row) => table.prediction[row] * 1e5 - table.doubt[row], slide: (row) => table.slide[row], unlike: (row) => -(table.unlike?.[row] ?? 0) * 1e5 - table.doubt[row], mixed: (row) => (row * 2654435761) % 4294967296 };
  return found.sort((one, other) => keys[sort](one) - keys[sort](other) || one - other);
}

function arrange() {
  batch = null;
  grid.set(chosenRows());
  showCounts();
}

async function showNext() {
  const { rows } = await ask("next?count=25");
  if (!rows.length) return say("Every cell has a label.");
  batch = rows;
  grid.set(rows);
  showCounts();
  at("grid").focus();
}

// Decide one after the other; what has no answer is sent again, with the same time, so that it counts once.
export function decide(decided, undo = false) {
  if (!decided.length) return kept;
  const when = new Date().toISOString(), { digest } = table;
  kept = kept.then(() => keep({ digest, when, decided: decided.map(([row, label]) => [row, label < 0 ? "" : LABELS[label]]) }, decided, undo));
  return kept;
}

async function keep(content, decided, undo) {
  const before = decided.map(([row]) => [row, own(row)]);
  for (;;) {
    try {
      const { version } = await send("decide", content);
      if (version === labels.version + 1) labels.version = version; // else another tab has decided, too
      break;
    } catch (error) {
      if (error.known) {
        say(`Not kept: ${error.message}.`);
        return error.answer.changed ? load() : undefined;
      }
      say("Not kept yet: bloodcell app does not answer, or has just begun. It is tried again until it is kept; leave this page open.");
      await wait(1000);
    }
  }
  if (!undo) undone.push(before);
  for (const [row, label] of decided) { labels.own[row] = label; if (BLIND || labels.all[row] < 0 || label < 0) labels.all[row] = label; }
  const label = decided[0][1];
  say(undo ? "Undone." : label < 0 ? "Label taken back." : `${decided.length > 1 ? plural(decided.length, "cell") : title(decided[0][0])}: ${LABELS[label]}. Kept.`);
  grid.refresh(decided.map(([row]) => row));
  showPicked();
  showCounts();
  told();
  if (batch?.every((row) => own(row) >= 0)) say("These are all labelled: take the next ones, or let the classifier learn.");
}

function label(number) {
  const picked = grid.picked, several = picked.length > 1;
  decide(picked.map((row) => [row, number]));
  if (several) grid.release();
  else if (number >= 0) grid.go(grid.place + 1);
}

function takeBack() {
  kept.then(() => { const before = undone.pop(); return before ? decide(before, true) : say("Nothing to undo on this page since it was opened."); });
}

// The keys of the grid and of the lightbox.
export function key(event) {
  const undo = event.key === "u" || (event.key === "z" && (event.ctrlKey || event.metaKey));
  if (!undo && (event.ctrlKey || event.metaKey || event.altKey)) return false;
  const number = Number(event.key), labelled = event.key >= "1" && event.key <= "9" && number <= CLASSES.length ? number - 1 : { 0: NONE, "?": UNSURE, x: UNSURE, Delete: -1, Backspace: -1 }[event.key];
  if (undo) takeBack();
  else if (labelled !== undefined) label(labelled);
  else return false;
  event.preventDefault();
  return true;
}

at("grid").addEventListener("keydown", (event) => {
  if (key(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter" && grid.rows.length) look();
  else if (event.key === "n" && !BLIND) showNext();
  else return;
  event.preventDefault();
});
at("grid").addEventListener("dblclick", () => look());
const look = () => closely({ grid, key, title, blind: BLIND, digest: table.digest, label: (row) => (shownLabel(row) < 0 ? "no label yet" : `label: ${LABELS[shownLabel(row)]}`) });

for (const button of at("palette").querySelectorAll("button[data-label]")) button.addEventListener("click", () => label(Number(button.dataset.label)));
at("undo").addEventListener("click", takeBack);
at("look").addEventListener("click", look);
at("next")?.addEventListener("click", showNext);
for (const id of ["show", "kind", "slide", "sort"]) at(id).addEventListener("change", arrange);
at("search").addEventListener("input", arrange);

async function load() {
  table = await ask("cells");
  labels = await ask("labels");
  at("slide").replaceChildren(new Option("all slides", ""), ...table.slides.map((slide, number) => new Option(slide, number)));
  at("slide").closest("label").hidden = table.slides.length < 2;
  const unread = Object.entries(table.unread);
  at("unread").hidden = !unread.length;
  at("unread").textContent = unread.length ? `${plural(unread.length, "picture")} cannot be read, e.g. ${unread[0][0]}: ${unread[0][1]}.` : "";
  at("work").hidden = false;
  arrange();
  told();
}

function showJudging({ judging, done, of, failed }) {
  at("judging").hidden = !judging && !failed;
  at("bar").value = done;
  at("bar").max = of;
  at("bar").hidden = !!failed;
  at("judged").textContent = failed ? `The cells cannot be judged: ${failed}.` : judging ? `The classifier judges the cells: ${done.toLocaleString("en")} of ${plural(of, "picture")}` : "";
}

// Look again and again at what goes on: judging, learning, and what other tabs have decided.
async function watch() {
  for (;;) {
    try {
      const state = await ask("state");
      showJudging(state);
      if (state.digest && state.digest !== table?.digest) await (table ? location.reload() : load());
      else if (table && state.version !== labels.version) { labels = await ask("labels"); grid.refresh(); showPicked(); showCounts(); told(); }
      if (!BLIND) learning(state.learning);
      at("gone").hidden = true;
    } catch (error) {
      at("gone").hidden = !!error.known;
      if (error.known) say(`${error.message}.`);
    }
    await wait(OFTEN);
  }
}

watch();
