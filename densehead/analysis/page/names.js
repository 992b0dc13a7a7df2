// Names at the frames: outside of their object where there is room, never on another name, seldom on a small object.

const SMALL_PANEL = 420; // CSS pixels; narrower ones have smaller names
const NAMED_SHARE = 0.12; // of a picture may be covered by names; else only missed objects have one
const SMALL_OBJECT = 6; // times the size of a name; larger ones are not hidden by it
const MOST_HIDDEN = 0.5; // of small objects, for the name of an object that is not missed

function paintNames(panel, place) {
  const { context, scene } = panel;
  const size = panel.width < SMALL_PANEL ? 10 : 12;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const frames = scene.objects.map((object) => ({ object, ...frameOf(panel, place, object) }));
  const chosen = frames.filter(({ object }) => state.object === NO_OBJECT || object.number === state.object);
  const tags = chosen
    .filter((frame) => isOn(frame, { x: 0, y: 0, ...panel }))
    .map((frame) => makeTag(context, frame, size));
  const placed = [];
  for (const tag of fewEnough(tags, panel)) {
    const spot = bestSpot(tag, panel, frames, placed);
    if (!spot) continue;
    placed.push(spot);
    context.fillStyle = tag.frame.isMissed ? WARNING : tag.frame.object.color;
    context.fillRect(spot.x, spot.y, spot.width, spot.height);
    context.fillStyle = tag.frame.isMissed ? "#fff" : readableOn(tag.frame.object.color);
    context.fillText(tag.text, spot.x + 4, spot.y + spot.height / 2 + 0.5);
  }
}

function makeTag(context, frame, size) {
  const text = (frame.isMissed ? "⚠ " : "") + shortened(frame.object.name);
  return { frame, text, width: Math.ceil(context.measureText(text).width) + 8, height: size + 5 };
}

const shortened = (name) => (name.length > 24 ? `${name.slice(0, 22)}…` : name);

/** Those of missed objects first, then of small ones. Where all would hide the picture, as many of missed as may be. */
function fewEnough(tags, panel) {
  const most = state.object === NO_OBJECT ? NAMED_SHARE * area(panel) : Infinity;
  const order = (a, b) => b.frame.isMissed - a.frame.isMissed || area(a.frame) - area(b.frame);
  const inOrder = [...tags].sort(order);
  if (tags.reduce((sum, tag) => sum + area(tag), 0) <= most) return inOrder;
  let room = most;
  return inOrder.filter((tag) => tag.frame.isMissed && (room -= area(tag)) > 0);
}

/** The place at a frame that is free of names and hides least of small objects; null if none will do. */
function bestSpot(tag, panel, frames, placed) {
  const small = frames.filter((frame) => area(frame) < SMALL_OBJECT * area(tag));
  const hidden = (spot) => small.reduce((sum, frame) => sum + sharedArea(spot, frame) / area(frame), 0);
  let best = { cost: tag.frame.isMissed || state.object !== NO_OBJECT ? Infinity : MOST_HIDDEN, spot: null };
  for (const [atX, atY] of spotsAround(tag)) {
    const x = Math.min(Math.max(atX, 0), panel.width - tag.width);
    const y = Math.min(Math.max(atY, 0), panel.height - tag.height);
    const spot = { x, y, width: tag.width, height: tag.height };
    if (Math.abs(x - atX) > tag.width / 2 || Math.abs(y - atY) > 2 || placed.some((one) => isOn(one, spot))) continue;
    const cost = hidden(spot);
    if (cost < best.cost) best = { cost, spot };
  }
  return best.spot;
}

/** Above, below, beside and at last inside a frame. */
function spotsAround({ frame, width, height }) {
  const margin = frame.isMissed ? 3 : 1; // half of its line
  const [left, top] = [frame.x - margin, frame.y - margin];
  const [right, bottom] = [frame.x + frame.width + margin, frame.y + frame.height + margin];
  return [
    [left, top - height],
    [right - width, top - height],
    [left, bottom],
    [right - width, bottom],
    [right, top],
    [left - width, top],
    [left, top],
  ];
}

function sharedArea(one, other) {
  const width = Math.min(one.x + one.width, other.x + other.width) - Math.max(one.x, other.x);
  const height = Math.min(one.y + one.height, other.y + other.height) - Math.max(one.y, other.y);
  return Math.max(width, 0) * Math.max(height, 0);
}

const isOn = (one, other) => sharedArea(one, other) > 0;

/** Black or white, whichever contrasts more (WCAG 2). */
function readableOn(color) {
  const linear = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000" : "#fff";
}
