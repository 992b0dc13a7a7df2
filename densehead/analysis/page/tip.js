// The numbers of what the pointer is on.

const TIP_DISTANCE = 16; // CSS pixels

function showTip() {
  const tip = byId("tip");
  const lines = hovered?.hit ? tipLines(hovered.panel, hovered.hit) : [];
  tip.hidden = !lines.length;
  if (!lines.length) return;
  tip.replaceChildren(...lines.map((text, number) => textElement(number ? "div" : "strong", text)));
  tip.style.borderInlineStartColor = hovered.panel.scene.objects[hovered.hit.object]?.color ?? "";
  const { width, height } = tip.getBoundingClientRect();
  const beside = (at, size, room) =>
    Math.max(4, at + TIP_DISTANCE + size > room ? at - size - TIP_DISTANCE : at + TIP_DISTANCE);
  tip.style.left = `${beside(hovered.clientX, width, innerWidth)}px`;
  tip.style.top = `${beside(hovered.clientY, height, innerHeight)}px`;
}

function tipLines({ scene, column }, hit) {
  if (hit.kind === "nothing") return [];
  if (hit.kind === "ignored") return ["ignored point", pointText(column, column.ignored, hit.point)];
  const object = scene.objects[hit.object];
  const name = `${object.name} (object ${object.number})`;
  if (hit.kind === "object") return [name, boxText(object), countText(column, object)];
  const weight = column.positives.weight[hit.point];
  const value = Number.isNaN(weight) ? "not finite" : weight.toFixed(3);
  return [name, pointText(column, column.positives, hit.point), `${column.weightName} ${value}`];
}

function pointText(column, points, i) {
  const level = points.level[i];
  return `level ${level}, stride ${column.strides[level]}, at (${rounded(points.atX[i])}, ${rounded(points.atY[i])})`;
}

function countText(column, { number }) {
  const counts = column.counts[number].map((count, level) =>
    count ? `stride ${column.strides[level]}: ${count}` : "",
  );
  return counts.filter(Boolean).join(", ") || "missed: no point answers for it";
}
