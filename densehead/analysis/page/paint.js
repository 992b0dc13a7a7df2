// Drawing: the photo, the objects' frames, ignored points, positives (coarse levels first), frames of missed objects.

const SMALLEST_DOT = 2.2; // CSS pixels
const LARGEST_DOT = 9;
const SMALLEST_MISSED = 12; // a missed object that is smaller is framed with a distance
const WEIGHT_BUCKETS = 8;
const MANY_IGNORED = 1500;
const WARNING = "#e4002b";

/** The radius of a point of full weight: it grows with the stride, and with the zoom as long as it stays a dot. */
const dotRadius = (stride, scale, strides) => {
  const rank = strides.indexOf(stride) / Math.max(strides.length - 1, 1);
  return Math.min(Math.max(0.33 * stride * scale, SMALLEST_DOT + 2.2 * rank), LARGEST_DOT * (0.5 + 0.5 * rank));
};

function paintPanel(panel) {
  const { scene, context, width, height } = panel;
  const place = transform(scene, width, height);
  clearPanel(panel);
  paintPhoto(context, scene, place);
  const isMissed = (object) => panel.column.totals[object.number] === 0;
  paintFrames(panel, place, (object) => !isMissed(object));
  if (isShown("ignored") && state.object === NO_OBJECT) paintIgnored(panel, place);
  paintPositives(panel, place);
  paintFrames(panel, place, isMissed);
  if (isShown("labels")) paintNames(panel, place);
}

function clearPanel({ context, width, height, ratio }) {
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
}

function paintPhoto(context, scene, { scale, left, top }) {
  const { photo } = scene;
  if (!photo.complete || !photo.naturalWidth) return;
  context.imageSmoothingEnabled = (scale * scene.width) / photo.naturalWidth < 4;
  context.imageSmoothingQuality = "high";
  context.drawImage(photo, left, top, scene.width * scale, scene.height * scale);
  if (isShown("photo")) return;
  context.fillStyle = "rgba(20, 22, 26, 0.72)";
  context.fillRect(left, top, scene.width * scale, scene.height * scale);
}

/** Frames of the objects that are `wanted`, the small ones over the large, the chosen one over all. */
function paintFrames(panel, place, wanted) {
  if (!isShown("frames")) return;
  const isChosen = (object) => object.number === state.object;
  const order = (a, b) => isChosen(a) - isChosen(b) || area(b) - area(a);
  for (const object of panel.scene.objects.filter(wanted).sort(order)) {
    paintFrame(panel, place, object, state.object === NO_OBJECT || isChosen(object) ? 1 : 0.3);
  }
  panel.context.globalAlpha = 1;
}

/** Where an object's frame is in a picture, CSS pixels. That of a missed object is never too small to be seen. */
function frameOf({ column }, { scale, left, top }, { number, box, width, height }) {
  const isMissed = column.totals[number] === 0;
  const [x, y] = [left + box[0] * scale, top + box[1] * scale];
  if (!isMissed) return { isMissed, x, y, width: width * scale, height: height * scale };
  const size = [width, height].map((side) => Math.max(side * scale + 2, SMALLEST_MISSED));
  const start = [x - (size[0] - width * scale) / 2, y - (size[1] - height * scale) / 2];
  return { isMissed, x: start[0], y: start[1], width: size[0], height: size[1] };
}

function paintFrame(panel, place, object, alpha) {
  const { context } = panel;
  const { isMissed, x, y, width, height } = frameOf(panel, place, object);
  context.globalAlpha = alpha;
  context.beginPath();
  context.rect(x, y, width, height);
  if (isMissed) return strokeMissed(context);
  const line = Math.min(width, height) < 24 ? 1.5 : 2;
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.lineWidth = line + 1.6;
  context.stroke();
  context.strokeStyle = object.color;
  context.lineWidth = line;
  context.stroke();
}

/** Red dashes on white: to be told from the others in any colour vision. */
function strokeMissed(context) {
  context.strokeStyle = "#fff";
  context.lineWidth = 5;
  context.stroke();
  context.strokeStyle = WARNING;
  context.lineWidth = 3;
  context.setLineDash([7, 4]);
  context.stroke();
  context.setLineDash([]);
}

function paintIgnored(panel, { scale, left, top }) {
  const { context, column, scene } = panel;
  const { ignored } = column;
  const radii = column.strides.map((stride) => 0.6 * dotRadius(stride, scale, scene.strides));
  let drawn = 0;
  context.beginPath();
  for (let i = 0; i < ignored.count; i++) {
    if (!isLevelShown(panel, ignored.level[i])) continue;
    const [x, y, radius] = [left + ignored.x[i] * scale, top + ignored.y[i] * scale, radii[ignored.level[i]]];
    if (x < -9 || y < -9 || x > panel.width + 9 || y > panel.height + 9) continue;
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 2 * Math.PI);
    drawn++;
  }
  context.globalAlpha = drawn > MANY_IGNORED ? 0.55 : 0.9; // many are a texture, a few are to be found
  context.strokeStyle = "#000";
  context.lineWidth = 1.8;
  context.stroke();
  context.strokeStyle = "#fff";
  context.lineWidth = 1;
  context.stroke();
  context.globalAlpha = 1;
}

function paintPositives(panel, place) {
  const { context, column, scene } = panel;
  const full = highestWeight(scene, column.weightName, state.object) || 1;
  for (let level = column.strides.length - 1; level >= 0; level--) {
    if (!isLevelShown(panel, level)) continue;
    const largest = dotRadius(column.strides[level], place.scale, scene.strides);
    for (const [key, members] of bucketsOf(panel, level, full, place)) {
      const weight = (key % (WEIGHT_BUCKETS + 1)) / WEIGHT_BUCKETS;
      const radius = largest * (0.55 + 0.45 * Math.sqrt(weight));
      context.beginPath();
      for (let k = 0; k < members.length; k += 2) {
        context.moveTo(members[k] + radius, members[k + 1]);
        context.arc(members[k], members[k + 1], radius, 0, 2 * Math.PI);
      }
      const { color } = scene.objects[Math.floor(key / (WEIGHT_BUCKETS + 1))];
      context.globalAlpha = 0.5 + 0.5 * weight;
      context.fillStyle = color;
      context.fill();
      context.strokeStyle = readableOn(color);
      context.lineWidth = Math.min(1, radius / 3.5);
      context.stroke();
    }
  }
  context.globalAlpha = 1;
}

/** Points of a level that look the same, by object and weight: places in the picture, x and y in turn. */
function bucketsOf(panel, level, full, { scale, left, top }) {
  const { positives } = panel.column;
  const buckets = new Map();
  for (let i = 0; i < positives.count; i++) {
    if (positives.level[i] !== level || !isPositiveShown(panel, i)) continue;
    const [x, y] = [left + positives.x[i] * scale, top + positives.y[i] * scale];
    if (x < -9 || y < -9 || x > panel.width + 9 || y > panel.height + 9) continue;
    const weight = Number.isNaN(positives.weight[i]) ? 1 : Math.min(Math.max(positives.weight[i] / full, 0), 1);
    const key = positives.object[i] * (WEIGHT_BUCKETS + 1) + Math.round(weight * WEIGHT_BUCKETS);
    if (!buckets.has(key)) buckets.set(key, []);
    buckets.get(key).push(x, y);
  }
  return buckets;
}
