// The numbers of the chosen object: its positives by level and assigner, and how much they weigh.

function showDetails(scene) {
  const object = scene.objects[state.object];
  byId("details").hidden = !object;
  if (!object) return;
  const name = textElement("span", `${object.name} (object ${object.number})`, "label");
  const near = makeButton("Zoom to it", () => zoomTo(object, panels[0]), { id: "zoom-object" });
  const all = makeButton("All objects", () => choose(NO_OBJECT), { id: "all-objects" });
  byId("details").replaceChildren(
    element("h2", {}, swatch(object.color), name),
    textElement("p", boxText(object)),
    detailTable(scene, object),
    element("p", { className: "tools" }, near, all),
  );
}

function detailTable(scene, object) {
  const titles = ["positives", ...scene.strides.map((stride) => `/${stride}`), "all", "weight"];
  const head = element("tr", {}, ...titles.map((textContent) => element("th", { scope: "col", textContent })));
  const rows = shownColumns().map((number) => detailRow(scene, object, number));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
}

function detailRow(scene, object, number) {
  const [column, title] = [scene.columns[number], index.columns[number]];
  const total = column.totals[object.number];
  const counts = scene.strides.map((stride) => column.counts[object.number][column.strides.indexOf(stride)] ?? "–");
  return element(
    "tr",
    { className: total ? "" : "missed" },
    element("th", { scope: "row", textContent: title, title }),
    ...counts.map((count) => textElement("td", count, count ? "count" : "count zero")),
    textElement("td", total || "missed", total ? "count" : "count zero"),
    textElement("td", weightRange(column, object), "", column.weightName),
  );
}

function weightRange({ positives }, { number }) {
  const weights = positives.weight.filter((one, i) => positives.object[i] === number && !Number.isNaN(one)).sort();
  if (!weights.length) return "–";
  const [low, high] = [weights[0].toFixed(2), weights.at(-1).toFixed(2)];
  return low === high ? low : `${low} – ${high}`;
}
