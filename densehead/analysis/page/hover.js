// What the pointer is on, in all pictures: its object's frame, a line from a point to its object, the place in others.

const RING = 10; // CSS pixels
const CROSS = 9;
let hovered = null; // { panel, hit, clientX, clientY } or, in the list, { object }

function setHover(next) {
  hovered = next;
  paintHover();
  showTip();
}

function paintHover() {
  for (const panel of panels) {
    const { over, ratio, width, height, scene } = panel;
    over.setTransform(ratio, 0, 0, ratio, 0, 0);
    over.clearRect(0, 0, width, height);
    if (!hovered) continue;
    const place = transform(scene, width, height);
    const { hit } = hovered;
    const object = scene.objects[hit ? hit.object : hovered.object];
    if (object) outlined(over, [6, 4.4, 2.6], object.color, () => boxPath(over, place, object));
    if (hovered.panel === panel) outlined(over, [4, 2], "#fff", () => pointPath(panel, place, hit));
    else if (hit) outlined(over, [3.5, 1.5], "#fff", () => crossPath(over, place, hit));
  }
}

/** Stroke a path with lines on each other, black, white and at last a colour, to be seen on any photo. */
function outlined(context, widths, color, makePath) {
  context.beginPath();
  makePath();
  widths.forEach((width, number) => {
    context.lineWidth = width;
    context.strokeStyle = number === widths.length - 1 ? color : ["#000", "#fff"][number];
    context.stroke();
  });
}

function boxPath(context, { scale, left, top }, { box, width, height }) {
  context.rect(left + box[0] * scale, top + box[1] * scale, width * scale, height * scale);
}

function pointPath({ over, column, scene }, { scale, left, top }, hit) {
  if (hit.point === undefined) return;
  const points = hit.kind === "positive" ? column.positives : column.ignored;
  const [x, y] = [left + points.x[hit.point] * scale, top + points.y[hit.point] * scale];
  if (hit.kind === "positive") {
    const { box } = scene.objects[hit.object];
    over.moveTo(x, y);
    over.lineTo(left + ((box[0] + box[2]) / 2) * scale, top + ((box[1] + box[3]) / 2) * scale);
  }
  over.moveTo(x + RING, y);
  over.arc(x, y, RING, 0, 2 * Math.PI);
}

function crossPath(context, { scale, left, top }, hit) {
  const [x, y] = [left + hit.x * scale, top + hit.y * scale];
  context.moveTo(x - CROSS, y);
  context.lineTo(x + CROSS, y);
  context.moveTo(x, y - CROSS);
  context.lineTo(x, y + CROSS);
}
