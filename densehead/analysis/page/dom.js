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

const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const rounded = (value) => String(Math.round(value * 10) / 10);
const sizeText = ({ width, height }) => `${rounded(width)} × ${rounded(height)} px`;

function boxText(object) {
  const [x1, y1, x2, y2] = object.box.map(rounded);
  return `${sizeText(object)}, x ${x1} to ${x2}, y ${y1} to ${y2}`;
}
