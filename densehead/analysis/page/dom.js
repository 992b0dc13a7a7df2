// Elements and their text. All text is set as text: names of files and classes come from strangers.

const byId = (id) => document.getElementById(id);

/** An element with properties (`textContent` among them, never HTML) and children. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const textElement = (tag, textContent, className = "", title = "") => element(tag, { textContent, className, title });

function swatch(color) {
  const made = element("span", { className: color ? "swatch" : "swatch none" });
  if (color) made.style.backgroundColor = color;
  return made;
}

/** A button that does something; `pressed` is null for one that does not stay pressed. */
function makeButton(text, action, { pressed = null, ...properties } = {}) {
  const button = element("button", { type: "button", textContent: text, ...properties });
  button.addEventListener("click", action);
  if (pressed !== null) button.setAttribute("aria-pressed", pressed);
  return button;
}

/** Bring an item of a box that scrolls into view, below what sticks to its top, and leave the page where it is. */
function scrollWithin(box, item, stuck = 0) {
  const [outer, inner] = [box.getBoundingClientRect(), item.getBoundingClientRect()];
  const shift = (low, high, start, end) => Math.min(low - start, 0) + Math.max(high - end, 0);
  box.scrollLeft += shift(inner.left, inner.right, outer.left, outer.right);
  box.scrollTop += shift(inner.top, inner.bottom, outer.top + stuck, outer.bottom);
}

const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const rounded = (value) => String(Math.round(value * 10) / 10);
const sizeText = ({ width, height }) => `${rounded(width)} × ${rounded(height)} px`;

function boxText(object) {
  const [x1, y1, x2, y2] = object.box.map(rounded);
  return `${sizeText(object)}, x ${x1} to ${x2}, y ${y1} to ${y2}`;
}
