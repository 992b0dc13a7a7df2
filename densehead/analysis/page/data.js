// Scenes as the page carries them: read when they are looked at, the last few kept.

const KEPT_SCENES = 8;
const WEIGHT_STEPS = 1000;
const index = JSON.parse(byId("index").textContent);
const kept = new Map();

function readScene(number) {
  const scene = kept.get(number) ?? decodeScene(JSON.parse(byId(`scene-${number}`).textContent));
  kept.delete(number); // to be the last of the map again
  kept.set(number, scene);
  if (kept.size > KEPT_SCENES) kept.delete(kept.keys().next().value);
  return scene;
}

const area = ({ width, height }) => width * height;

function decodeScene(raw) {
  const photo = new Image();
  photo.src = raw.image;
  const objects = raw.boxes.map((box, number) => ({
    number,
    box,
    name: raw.classes[raw.labels[number]],
    color: raw.colors[number],
    width: box[2] - box[0],
    height: box[3] - box[1],
  }));
  const columns = raw.columns.map((column) => decodeColumn(column, raw.boxes.length));
  const strides = [...new Set(columns.flatMap((column) => column.strides))].sort((a, b) => a - b);
  const { name, width, height } = raw;
  return { name, width, height, photo, objects, columns, strides };
}

/** What one rule did: its points, and how many positives each object has on each level. */
function decodeColumn(raw, objectCount) {
  const positives = decodePoints(raw.positives, raw.strides);
  positives.object = Int32Array.from(raw.positives.object);
  positives.weight = Float32Array.from(raw.positives.weight, (one) => (one === null ? NaN : one / WEIGHT_STEPS));
  const counts = Array.from({ length: objectCount }, () => new Array(raw.strides.length).fill(0));
  for (let i = 0; i < positives.count; i++) counts[positives.object[i]][positives.level[i]]++;
  const totals = counts.map((row) => row.reduce((sum, one) => sum + one, 0));
  return {
    positives,
    ignored: decodePoints(raw.ignored, raw.strides),
    strides: raw.strides,
    weightName: raw.weight_name,
    counts,
    totals,
    missed: totals.filter((one) => one === 0).length,
  };
}

/** The highest weight of a name, of all objects of an image or one: points of this weight are largest and opaque. */
function highestWeight({ columns }, weightName, object) {
  let highest = 0;
  for (const { positives } of columns.filter((column) => column.weightName === weightName)) {
    positives.weight.forEach((weight, i) => {
      const counts = object === NO_OBJECT || positives.object[i] === object;
      if (counts && weight > highest) highest = weight; // which NaN is not
    });
  }
  return highest;
}

/** Points where they are drawn (x, y) and where they are (atX, atY): several anchors of a place are drawn around it. */
function decodePoints(raw, strides) {
  const level = new Uint8Array(raw.x.length);
  let start = 0;
  raw.levels.forEach((count, number) => {
    level.fill(number, start, start + count);
    start += count;
  });
  const [x, y] = [Float32Array.from(raw.x), Float32Array.from(raw.y)];
  const points = { count: level.length, level, x, y, atX: x.slice(), atY: y.slice() };
  for (const members of sharedPlaces(points)) {
    members.forEach((i, turn) => {
      const angle = (2 * Math.PI * turn) / members.length;
      points.x[i] += (strides[level[i]] / 4) * Math.cos(angle);
      points.y[i] += (strides[level[i]] / 4) * Math.sin(angle);
    });
  }
  return points;
}

function sharedPlaces({ count, level, x, y }) {
  const places = new Map();
  for (let i = 0; i < count; i++) {
    const key = `${level[i]} ${x[i]} ${y[i]}`;
    if (places.has(key)) places.get(key).push(i);
    else places.set(key, [i]);
  }
  return [...places.values()].filter((members) => members.length > 1);
}
