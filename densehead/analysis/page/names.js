// Names at the frames: outside of the object where there is room, and never on another name.

const SMALL_PANEL = 420; // narrower ones have smaller names
const NAMED_SHARE = 0.12; // of a picture may be covered by names; else only missed objects have one

function paintNames(panel, place) {
  const { context, scene } = panel;
  const size = panel.width < SMALL_PANEL ? 10 : 12;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const chosen = state.object === NO_OBJECT ? scene.objects : [scene.objects[state.object]];
  const height = size + 5;
  const tags = chosen
    .filter((object) => isInView(panel, place, object))
    .map((object) => makeTag(panel, object, height));
  const placed = [];
  for (const tag of fewEnough(tags, panel)) {
    const spot = freeSpot(panel, place, tag, placed);
    if (!spot) continue;
    placed.push({ ...tag, ...spot });
    context.fillStyle = tag.isMissed ? WARNING : tag.object.color;
    context.fillRect(spot.x, spot.y, tag.width, height);
    context.fillStyle = tag.isMissed ? "#fff" : readableOn(tag.object.color);
    context.fillText(tag.text, spot.x + 4, spot.y + height / 2 + 0.5);
  }
}

function makeTag({ context, column }, object, height) {
  const isMissed = column.totals[object.number] === 0;
  const text = (isMissed ? "⚠ " : "") + shortened(object.name);
  return { object, isMissed, text, width: Math.ceil(context.measureText(text).width) + 8, height };
}

/** Those of missed objects first, then of small ones. Where all would hide the picture, as many of missed as may be. */
function fewEnough(tags, panel) {
  const most = state.object === NO_OBJECT ? NAMED_SHARE * panel.width * panel.height : Infinity;
  const covered = (some) => some.reduce((sum, tag) => sum + area(tag), 0);
  const sorted = [...tags].sort((a, b) => b.isMissed - a.isMissed || area(a.object) - area(b.object));
  if (covered(sorted) <= most) return sorted;
  let room = most;
  return sorted.filter((tag) => tag.isMissed && (room -= area(tag)) > 0);
}

const shortened = (name) => (name.length > 24 ? `${name.slice(0, 22)}…` : name);

function isInView({ width, height }, { scale, left, top }, { box }) {
  return (
    left + box[2] * scale > 0 &&
    top + box[3] * scale > 0 &&
    left + box[0] * scale < width &&
    top + box[1] * scale < height
  );
}

/** A place for a name above, below or beside a box, inside the picture and off the names there are; null if none is. */
function freeSpot(panel, { scale, left, top }, { object: { box }, isMissed, width, height }, placed) {
  const [grownX, grownY] = [box[2] - box[0], box[3] - box[1]].map((side) =>
    isMissed ? Math.max(0, SMALLEST_MISSED - side * scale) / 2 + 3 : 1,
  );
  const [x1, y1] = [left + box[0] * scale - grownX, top + box[1] * scale - grownY];
  const [x2, y2] = [left + box[2] * scale + grownX, top + box[3] * scale + grownY];
  const wanted = [
    [x1, y1 - height],
    [x2 - width, y1 - height],
    [x1, y2],
    [x2 - width, y2],
    [x2 + 1, y1],
    [x1 - width - 1, y1],
    [x1, y1],
  ];
  for (const [atX, atY] of wanted) {
    const x = Math.min(Math.max(atX, 0), panel.width - width);
    const y = Math.min(Math.max(atY, 0), panel.height - height);
    if (Math.abs(x - atX) > width / 2 || Math.abs(y - atY) > 2) continue;
    const isOn = (one) => x < one.x + one.width && one.x < x + width && y < one.y + one.height && one.y < y + height;
    if (!placed.some(isOn)) return { x, y };
  }
  return null;
}

/** Black or white, whichever contrasts more (WCAG 2). */
function readableOn(color) {
  const linear = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000" : "#fff";
}
