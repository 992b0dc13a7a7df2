// The list of objects: by default those that no point answers for first.

let listKey = "";
const listRows = () => [...byId("objects").tBodies[0].rows];
const isMissedBy = (columns, object) => columns.some((column) => column.totals[object.number] === 0);

function showList(scene) {
  const key = JSON.stringify([state.image, state.column, state.sort]);
  if (key !== listKey) buildList(scene);
  listKey = key;
  for (const row of listRows()) {
    const isChosen = Number(row.dataset.object) === state.object;
    row.classList.toggle("chosen", isChosen);
    row.querySelector("button").setAttribute("aria-pressed", isChosen);
  }
}

function buildList(scene) {
  const columns = shownColumns().map((number) => scene.columns[number]);
  const missed = scene.objects.filter((object) => isMissedBy(columns, object)).length;
  const warning = `${missed} missed${columns.length > 1 ? " by some" : ""}`;
  byId("summary").replaceChildren(plural(scene.objects.length, "object"));
  if (missed) byId("summary").append(", ", textElement("span", warning, "missed"));
  const { titles, valuesOf } = columns.length > 1 ? totalsByColumn(columns) : countsByLevel(columns[0]);
  byId("objects").tHead.replaceChildren(headRow(titles));
  byId("objects").classList.toggle("upright", titles.length > 3 && titles.some(([text]) => text.length > 5));
  const most = scene.objects.reduce((largest, object) => Math.max(largest, ...valuesOf(object)), 1);
  byId("objects").tBodies[0].replaceChildren(
    ...sorted(scene, columns).map((object) => objectRow(object, valuesOf(object), most, isMissedBy(columns, object))),
  );
}

const countsByLevel = (column) => ({
  titles: [...column.strides.map((stride) => [`/${stride}`, `Positives of stride ${stride}`]), ["all", "Positives"]],
  valuesOf: ({ number }) => [...column.counts[number], column.totals[number]],
});

const totalsByColumn = (columns) => ({
  titles: shortTitles(index.columns).map((text, number) => [text, `Positives of ${index.columns[number]}`]),
  valuesOf: ({ number }) => columns.map((column) => column.totals[number]),
});

/** Titles without remarks and the words that all begin and end with: FCOSHead, GFLHead (untrained) are FCOS, GFL. */
function shortTitles(longTitles) {
  const titles = longTitles.map((title) => title.replace(/ \(.*\)$/, ""));
  const shortest = Math.min(...titles.map((title) => title.length));
  const isCommon = (at) => titles.every((title) => title.at(at) === titles[0].at(at));
  let [start, end] = [0, 0];
  while (end < shortest && isCommon(-1 - end)) end++;
  while (start < shortest - end && isCommon(start)) start++;
  const before = /^.*[^A-Za-z0-9]|^/.exec(titles[0].slice(0, start))[0].length;
  const after = /(?:[A-Z](?=[a-z])|[^A-Za-z0-9]).*$|$/.exec(titles[0].slice(titles[0].length - end))[0].length;
  return shortest === before + after ? titles : titles.map((title) => title.slice(before, title.length - after));
}

function headRow(titles) {
  const all = [["object", "Class and number"], ["size", "Width × height, pixels"], ...titles];
  return element("tr", {}, ...all.map(([textContent, title]) => element("th", { scope: "col", textContent, title })));
}

function objectRow(object, values, most, isMissed) {
  const button = element("button", { type: "button" }, swatch(values.some(Boolean) ? object.color : null));
  button.append(textElement("span", object.name, "label", object.name), textElement("span", object.number, "number"));
  const size = textElement("td", `${Math.round(object.width)}×${Math.round(object.height)}`, "size");
  const row = element("tr", { className: isMissed ? "missed" : "" }, element("td", {}, button), size);
  for (const value of values) {
    const cell = textElement("td", value, value ? "count" : "count zero");
    cell.style.setProperty("--share", Math.sqrt(value / most));
    row.append(cell);
  }
  row.dataset.object = object.number;
  row.addEventListener("click", () => choose(object.number === state.object ? NO_OBJECT : object.number));
  row.addEventListener("pointerenter", () => setHover({ object: object.number }));
  row.addEventListener("pointerleave", () => setHover(null));
  return row;
}

function sorted(scene, columns) {
  const positives = ({ number }) => columns.reduce((sum, column) => sum + column.totals[number], 0);
  const orders = {
    missed: (a, b) => isMissedBy(columns, b) - isMissedBy(columns, a),
    number: () => 0,
    few: (a, b) => positives(a) - positives(b),
    many: (a, b) => positives(b) - positives(a),
    small: (a, b) => area(a) - area(b),
    large: (a, b) => area(b) - area(a),
    name: (a, b) => a.name.localeCompare(b.name),
  };
  return [...scene.objects].sort((a, b) => orders[state.sort](a, b) || a.number - b.number);
}

/** The object after (1) or before (-1) the chosen one in the list. */
function stepObject(step) {
  const rows = listRows();
  if (!rows.length) return;
  const at = rows.findIndex((row) => Number(row.dataset.object) === state.object);
  const start = step > 0 ? -1 : 0; // where none is chosen
  const next = rows[((at < 0 ? start : at) + step + rows.length) % rows.length];
  choose(Number(next.dataset.object));
  scrollWithin(byId("list"), next, byId("objects").tHead.offsetHeight);
}
