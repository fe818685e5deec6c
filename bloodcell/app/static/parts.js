"use strict";
// What all parts of the page share: the classifier's classes, and small pieces of HTML and SVG.

const { least, mostClasses, classes, colours } = document.body.dataset;
export const LEAST = least; // probability from which an answer is sure
export const CLASSES = JSON.parse(classes);
export const MANY = CLASSES.length > Number(mostClasses); // then only some classes have a line each
const SHOWN = 10; // of many classes, the most probable ones
const COLOURS = JSON.parse(colours); // of a class and of letters on it; nine classes share eight

export const at = (id) => document.getElementById(id);
export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
export const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
export const percent = (share) => {
  const text = share > 0 && share < 0.0005 ? "<0.1" : share < 1 && share >= 0.9995 ? ">99.9" : (100 * share).toFixed(1);
  return `${text}\u00a0%`;
};

export function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

export function drawn(tag, attributes, name) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (name) made.setAttribute("class", name);
  return made;
}

// A row of a table whose cells have the titles of their columns; those in `numbers` are aligned to the right.
export function tableRow(head, cells, numbers) {
  const made = element("tr"), first = element("th");
  first.scope = "row";
  first.append(...head);
  made.append(first, ...Object.entries(cells).map(([title, text]) => {
    const cell = element("td", text, numbers.includes(title) ? "n" : "");
    cell.dataset.name = title;
    return cell;
  }));
  return made;
}

// Give an element the colour of a class, which the style sheet uses.
export function coloured(made, name) {
  const [colour, letters] = COLOURS[CLASSES.indexOf(name) % COLOURS.length];
  made.style.setProperty("--class", colour);
  made.style.setProperty("--letters", letters);
  return made;
}

// Why an image is flagged; `other` is the class left out that the classifier is sure of.
export const strange = (other) => (other ? `The classifier is sure that it is of a class left out here: ${other}.` : "It is unlike the training images.");

// A line with a bar for each class; of many classes, the most probable ones and the sum of the others.
export const chances = ({ probabilities, prediction }) => shares(probabilities).map(([name, share]) => chance(name, share, name === prediction));

function shares(probabilities) {
  const every = CLASSES.map((name, place) => [name, probabilities[place]]);
  if (!MANY) return every;
  const falling = every.sort(([, one], [, other]) => other - one);
  const rest = falling.slice(SHOWN).reduce((sum, [, share]) => sum + share, 0);
  return [...falling.slice(0, SHOWN), [`${falling.length - SHOWN} other classes`, Math.min(rest, 1)]];
}

function chance(name, share, first) {
  const item = element("li", undefined, first ? "first" : "");
  const bar = element("span", undefined, "bar"), part = element("span");
  bar.setAttribute("aria-hidden", "true"); // the number beside it has the same information
  part.style.width = `${100 * share}%`;
  bar.append(part);
  item.append(element("span", name, "name"), element("span", percent(share)), bar);
  return item;
}
