// Buttons and lists above and below the pictures.

const MOST_TALLIES = 3; // assigners whose positives are counted on the buttons of the levels
const [WIDE, HIGH] = [900, 760]; // CSS pixels; a smaller page keeps its legend folded

function buildControls() {
  const actions = {
    previous: () => turnTo(state.image - 1),
    next: () => turnTo(state.image + 1),
    "next-missed": turnToMissed,
    apart: () => look({ apart: !state.apart }),
    "zoom-in": () => zoomBy(ZOOM_STEP, panels[0]),
    "zoom-out": () => zoomBy(1 / ZOOM_STEP, panels[0]),
    "zoom-fit": fit,
  };
  for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
  for (const button of byId("shown").children)
    button.addEventListener("click", () => toggleShown(button.dataset.shown));
  byId("sort").addEventListener("change", (event) => look({ sort: event.target.value }));
  byId("image").addEventListener("change", (event) => turnTo(Number(event.target.value)));
  byId("image").append(...index.images.map((_, value) => element("option", { value, textContent: imageText(value) })));
  byId("previous").disabled = byId("next").disabled = index.images.length === 1;
  byId("legend").open = innerWidth >= WIDE && innerHeight >= HIGH;
  buildColumns();
  buildFilm();
}

function imageText(number) {
  const { name, missed } = index.images[number];
  const most = Math.max(...missed);
  return `${number + 1} / ${index.images.length}  ${name}${most ? `  (⚠ ${most} missed)` : ""}`;
}

/** A button for each assigner; for the checkpoints of a run a slider. */
function buildColumns() {
  const titles = index.columns;
  const entries = titles.length > 1 ? [["Side by side", SIDE_BY_SIDE]] : [];
  if (!index.is_run) entries.push(...titles.map((title, number) => [title, number]));
  for (const [text, number] of entries) {
    const button = makeButton(text, () => look({ column: number }), { title: text });
    button.dataset.column = number;
    byId("columns").append(button);
  }
  byId("columns-group").hidden = titles.length === 1;
  byId("run-group").hidden = !index.is_run;
  byId("run").max = titles.length - 1;
  for (const kind of ["input", "click"])
    byId("run").addEventListener(kind, () => look({ column: Number(byId("run").value) }));
}

function buildFilm() {
  byId("film").hidden = index.images.length === 1;
  index.images.forEach((image, number) => {
    const button = makeButton("", () => turnTo(number), { title: image.name });
    button.setAttribute("aria-label", imageText(number));
    button.append(element("img", { src: image.thumbnail, alt: "", loading: "lazy", decoding: "async" }));
    button.append(textElement("span", "", "badge"));
    byId("film").append(element("li", {}, button));
  });
}

function showControls(scene) {
  byId("image").value = state.image;
  byId("apart").setAttribute("aria-pressed", state.apart);
  byId("sort").value = state.sort;
  byId("next-missed").disabled = !index.images.some(hasMissed);
  for (const button of byId("shown").children) button.setAttribute("aria-pressed", isShown(button.dataset.shown));
  const weights = new Set(shownColumns().map((number) => scene.columns[number].weightName));
  const most = (name) => highestWeight(scene, name, state.object).toFixed(2);
  byId("weights").textContent = [...weights].map((name) => `${name} up to ${most(name)}`).join(", ");
  showColumns();
  showLevels(scene);
  showFilm();
}

function showColumns() {
  for (const button of byId("columns").children) {
    button.setAttribute("aria-pressed", Number(button.dataset.column) === state.column);
  }
  const isAll = state.column === SIDE_BY_SIDE;
  byId("run-name").textContent = isAll ? "all" : index.columns[state.column];
  byId("run").setAttribute("aria-valuetext", byId("run-name").textContent);
  if (!isAll) byId("run").value = state.column;
}

function showLevels(scene) {
  const buttons = [makeButton("All", () => look({ strides: null }), { pressed: !state.strides })];
  for (const stride of scene.strides) {
    const counts = shownColumns().map((number) => levelCount(scene.columns[number], stride));
    const title = `Points of stride ${stride}; further levels are added`;
    const pressed = state.strides?.has(stride) ?? false;
    const button = makeButton(`/${stride} `, () => toggleStride(stride), { pressed, title });
    button.setAttribute("aria-label", `Stride ${stride}, ${counts.join(" and ")} positives`);
    button.dataset.stride = stride;
    if (counts.length <= MOST_TALLIES) button.append(textElement("span", counts.join(" · "), "tally"));
    buttons.push(button);
  }
  const focused = [...byId("levels").children].indexOf(document.activeElement);
  byId("levels").replaceChildren(...buttons);
  buttons[focused]?.focus();
}

function levelCount(column, stride) {
  const level = column.strides.indexOf(stride);
  return column.counts.reduce((sum, counts) => sum + (counts[level] ?? 0), 0);
}

function showFilm() {
  [...byId("film").children].forEach((item, number) => {
    const button = item.firstChild;
    const most = Math.max(...shownColumns().map((column) => index.images[number].missed[column]));
    button.lastChild.textContent = most ? `⚠ ${most}` : "";
    const [is, was] = [number === state.image, button.getAttribute("aria-current") === "true"];
    button.setAttribute("aria-current", is);
    if (is && !was) scrollWithin(byId("film"), item);
  });
}

const hasMissed = ({ missed }) => shownColumns().some((column) => missed[column] > 0);

function turnToMissed() {
  const count = index.images.length;
  const order = Array.from({ length: count }, (_, step) => (state.image + 1 + step) % count);
  const next = order.find((number) => hasMissed(index.images[number]));
  if (next !== undefined) turnTo(next);
}
