// What is under the pointer. Points are in the cells of a grid, so that only those near by are looked at.

const CELLS_A_SIDE = 64;

/** Points by cell: `start` says where in `order` those of each cell begin. */
function makeGrid(points, scene) {
  const size = Math.max(scene.width, scene.height) / CELLS_A_SIDE;
  const cell = (value) => Math.min(Math.max(Math.floor(value / size), 0), CELLS_A_SIDE - 1);
  const start = new Uint32Array(CELLS_A_SIDE * CELLS_A_SIDE + 1);
  const cells = new Uint16Array(points.count);
  for (let i = 0; i < points.count; i++) {
    cells[i] = cell(points.y[i]) * CELLS_A_SIDE + cell(points.x[i]);
    start[cells[i] + 1]++;
  }
  for (let i = 1; i < start.length; i++) start[i] += start[i - 1];
  const next = start.slice();
  const order = new Uint32Array(points.count);
  for (let i = 0; i < points.count; i++) order[next[cells[i]]++] = i;
  return { cell, start, order };
}

/** The index of the nearest point within a radius that `accepts` it, or -1. All in pixels of the image. */
function nearestPoint(points, scene, x, y, radius, accepts) {
  points.grid ??= makeGrid(points, scene);
  const { cell, start, order } = points.grid;
  let best = -1;
  let least = radius * radius;
  for (let row = cell(y - radius); row <= cell(y + radius); row++) {
    const first = start[row * CELLS_A_SIDE + cell(x - radius)];
    const last = start[row * CELLS_A_SIDE + cell(x + radius) + 1];
    for (let k = first; k < last; k++) {
      const i = order[k];
      const distance = (points.x[i] - x) ** 2 + (points.y[i] - y) ** 2;
      if (distance <= least && accepts(i)) [best, least] = [i, distance];
    }
  }
  return best;
}

/** The objects whose boxes a place is in, the smallest first. */
function objectsAt(scene, x, y) {
  const inside = ({ box }) => box[0] <= x && x <= box[2] && box[1] <= y && y <= box[3];
  return scene.objects.filter(inside).sort((a, b) => area(a) - area(b));
}

/** What a place of a panel shows: a positive, an ignored point, an object or nothing. */
function hitAt(panel, place) {
  const { scene, column } = panel;
  const { scale, left, top } = transform(scene, panel.width, panel.height);
  const x = (place.x - left) / scale;
  const y = (place.y - top) / scale;
  const radius = POINTER_RADIUS / scale;
  const { positives, ignored } = column;
  const positive = nearestPoint(positives, scene, x, y, radius, (i) => isPositiveShown(panel, i));
  if (positive >= 0) return { kind: "positive", point: positive, object: positives.object[positive], x, y };
  if (isShown("ignored") && state.object === NO_OBJECT) {
    const point = nearestPoint(ignored, scene, x, y, radius, (i) => isLevelShown(panel, ignored.level[i]));
    if (point >= 0) return { kind: "ignored", point, object: NO_OBJECT, x, y };
  }
  const objects = objectsAt(scene, x, y);
  return objects.length
    ? { kind: "object", object: objects[0].number, objects, x, y }
    : { kind: "nothing", object: NO_OBJECT, x, y };
}

const POINTER_RADIUS = 9; // CSS pixels
const isLevelShown = ({ column, stride }, level) =>
  stride === null ? isStrideShown(column.strides[level]) : column.strides[level] === stride;
const isPositiveShown = (panel, i) =>
  isLevelShown(panel, panel.column.positives.level[i]) &&
  (state.object === NO_OBJECT || panel.column.positives.object[i] === state.object);
