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
  return { name: raw.name, width: raw.width, height: raw.height, photo, objects, columns, strides };
}

/** What one rule did: its points, and how many positives each object has on each level. */
function decodeColumn(raw, objectCount) {
  const positives = decodePoints(raw.positives);
  positives.object = Int32Array.from(raw.positives.object);
  positives.weight = Float32Array.from(raw.positives.weight, (one) => (one === null ? NaN : one / WEIGHT_STEPS));
  const counts = Array.from({ length: objectCount }, () => new Array(raw.strides.length).fill(0));
  for (let i = 0; i < positives.count; i++) counts[positives.object[i]][positives.level[i]]++;
  const totals = counts.map((row) => row.reduce((sum, one) => sum + one, 0));
  return {
    positives,
    ignored: decodePoints(raw.ignored),
    strides: raw.strides,
    weightName: raw.weight_name,
    counts,
    totals,
    missed: totals.filter((one) => one === 0).length,
  };
}

function decodePoints(raw) {
  const level = new Uint8Array(raw.x.length);
  let start = 0;
  raw.levels.forEach((count, number) => {
    level.fill(number, start, start + count);
    start += count;
  });
  return { count: raw.x.length, x: Float32Array.from(raw.x), y: Float32Array.from(raw.y), level };
}
