// The pictures side by side: one for each assigner, or for each of its levels; how they share the room and are painted.

const GAP = 10; // CSS pixels, as all of these; the style has the first two as well
const CAPTION = 30;
const SMALLEST_WIDTH = 210; // where more do not fit beside each other, the stage scrolls
const SMALLEST_HEIGHT = 120;
const HIGHEST = 0.72; // of the window, where the page scrolls
const stage = byId("stage");
let panels = [];
let panelsKey = "";

function showPanels(scene) {
  const strides = state.apart && state.strides ? [...state.strides] : null;
  const key = JSON.stringify([state.image, state.column, state.apart, strides]);
  if (key !== panelsKey) {
    panelsKey = key;
    pointers.clear(); // what is pressed on a picture that goes is never let go of
    panels = shownColumns().flatMap((number) => panelsOf(scene, number));
    stage.replaceChildren(...panels.map((panel) => panel.figure));
    layoutPanels();
  }
  for (const panel of panels) caption(panel);
  repaint();
}

function panelsOf(scene, number) {
  const column = scene.columns[number];
  const strides = state.apart ? column.strides.filter(isStrideShown) : [null];
  if (!strides.length) strides.push(null); // an assigner without the levels that are shown: nothing is shown of it
  return strides.map((stride) => makePanel(scene, column, index.columns[number], stride));
}

function makePanel(scene, column, title, stride) {
  const canvas = element("canvas");
  const overlay = element("canvas", { className: "overlay" });
  overlay.setAttribute("role", "img");
  const text = element("figcaption");
  const figure = element("figure", {}, text, element("div", { className: "frame-box" }, canvas, overlay));
  const [context, over] = [canvas.getContext("2d"), overlay.getContext("2d")];
  const panel = { scene, column, title, stride, figure, canvas, overlay, text, context, over, width: 1, height: 1 };
  listenToPointer(panel);
  return panel;
}

/** What is in a picture, in numbers. A level of many says nothing of missed objects: others may answer for them. */
function caption(panel) {
  const { column, title, stride, scene } = panel;
  const { positives, ignored } = column;
  const shown = countWhere(positives, (i) => isPositiveShown(panel, i));
  const onLevel = countWhere(positives, (i) => isLevelShown(panel, positives.level[i]));
  const all = stride === null ? positives.count : onLevel;
  const ignoredShown = countWhere(ignored, (i) => isLevelShown(panel, ignored.level[i]));
  const levelName = state.column === SIDE_BY_SIDE ? `${title} /${stride}` : `stride ${stride}`;
  const name = stride === null ? title : levelName;
  const parts = [textElement("strong", name, "", stride === null ? title : `${title}, stride ${stride}`)];
  if (stride === null) parts.push(missedText(column, scene));
  parts.push(textElement("span", `${shown === all ? "" : `${shown} of `}${plural(all, "positive")}`, "positives"));
  if (ignoredShown && state.object === NO_OBJECT) parts.push(textElement("span", `${ignoredShown} ignored`, "ignored"));
  panel.text.replaceChildren(...parts);
  panel.overlay.setAttribute("aria-label", `${scene.name}: ${parts.map((part) => part.textContent).join(", ")}`);
}

function missedText({ missed }, { objects }) {
  if (missed) return textElement("span", `⚠ ${missed} of ${objects.length} missed`, "missed");
  return textElement("span", objects.length ? "none missed" : "no objects");
}

function countWhere(points, accepts) {
  let count = 0;
  for (let i = 0; i < points.count; i++) if (accepts(i)) count++;
  return count;
}

/** Whether the window is narrow, and all of the page scrolls instead of its parts. */
const isPageScrolled = () => getComputedStyle(stage).getPropertyValue("--flow").trim() === "page";

/** Give all panels the size with which the image is largest. */
function layoutPanels() {
  const isPage = isPageScrolled();
  const room = { width: stage.clientWidth, height: isPage ? Infinity : stage.clientHeight };
  const { across, width, height } = bestSize(readScene(state.image), room);
  const alone = panels.length === 1 && !isPage; // then it has all the room
  const highest = isPage ? HIGHEST * innerHeight : Infinity;
  stage.style.setProperty("--across", across);
  for (const panel of panels) resizePanel(panel, width, Math.min(alone ? room.height - CAPTION : height, highest));
}

/** How many panels are beside each other, and the size of each. */
function bestSize(scene, room) {
  let best = { scale: 0 };
  for (let across = 1; across <= panels.length; across++) {
    const rows = Math.ceil(panels.length / across);
    const width = Math.floor((room.width - (across - 1) * GAP) / across);
    if (across > 1 && width < SMALLEST_WIDTH) break;
    const fitting = Math.floor((room.height - (rows - 1) * GAP) / rows) - CAPTION;
    const height = Math.max(Math.min(fitting, Math.round((width * scene.height) / scene.width)), SMALLEST_HEIGHT);
    const scale = Math.min(width / scene.width, height / scene.height);
    if (scale > best.scale) best = { scale, across, width, height };
  }
  return best;
}

function resizePanel(panel, width, height) {
  panel.ratio = Math.min(devicePixelRatio || 1, 2);
  Object.assign(panel, { width, height, snapshot: null });
  for (const canvas of [panel.canvas, panel.overlay]) {
    canvas.width = Math.round(width * panel.ratio);
    canvas.height = Math.round(height * panel.ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
}

function relayout() {
  if (!panels.length) return;
  layoutPanels();
  for (const panel of panels) clampView(panel.scene, panel.width, panel.height);
  repaint();
}
